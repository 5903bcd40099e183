"""What `palate audit` is told besides the snapshot, made into what checks can look at."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

from cyclopts import Parameter

from palate.cli.console import Bar, note
from palate.core.problems import require

if TYPE_CHECKING:
    from palate.audit.audited import Audited, Evidence
    from palate.audit.minority import RunEvidence

_LIST = Parameter(negative=(), consume_multiple=False)
_AT_ONCE = 64


@final
@dataclass(frozen=True, slots=True)
class Sources:
    """What else is known.

    Args:
        run: A training run that is asked what it says of the pairs.
        folds: Train so many models, each on the pairs of all prompts but its own part, and ask
            each about that part: margins that never saw the pair. With --run, with its model and
            settings; otherwise the shipped model.
        work: Where the folds are kept, to go on after a break; the default is beside the snapshot.
        against: An evaluation set: a file with one prompt a line, or world:held-out:COUNT.
        scorer: A scorer that is asked about every picture; repeat it for several.
        device: Where a run and scorers compute: auto, cpu, cuda or mps.
    """

    run: Path | None = None
    folds: int | None = None
    work: Path | None = None
    against: Annotated[list[str] | None, _LIST] = None
    scorer: Annotated[list[str] | None, _LIST] = None
    device: str = "auto"

    def check(self) -> None:
        """Refuse what does not fit, before anything long begins.

        Raises:
            SettingError: for fewer than two folds, or a folder for folds that nobody asked for.
        """
        require(
            self.folds is None or self.folds >= 2,
            got=f"--folds {self.folds}",
            need="at least 2",
            fix="--folds 2 costs two trainings; 5 costs five, each with more to learn from.",
        )
        require(
            self.work is None or self.folds is not None,
            got=f"--work {self.work} without --folds",
            need="folds to keep there",
            fix="Add --folds 2, or leave --work away.",
        )

    def evidence(self, data: "Audited") -> "Evidence":
        """As checks take it; runs and scorers are asked here."""
        from palate.audit.audited import Evidence
        from palate.train.prompts import prompts_of

        sets = {words: prompts_of(words)[0] for words in self.against or ()}
        return Evidence(
            evaluation_prompts=sets or None,
            run=self._told(data.snapshot),
            scores=dict(self._scores(data)),
        )

    def _told(self, snapshot: Path) -> "RunEvidence | None":
        from palate.cli.named import device_named

        if self.folds is not None:
            return self._folded(snapshot, self.folds)
        if self.run is None:
            return None
        from palate.recipes.doubts import run_evidence

        with Bar("pairs asked") as bar:
            device = device_named(self.device)
            return run_evidence(self.run, snapshot, device=device, progress=_timed(bar))

    def _folded(self, snapshot: Path, folds: int) -> "RunEvidence":
        from palate.cli.named import device_named
        from palate.recipes.held_out import held_out_evidence

        work = self.work or snapshot.parent / f"{snapshot.name}-audit"
        note(f"{folds} trainings, kept in {work}; broken off, the same command goes on.")
        with Bar("folds") as bar:
            return held_out_evidence(
                snapshot,
                work,
                folds=folds,
                run=self.run,
                device=device_named(self.device),
                progress=_timed(bar),
            )

    def _scores(self, data: "Audited") -> Iterator[tuple[str, Mapping[tuple[str, str], float]]]:
        """What each scorer says of every picture under its prompt."""
        if not self.scorer:
            return
        from palate.cli.named import device_named
        from palate.train.scoring import open_scorer

        opened = [open_scorer(words, device=device_named(self.device)) for words in self.scorer]
        names = list(dict.fromkeys((key[0], name) for key in data.groups for name in key[1:]))
        for scorer in opened:
            found: dict[tuple[str, str], float] = {}
            with Bar(f"pictures scored by {scorer.name}") as bar:
                for start in range(0, len(names), _AT_ONCE):
                    few = names[start : start + _AT_ONCE]
                    said = scorer.score([data.image(name) for _, name in few], [p for p, _ in few])
                    found |= dict(zip(few, map(float, said), strict=True))
                    bar.at(start + len(few), len(names))
            yield scorer.name, found


def _timed(
    bar: Bar, clock: Callable[[], float] = time.monotonic
) -> Callable[[str, int, int], None]:
    """Shows progress with the time that is left of what is being done."""
    from palate.report.words import duration

    began: dict[str, tuple[float, int]] = {}

    def at(what: str, done: int, total: int) -> None:
        now = clock()
        start, before = began.setdefault(what, (now, done))
        left = (now - start) / (done - before) * (total - done) if done > before else None
        bar.at(done, total, what if left is None else f"{what}, about {duration(left)} left")

    return at
