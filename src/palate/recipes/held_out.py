"""Margins of people's pairs by runs that never saw them, kept in one folder for several calls.

What was computed is kept by what it depends on: another snapshot, other settings or another number
of folds in the same folder never answer for each other.

Read next: `doubts.py`, the folds; `palate/audit/minority.py`, what is made of the margins.
"""

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Final

from palate.audit.minority import RunEvidence
from palate.data.pack import Pack
from palate.data.pairs import PreferencePairs
from palate.data.snapshot import read_imports, read_rows
from palate.data.store import digest_rows, write_snapshot
from palate.data.synthetic import MACHINES
from palate.recipes.doubts import cross_margins, name_of, planned_run, recorded_of, settings_of
from palate.recipes.margins import DRAWS, Progress

SHORT: Final = 16


def held_out_evidence(
    snapshot: Path,
    work: Path,
    *,
    folds: int = 2,
    run: Path | None = None,
    draws: int = DRAWS,
    device: str | None = None,
    progress: Progress | None = None,
) -> RunEvidence:
    """Held-out margins of a snapshot's pairs, and a run's minority metric beside them.

    Where people judged some pairs, only their labels are learned from. An interrupted call goes
    on where it stopped.

    Args:
        snapshot: The pairs.
        work: Where data, runs and what they said are kept.
        folds: Parts that the prompts are dealt into; each run learns from the others.
        run: A finished run whose model and settings the folds have; the shipped model and settings
            that suit it otherwise.
        draws: Levels, each with its noise, that every pair is asked at.
        device: Where errors are computed; CUDA where there is one, if left out.
        progress: Told what is computed, how much is done, and how much there is.

    Raises:
        StateError, SettingError: when the run is not finished, or has no implicit margins.
        DataError: when the snapshot is damaged or too small.
    """
    like = None if run is None else settings_of(run)
    asked = of_people(snapshot, work)
    planned = planned_run(asked, like=like)
    name = name_of(planned, folds, PreferencePairs.open(asked).digest)[:SHORT]
    found = cross_margins(
        asked,
        work / f"folds-{name}",
        folds=folds,
        like=planned,
        draws=draws,
        device=device,
        cache=work / "cache",
        progress=progress,
    )
    if run is None or like is None:
        return found
    seen = {name: (fmean(us), len(us)) for name, us in recorded_of(run, like).items()}
    pairs = {
        name: replace(each, minority=seen[name][0], visits=seen[name][1]) if name in seen else each
        for name, each in found.pairs.items()
    }
    return replace(found, pairs=pairs)


def of_people(snapshot: Path, work: Path) -> Path:
    """The snapshot of people's records alone; the snapshot itself where nobody preferred any."""
    rows = read_rows(snapshot)
    people = [row for row in rows if row.source not in MACHINES]
    strict = any(row.labelled and row.agreement != 0.5 for row in people)
    if len(people) == len(rows) or not strict:
        return snapshot
    out = work / f"people-{digest_rows(people)[:SHORT]}"
    if not out.exists():
        write_snapshot(out, people, Pack(snapshot), read_imports(snapshot))
    return out
