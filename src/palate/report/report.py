"""One result, three faces: `frame()` for analysis, `text()` for a terminal, `page()` for people.

A report adds nothing to what was measured. It puts an evaluation beside the training that led to
it, and says how far the numbers carry.

Read next: `claims.py` (the sentences), `page.py` (the page).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any, Self, final

from palate.core.files import read_json
from palate.evaluate.result import Evaluation
from palate.report import claims
from palate.report.faces import write_faces
from palate.report.page import render
from palate.report.words import change, difference, drifted, interval, percent, plain
from palate.train.log import read_rows

_WIDTH, _LINES = 98, 40
_SCORERS_IN_TEXT = 10


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """An evaluation, and the training that led to it where that is known.

    Attributes:
        evaluation: What was found.
        history: Rows of the training's log; empty where unknown.
        health: The training's health checks; empty where unknown.
        record: The training's record: settings, digests, versions; empty where unknown.
    """

    evaluation: Evaluation
    history: tuple[Mapping[str, Any], ...] = ()
    health: tuple[Mapping[str, Any], ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def read(cls, evaluation: Path, run: Path | None = None) -> Self:
        """Read an evaluation's folder, and a training's folder where one is given.

        Raises:
            DataError: when the evaluation, or the run's record, cannot be read.
        """
        found = Evaluation.load(evaluation)
        if run is None:
            return cls(evaluation=found)
        record = run / "record.json"
        return cls(
            evaluation=found,
            history=tuple(read_rows(run / "log.jsonl")),
            health=tuple(read_rows(run / "health.jsonl")),
            record=read_json(record) if record.exists() else {},
        )

    @property
    def headline(self) -> str:
        """The one sentence to remember."""
        return claims.headline(self.evaluation, claims.trained_pairs(self.record))

    @property
    def winner_drift(self) -> float | None:
        """How much worse the winners are denoised than by the reference, at the last check."""
        last = self.health[-1].get("winner_drift") if self.health else None
        return float(last) if isinstance(last, int | float) else None

    @property
    def limits(self) -> list[str]:
        """What the result does not show."""
        return claims.limits(self.evaluation, trained=bool(self.history or self.record))

    def frame(self) -> list[dict[str, Any]]:
        """One row per picture pair and scorer."""
        return self.evaluation.frame()

    def json(self) -> dict[str, Any]:
        """Everything the other faces say, and the measurements behind it, as plain values."""
        return {
            "headline": self.headline,
            "outcome": claims.outcome(self.evaluation.primary.win_rate),
            "limits": self.limits,
            "winner_drift": self.winner_drift,
            "health": list(self.health),
            "history": list(self.history),
            "record": dict(self.record),
            "evaluation": self.evaluation.to_json(),
        }

    def text(self) -> str:
        """The report for a terminal: at most 40 lines, every number with its n and interval."""
        lines = [*_wrapped(self.headline), *_wrapped(claims.standing(self.evaluation)), ""]
        lines += [*self._scorer_lines(), "", *self._drift_lines(), ""]
        lines += [*self._training_lines(), ""]
        lines += [line for limit in self.limits for line in _wrapped(f"- {limit}", "  ")]
        if len(lines) > _LINES:
            lines = [*lines[: _LINES - 1], "  … and more, on the page and in the JSON."]
        return "\n".join(lines)

    def page(self) -> str:
        """The report as one HTML page that fetches nothing."""
        return render(
            self.evaluation,
            history=self.history,
            health=self.health,
            record=self.record,
            headline=self.headline,
            limits=self.limits,
            winner_drift=self.winner_drift,
        )

    def save(self, folder: Path) -> Path:
        """Write report.html, report.json and report.txt; returns the page.

        Raises:
            StateError: when the disk refuses.
        """
        return write_faces(folder, self.json(), self.text(), self.page())

    def _scorer_lines(self) -> list[str]:
        opinions = self.evaluation.opinions
        lines = [f"{'preferred after, by':<34}{'share':>7}  {'95 % interval':>13}  {'ties':>5}  n"]
        for opinion in opinions[:_SCORERS_IN_TEXT]:
            name = ("* " if opinion.primary else "  ") + plain(opinion.scorer, most=30)
            rate = opinion.win_rate
            lines.append(
                f"{name:<34}{percent(rate.value):>7}  {interval(rate):>13}  "
                f"{percent(opinion.ties):>5}  {rate.n} prompts"
            )
        more = len(opinions) - _SCORERS_IN_TEXT
        lines += [f"  … and {more} more scorers, in the JSON"] if more > 0 else []
        first = self.evaluation.primary
        if first.difference is not None:
            value, ends = difference(first.difference)
            change = f"Mean change by the {plain(first.scorer, most=30)}: {value} ({ends}, "
            # With the same noise a small change wins almost everywhere: the size belongs beside it.
            lines += _wrapped(f"{change}n = {first.difference.n} prompts).")
        return [*lines, *_wrapped(claims.broken(self.evaluation))]

    def _drift_lines(self) -> list[str]:
        lines = _wrapped(claims.variety(self.evaluation))
        for drift in self.evaluation.style:
            if drift.ratio is None:
                value, ends = difference(drift.difference)
            else:
                value, ends = change(drift.ratio)
            lines.append(f"  {drift.name:<16}{value:>8}  ({ends}, n = {drift.before.n} prompts)")
        return lines

    def _training_lines(self) -> list[str]:
        lines = _wrapped(claims.training(self.history, self.record))
        if self.winner_drift is not None:
            pairs = self.health[-1].get("pairs", "unknown")
            words = f"Winner drift {drifted(self.winner_drift)} (no interval; n = {pairs} pairs)."
            lines += _wrapped(words)
        return lines + _wrapped(claims.health_sentence(self.health, self.record))


def _wrapped(text: str, indent: str = "") -> list[str]:
    return wrap(text, _WIDTH, subsequent_indent=indent) or [""]
