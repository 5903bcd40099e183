"""Save and resume, bit for bit: a checkpoint is whole or it is not there.

A checkpoint is a folder with trained weights, optimizer state, counters and a manifest of their
digests. It appears under its name only when every byte is on disk; older ones go only after the
new one has been read back. Randomness needs no room in it: every draw is named by its step.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor

from palate.core.files import (
    MANIFEST,
    UNFINISHED,
    damage,
    digest_file,
    load_weights,
    new_folder,
    read_json,
    save_weights,
    sweep,
    write_json,
)
from palate.core.problems import DataError, StateError, require

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
FORMAT = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """One checkpoint as found on disk.

    Attributes:
        name: Its folder's name.
        step: Steps done when it was made; -1 where the name does not say.
        state: Whether it can be used.
        detail: What is wrong with it, or nothing.
    """

    name: str
    step: int
    state: Literal["ok", "damaged", "unfinished"]
    detail: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint read back.

    Attributes:
        step: Steps done when it was made.
        weights: The trained weights.
        optimizer: The optimizer's state.
        state: Counters, positions and everything else that is plain.
    """

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save(
    folder: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write the checkpoint of a step, read it back, and only then remove older ones.

    Raises:
        StateError: when the disk refuses or gives back something else. Older ones stay.
    """
    path = folder / f"step-{step:06d}"
    with new_folder(path, replace=True) as new:
        save_weights(new / WEIGHTS, weights)
        save_weights(new / OPTIMIZER, optimizer)
        write_json(new / STATE, {"format": FORMAT, "step": step, **state})
    wrong = _wrong(path)
    require(
        wrong is None,
        got=f"{path}: {wrong}, just after it was written",
        need="a disk that gives back what it was given",
        fix="Use another disk; the checkpoint before this one was kept.",
        kind=StateError,
    )
    _prune(path, keep)
    return path


def settings(folder: Path) -> dict[str, Any] | None:
    """The settings that the newest checkpoint was computed with, or None where none says so."""
    for path in reversed(_finished(folder)):
        with suppress(DataError, OSError, KeyError, TypeError):
            recorded = read_json(path / MANIFEST)["files"][STATE]["sha256"]
            if digest_file(path / STATE) == recorded:
                return read_json(path / STATE).get("run")
    return None


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence about each newer one that is not."""
    sweep(folder)
    damaged: list[tuple[int, str]] = []
    for path in reversed(_finished(folder)):
        wrong = _wrong(path)
        if wrong is None:
            found = _read(path)
            return found, [
                f"step {step} damaged ({why}), using step {found.step}, "
                f"{step - found.step} steps lost"
                for step, why in damaged
            ]
        damaged.append((_step(path), wrong))
    return None, [f"step {step} damaged ({why}), starting again" for step, why in damaged]


def at(folder: Path, step: int | None = None) -> Checkpoint:
    """The checkpoint of a step, or the newest one that is whole; for reading beside a training.

    Nothing in the folder is put right, as `newest` does: a trainer may be writing to it.

    Raises:
        StateError: when there is none, or the one asked for is damaged.
    """
    there = [path for path in reversed(_finished(folder)) if step in (None, _step(path))]
    found = next((path for path in there if _wrong(path) is None), None)
    if found is None:
        which = "no whole checkpoint" if step is None else f"no whole checkpoint of step {step}"
        steps = ", ".join(str(_step(path)) for path in _finished(folder))
        raise StateError(
            got=f"{which} in {folder}",
            need=f"one of the steps that are there: {steps}" if steps else "a run that saved one",
            fix=f"palate resume {folder.parent}",
        )
    return _read(found)


def states(folder: Path) -> tuple[CheckpointState, ...]:
    """Every checkpoint of a run, by step, with what is wrong with it.

    The newest whole one, which a resume would use, is read to its last byte; of those before it
    only names and sizes are compared.
    """
    found: list[CheckpointState] = []
    for path in reversed(_finished(folder)):
        wrong = _wrong(path, contents=not any(later.state == "ok" for later in found))
        state = "damaged" if wrong else "ok"
        found.append(
            CheckpointState(name=path.name, step=_step(path), state=state, detail=wrong or "")
        )
    found.reverse()
    found += [
        CheckpointState(
            name=path.name, step=-1, state="unfinished", detail="being written or cut off"
        )
        for path in sorted(folder.glob(f"{UNFINISHED}*"))
    ]
    return tuple(found)


def _prune(newest: Path, keep: int) -> None:
    """Keep the one just verified and the whole ones before it, `keep` together.

    What lies beyond it belongs to an attempt that was given up, and what is damaged holds no
    place: either would push out a checkpoint that works. By step, not by date: clocks jump.
    """
    room = keep - 1
    for path in reversed(_finished(newest.parent)):
        if path == newest:
            continue
        if room > 0 and _step(path) < _step(newest) and _wrong(path) is None:
            room -= 1
        else:
            shutil.rmtree(path, ignore_errors=True)


def _wrong(path: Path, *, contents: bool = True) -> str | None:
    """What is wrong with a checkpoint. One that cannot be read is as bad as a damaged one."""
    try:
        return damage(path, contents=contents)
    except OSError as error:
        return f"it cannot be read: {error}"


def _read(path: Path) -> Checkpoint:
    state = read_json(path / STATE)
    require(
        state.get("format") == FORMAT,
        got=f"{path} of format {state.get('format')}",
        need=f"format {FORMAT}",
        fix="Resume with the version of palate named in the run's record.json.",
        kind=StateError,
    )
    return Checkpoint(
        step=int(state["step"]),
        weights=load_weights(path / WEIGHTS),
        optimizer=load_weights(path / OPTIMIZER),
        state=state,
    )


def _finished(folder: Path) -> list[Path]:
    """Checkpoint folders in order of their steps."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), key=_step)


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else -1
