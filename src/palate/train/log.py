"""What a run writes and says: rows of JSON first, TensorBoard if wanted, events for the screen.

Training itself never prints. It sends events, and whoever started it shows them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, final

from palate.core.plain import plain
from palate.core.problems import DataError, MissingExtra, require

Kind = Literal[
    "open", "cache", "resume", "start", "step", "check", "checkpoint", "warning", "stop", "done"
]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a training.

    Attributes:
        kind: What sort of thing.
        text: One plain sentence.
        step: Steps done.
        total: Steps planned.
        facts: The numbers, such as a row of the log.
    """

    kind: Kind
    text: str
    step: int = 0
    total: int = 0
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@final
class RowLog:
    """A file of JSON rows that can be cut back to where a checkpoint stood."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open the file, keeping its first `keep` bytes."""
        self._file = path.open("r+b" if path.is_file() else "w+b")
        self._file.truncate(keep)
        self._file.seek(0, os.SEEK_END)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row. Numbers that are not finite become null: JSON has no word for them."""
        self._file.write(json.dumps(plain(row), allow_nan=False).encode() + b"\n")
        self._file.flush()

    def position(self) -> int:
        """How many bytes there are, all of them on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that an interruption cut off is left out.

    Raises:
        DataError: when another line is no row: the file was damaged.
    """
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            require(
                number == len(lines),
                got=f"{path}, line {number}: {error}",
                need="one JSON object per line",
                fix="Resume the run: the log is cut back to the last checkpoint.",
                kind=DataError,
            )
    return rows


class Tracker(Protocol):
    """A second place for numbers."""

    def write(self, row: Mapping[str, Any], room: str) -> None:
        """Note a row under a name such as `train` or `health`."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


@final
class Nowhere:
    """No second place."""

    def write(self, row: Mapping[str, Any], room: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@final
class TensorBoard:
    """Writes every number of a row to TensorBoard files."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the folder; points after `step` from an earlier attempt are hidden.

        Raises:
            MissingExtra: when TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingExtra(
                got="no tensorboard",
                need="it for plan.tensorboard=on",
                fix='Install it with: pip install "palate[tracking]", or use plan.tensorboard=off.',
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, row: Mapping[str, Any], room: str) -> None:
        """Add the row's numbers at its step."""
        for name, value in row.items():
            number = value["value"] if isinstance(value, dict) and "value" in value else value
            if isinstance(number, int | float) and name != "step":
                self._writer.add_scalar(f"{room}/{name}", number, row["step"])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def open_tracker(wish: str, folder: Path, step: int) -> Tracker:
    """TensorBoard as wished: `on` insists, `auto` takes it where installed, `off` does not.

    Raises:
        MissingExtra: when it was insisted on and is not installed.
    """
    if wish == "off":
        return Nowhere()
    try:
        return TensorBoard(folder, step)
    except MissingExtra:
        if wish == "on":
            raise
        return Nowhere()
