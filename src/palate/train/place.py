"""The folder of a run: one trainer at a time, the settings it was started with, room to save.

A folder is taken once something was learned in it: a checkpoint, or a row of the log. A start
that failed before leaves it free.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from palate.core.files import read_json, sweep, write_atomic
from palate.core.lock import sole_writer
from palate.core.problems import DataError, StateError, require
from palate.train import checkpoint
from palate.train.changes import Changes, changes, sentences
from palate.train.log import Event, RowLog
from palate.train.run import Run

SETTINGS, RECORD = "run.yaml", "record.json"
LOG, HEALTH, PAIRS, LOCK = "log.jsonl", "health.jsonl", "pairs.jsonl", "lock"
ROUNDS = "rounds"
CHECKPOINTS, EXPORT, BOARD, QUARANTINE = "checkpoints", "export", "tensorboard", "quarantine.jsonl"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A run folder that this process alone may write to.

    Attributes:
        out: The folder.
        cache: Where latents and embeddings are kept.
        record: What an earlier attempt wrote down, if there was one.
        changed: Settings that differ from those the run was started with: name → (now, then).
    """

    out: Path
    cache: Path
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    changed: Changes = field(default_factory=Changes)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.out / CHECKPOINTS

    @property
    def identity(self) -> dict[str, str]:
        """Digests of the model and data of the earlier attempt, as far as they were recorded."""
        digests = self.record.get("model", {}).get("digests", {})
        data = self.record.get("data", {}).get("digest")
        found = {f"model {name}": digest for name, digest in digests.items()}
        return found | ({"data": data} if data else {})

    def logs(self, keep: Sequence[int], *, pairs: bool) -> tuple[RowLog, ...]:
        """The logs of steps, of health, and if asked of pairs, each cut back to its first bytes."""
        names = (LOG, HEALTH, PAIRS) if pairs else (LOG, HEALTH)
        sizes = [*keep, 0, 0, 0]
        return tuple(RowLog(self.out / name, sizes[i]) for i, name in enumerate(names))

    def settle(self, run: Run) -> None:
        """Write the settings down, once it is sure that the run goes on with them."""
        write_atomic(self.out / SETTINGS, run.to_yaml())


@contextmanager
def claim(run: Run, out: Path, *, resume: bool, cache: Path | None = None) -> Iterator[Place]:
    """Hold a run folder for the length of the block.

    Raises:
        StateError: when another process holds it, when something was learned in it already and
            `resume` is false, or when resuming with settings that would make it another run.
    """
    _refuse_taken(out, resume)
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out / LOCK):
        # Asked again: another process may have trained and left in between.
        _refuse_taken(out, resume)
        sweep(out)
        record = _record(out) if taken(out) else {}
        started = _started(out, record)
        found = {} if started is None else changes(run, started)
        (out / CHECKPOINTS).mkdir(exist_ok=True)
        place = Place(out=out, cache=_cache(out, record, cache), record=record, changed=found)
        if started is None:
            _clear(out)
            place.settle(run)
        try:
            yield place
        except BaseException:
            # A start that learned nothing leaves nothing that looks like a run.
            if started is None and not taken(out):
                _clear(out)
                (out / SETTINGS).unlink(missing_ok=True)
                shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
            raise


def taken(out: Path) -> bool:
    """Whether something was learned in a folder: a checkpoint, a row of the log, or a round."""
    log = out / LOG
    begun = any((out / CHECKPOINTS).glob("step-*")) or any((out / ROUNDS).glob("*"))
    return begun or (log.is_file() and log.stat().st_size > 0)


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
    if not place.changed:
        return None
    return Event(kind="warning", text=". ".join(sentences(place.changed)) + ".")


def _refuse_taken(out: Path, resume: bool) -> None:
    require(
        resume or not taken(out),
        got=f"{out}, which already holds a run",
        need="a new folder",
        fix=f"Go on with: palate resume {out}. Or choose another folder.",
        kind=StateError,
    )


def _started(out: Path, record: Mapping[str, Any]) -> Run | None:
    """The settings of what was learned here, or None when nothing was."""
    if not taken(out):
        return None
    values = checkpoint.settings(out / CHECKPOINTS) or record.get("run")
    return Run.from_yaml(out / SETTINGS) if values is None else Run.from_values(values)


def _record(out: Path) -> Mapping[str, Any]:
    try:
        found = read_json(out / RECORD)
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}


def _cache(out: Path, record: Mapping[str, Any], told: Path | None) -> Path:
    """The cache that was told, else the one used before if it is still there, else beside."""
    before = record.get("cache", {}).get("folder")
    usual = Path(before) if before and Path(before).is_dir() else out.parent / "cache"
    return (usual if told is None else told.expanduser()).absolute()


def _clear(out: Path) -> None:
    """Forget what a start that failed has left, or it would be told as part of this run."""
    if (out / SETTINGS).is_file():
        for name in (RECORD, HEALTH, PAIRS, QUARANTINE):
            (out / name).unlink(missing_ok=True)
