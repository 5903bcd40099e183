"""The folder of a run: one trainer at a time, the settings it was started with, room to save.

`run.yaml` is written first, so a folder that has it is a run, and resuming compares the settings
it holds with those it is given.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from palate.core.files import sweep, write_atomic
from palate.core.lock import sole_writer
from palate.core.problems import StateError, require
from palate.train.log import Event, RowLog
from palate.train.run import Run

SETTINGS, RECORD = "run.yaml", "record.json"
LOG, HEALTH, LOCK = "log.jsonl", "health.jsonl", "lock"
CHECKPOINTS, EXPORT, BOARD = "checkpoints", "export", "tensorboard"
# What may change on resuming without changing a number that was or will be computed.
HARMLESS = (
    "plan.save_every",
    "plan.keep_last",
    "plan.log_every",
    "plan.health_every",
    "plan.tensorboard",
    "plan.micro_batch",
    "plan.gradient_checkpointing",
    "plan.device",
    "health.stop",
    "health.ignore",
    "health.winner_drift_warn",
    "health.winner_drift_stop",
    "health.checks_before_stop",
    "health.saturation_share",
    "health.accuracy_high",
    "health.learning_by",
    "health.nan_budget",
)
INEXACT = ("plan.micro_batch", "plan.gradient_checkpointing", "plan.device")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A run folder that this process alone may write to.

    Attributes:
        out: The folder.
        notes: What differs from the settings the run was started with, one sentence each.
        changed: Dotted names of settings that differ.
    """

    out: Path
    notes: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.out / CHECKPOINTS

    def logs(self, keep: tuple[int, int]) -> tuple[RowLog, RowLog]:
        """The step log and the health log, each cut back to its first bytes."""
        return RowLog(self.out / LOG, keep[0]), RowLog(self.out / HEALTH, keep[1])


@contextmanager
def claim(run: Run, out: Path, *, resume: bool) -> Iterator[Place]:
    """Hold a run folder for the length of the block.

    Raises:
        StateError: when another process holds it, when it is a run already and `resume` is
            false, or when resuming with settings that would make it another run.
    """
    require(
        resume or not (out / SETTINGS).exists(),
        got=f"{out}, which already holds a run",
        need="a new folder",
        fix=f"Go on with: palate resume {out}. Or choose another folder.",
        kind=StateError,
    )
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out / LOCK):
        sweep(out)
        changes = _changes(run, out) if resume and (out / SETTINGS).exists() else {}
        (out / CHECKPOINTS).mkdir(exist_ok=True)
        write_atomic(out / SETTINGS, run.to_yaml())
        notes = [f"{name} changed from {old!r} to {new!r}" for name, (new, old) in changes.items()]
        if any(name in INEXACT for name in changes):
            notes.append("From here the numbers may differ in their last digits")
        yield Place(out=out, notes=tuple(notes), changed=tuple(changes))


def enough_room(out: Path, checkpoint_bytes: int) -> None:
    """Refuse to start where two checkpoints would not fit.

    Raises:
        StateError: naming the space needed and the space there is.
    """
    free, need = shutil.disk_usage(out).free, 2 * checkpoint_bytes
    require(
        free >= need,
        got=f"{free / 1e6:.0f} MB free at {out}",
        need=f"{need / 1e6:.0f} MB, for two checkpoints",
        fix="Free some space or choose a folder on another disk.",
        kind=StateError,
    )


def as_event(place: Place) -> Event | None:
    """What to say about changed settings, or None."""
    if not place.notes:
        return None
    return Event(kind="warning", text=". ".join(place.notes) + ".")


def _changes(run: Run, out: Path) -> dict[str, tuple[object, object]]:
    """Settings that differ from the run's own: name → (now, then)."""
    started = Run.from_yaml(out / SETTINGS)
    found = run.differences(started)
    longer = run.plan.schedule == "constant" and run.plan.steps > started.plan.steps
    allowed = {*HARMLESS, *(["plan.steps"] if longer else [])}
    refused = {name: pair for name, pair in found.items() if name not in allowed}
    if refused:
        listed = ", ".join(f"{name} {old!r} to {new!r}" for name, (new, old) in refused.items())
        raise StateError(
            got=f"changed settings: {listed}",
            need="the settings the run was started with",
            fix=f"Resume with {out / SETTINGS}, or start a new run in another folder. "
            "Only longer plan.steps (constant schedule), saving, logging and limits may change.",
        )
    return found
