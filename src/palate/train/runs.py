"""Which runs there are, how far they came, and which of their checkpoints can be used."""

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from palate.core.problems import Problem
from palate.train.checkpoint import CheckpointState, states
from palate.train.log import read_rows
from palate.train.place import CHECKPOINTS, LOCK, LOG, RECORD, ROUNDS, SETTINGS
from palate.train.run import Run


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """One run as found on disk.

    Attributes:
        folder: Where it is.
        status: running, finished, stopped, interrupted, unfinished (cut off) or unreadable.
        step: Steps in its log.
        steps: Steps planned.
        objective: The name of its loss.
        sentence: What was last said about it.
        checkpoints: Its checkpoints, checked.
        pid: The process that holds it now, or None.
    """

    folder: Path
    status: str
    step: int
    steps: int
    objective: str
    sentence: str
    checkpoints: tuple[CheckpointState, ...]
    pid: int | None


def find_runs(folder: Path) -> list[RunState]:
    """The runs in a folder, by name; the folder itself if it is a run."""
    if (folder / SETTINGS).is_file():
        return [read_run(folder)]
    if not folder.is_dir():
        return []
    return [read_run(path.parent) for path in sorted(folder.glob(f"*/{SETTINGS}"))]


def read_run(folder: Path) -> RunState:
    """One run. Nothing is changed, whatever state it is in."""
    pid = holder(folder / LOCK)
    record = _record(folder)
    rows = read_rows(folder / LOG)
    status, sentence = str(record.get("status", "unfinished")), str(record.get("sentence") or "")
    steps, objective = 0, "?"
    try:
        run = Run.from_yaml(folder / SETTINGS)
        steps, objective = run.planned_steps, run.objective.name
    except Problem as problem:
        status, sentence = "unreadable", str(problem)
    if status in ("running", "unfinished"):
        status = "running" if pid is not None else "unfinished"
    return RunState(
        folder=folder,
        status=status,
        step=int(rows[-1]["step"]) if rows else 0,
        steps=steps,
        objective=objective,
        sentence=sentence,
        checkpoints=_checkpoints(folder),
        pid=pid,
    )


def _checkpoints(folder: Path) -> tuple[CheckpointState, ...]:
    """The checkpoints of a run, or of the rounds of a self-play."""
    rounds = sorted((folder / ROUNDS).glob(f"*/*/{CHECKPOINTS}"))
    return sum(map(states, rounds), states(folder / CHECKPOINTS))


def holder(lock: Path) -> int | None:
    """The process that holds a lock file right now, or None."""
    if not lock.is_file():
        return None
    with lock.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _process(file.read())
        fcntl.flock(file, fcntl.LOCK_UN)
    return None


def _process(text: str) -> int:
    try:
        return int(json.loads(text)["process"])
    except (ValueError, KeyError, TypeError):
        return 0


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
