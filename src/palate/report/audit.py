"""An audit's three faces: `frame()` for analysis, `text()` for a terminal, `page()` for people.

The page shows the pictures behind each finding, the recorded winner left, so that whoever is to
drop or ask again has seen them.

Read next: `page.py`, whose style this page shares.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, final

from palate.audit.audited import Audited
from palate.audit.check import Check, Finding, Outcome, Row, two_digits
from palate.audit.pages import paragraphs
from palate.audit.run import Audit, named
from palate.core.files import write_atomic
from palate.core.problems import SettingError
from palate.report import figures
from palate.report.page import environment
from palate.report.words import count, plain

_WIDTH, _LINES, _FULL, _NOTES = 98, 60, 6, 2
SHOWN: Final = 8
# What to look at first.
_ORDER: Final[tuple[Outcome, ...]] = (
    "failed",
    "issue",
    "not asked",
    "passed",
    "not applicable",
    "silenced",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AuditReport:
    """What was found, beside the data it was found in.

    Attributes:
        audit: The findings.
        data: The snapshot: prompts and pictures.
        shown: How many rows of evidence the page shows for each finding.
    """

    audit: Audit
    data: Audited
    shown: int = SHOWN

    @property
    def headline(self) -> str:
        """The one sentence to remember."""
        found = self.audit.outcomes
        broken = f", and {found['failed']} could not be finished" if found["failed"] else ""
        asked = found["issue"] + found["passed"]
        verb = "finds" if found["issue"] == 1 else "find"
        return (
            f"{found['issue']} of {asked} checks that apply {verb} something to look at in "
            f"{plain(self.audit.snapshot.name, most=60)}{broken}."
        )

    def frame(self) -> list[dict[str, Any]]:
        """One row per piece of evidence."""
        return [
            {
                "code": finding.code,
                "name": finding.name,
                "outcome": finding.outcome,
                "ids": list(row.ids),
                "pictures": list(row.pictures),
                "doubt": row.doubt,
                "note": row.note,
            }
            for finding in self.audit.findings
            for row in finding.rows
        ]

    def json(self) -> dict[str, Any]:
        """The headline and the whole audit as plain values."""
        return {"headline": self.headline, **self.audit.asdict()}

    def text(self) -> str:
        """The audit for a terminal: at most 60 lines, what to look at first."""
        lines = wrap(self.headline, _WIDTH)
        lines += [self._size(), ""]
        for finding in sorted(self.audit.findings, key=_urgency):
            lines += _lines(finding)
        if len(lines) > _LINES:
            lines = [*lines[: _LINES - 1], "… and more, on the page (--page) and in the JSON."]
        return "\n".join(lines)

    def page(self) -> str:
        """The audit as one HTML page that fetches nothing."""
        found = sorted(self.audit.findings, key=_urgency)
        text = (
            environment()
            .get_template("audit.html")
            .render(
                headline=self.headline,
                name=plain(self.audit.snapshot.name, most=80),
                tiles=self._tiles(),
                findings=[_summary(each) for each in found],
                sections=[self._section(each) for each in found if each.rows],
                facts=self._facts(),
            )
        )
        # A percent sign never starts a line of its own.
        return re.sub(r"(?<=\d) (?=%)", "\u00a0", text)

    def save(self, path: Path) -> Path:
        """Write the page as one file; returns it.

        Raises:
            StateError: when the disk refuses.
        """
        write_atomic(path, self.page())
        return path

    def _size(self) -> str:
        return (
            f"{count(self.audit.comparisons, 'comparison')} of {count(self.audit.pairs, 'pair')}, "
            f"{count(self.audit.pictures, 'picture')}, digest {self.audit.digest[:12]}"
        )

    def _tiles(self) -> list[dict[str, str]]:
        found = self.audit.outcomes
        others = [f"{found[name]} {name}" for name in _ORDER[2:] if found[name]]
        broken = f"{found['failed']} failed, " if found["failed"] else ""
        return [
            {
                "value": str(found["issue"]),
                "name": "issue" if found["issue"] == 1 else "issues",
                "basis": broken + ", ".join(others),
            },
            {"value": f"{self.audit.comparisons:,}", "name": "comparisons", "basis": "as recorded"},
            {"value": f"{self.audit.pairs:,}", "name": "pairs", "basis": "different ones"},
            {"value": f"{self.audit.pictures:,}", "name": "pictures", "basis": "different ones"},
        ]

    def _section(self, finding: Finding) -> dict[str, Any]:
        """A finding with its first evidence."""
        first = finding.rows[: self.shown]
        return {
            **_summary(finding),
            "parts": _explained(finding),
            "cards": [self._card(row) for row in first],
            "more": len(finding.rows) - len(first),
            "actions": list(self._actions(finding)),
        }

    def _card(self, row: Row) -> dict[str, Any]:
        """The pictures of one row of evidence, each with what it is."""
        record = self.data.by_id[row.ids[0]] if row.ids else None
        prompt = "" if record is None else plain(record.prompt)
        pictures = [self.data.image(name) for name in row.pictures]
        small = bool(pictures) and max(max(each.shape) for each in pictures) <= 128
        return {
            "prompt": prompt,
            "note": plain(row.note),
            "judge": "" if record is None else plain(record.judge, most=60),
            "doubt": "" if row.doubt is None else f"doubt {two_digits(row.doubt)}",
            "sharp": "sharp" if small else "smooth",
            "pictures": [
                {"source": figures.data_uri(picture, most=320), "tag": tag}
                for picture, tag in zip(pictures, self._tags(row), strict=True)
            ],
        }

    def _tags(self, row: Row) -> tuple[str, ...]:
        """What each picture is to the record: winner and loser, or its place."""
        if len(row.pictures) != 2 or not row.ids:
            many = len(row.pictures) > 1
            return tuple(str(place + 1) if many else "" for place in range(len(row.pictures)))
        record = self.data.by_id[row.ids[0]]
        places = dict(
            zip((image.sha256 for image in record.images), record.ranks or (), strict=False)
        )
        one, other = (places.get(name, 0) for name in row.pictures)
        if one == other:
            return ("tie", "tie") if one else ("", "")
        return ("winner", "loser") if one < other else ("loser", "winner")

    def _actions(self, finding: Finding) -> Iterator[str]:
        """The commands that act on a finding."""
        name = plain(self.audit.snapshot, most=200)
        if not any(row.ids for row in finding.rows):
            return
        yield f"palate audit {name} --drop {finding.code} --out NEW"
        if any(row.doubt is not None for row in finding.rows):
            yield f"palate audit {name} --downweight {finding.code} --out NEW"
        yield f"palate audit {name} --relabel-queue {finding.code} --out NEW"

    def _facts(self) -> list[tuple[str, str]]:
        evidence = self.data.evidence
        sets = evidence.evaluation_prompts or {}
        facts: Mapping[str, object] = {
            "snapshot": self.audit.snapshot,
            "digest": self.audit.digest,
            "evaluation sets": ", ".join(f"{each} ({len(sets[each])})" for each in sets) or "none",
            "scorers": ", ".join(evidence.scores) or "none",
            "run": "none" if evidence.run is None else evidence.run.run,
        }
        return [(name, plain(value)) for name, value in facts.items()]


def _urgency(finding: Finding) -> tuple[int, str]:
    return _ORDER.index(finding.outcome), finding.code


def _lines(finding: Finding) -> list[str]:
    """A finding in a terminal: an issue whole, with its first notes; the others shorter."""
    rows = f"  ({count(len(finding.rows), 'row')})" if finding.rows else ""
    head = f"{finding.code}  {finding.outcome.upper() if _loud(finding) else finding.outcome}"
    lines = [f"{head}  {finding.name}{rows}"]
    said = plain(finding.sentence, most=2000)
    words = wrap(said, _WIDTH, initial_indent="      ", subsequent_indent="      ")
    most = _FULL if _loud(finding) else 2
    if len(words) > most:
        words = [*words[: most - 1], f"{words[most - 1][: _WIDTH - 2]} …"]
    notes = [f"      - {plain(row.note, most=_WIDTH - 8)}" for row in finding.rows[:_NOTES]]
    return [*lines, *words, *(notes if _loud(finding) else [])]


def _loud(finding: Finding) -> bool:
    return finding.outcome in ("issue", "failed")


def _summary(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "outcome": finding.outcome,
        "kind": finding.outcome.replace(" ", "-"),
        "sentence": plain(finding.sentence, most=2000),
        "rows": len(finding.rows),
        "question": _question(finding),
    }


def _check(finding: Finding) -> Check | None:
    """The check behind a finding; None where it was one of the caller's own."""
    try:
        return named(finding.code)
    except SettingError:
        return None


def _question(finding: Finding) -> str:
    check = _check(finding)
    return "" if check is None else check.question


def _explained(finding: Finding) -> list[tuple[str, str]]:
    check = _check(finding)
    return [] if check is None else list(paragraphs(check))
