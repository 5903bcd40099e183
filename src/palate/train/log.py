"""What a run writes and says: rows of JSON first, TensorBoard if wanted, events for the screen.

Training itself never prints. It sends events, and whoever started it shows them.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, Protocol, Self, final

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from palate.core.plain import plain
from palate.core.problems import MissingExtra

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
    """The rows of a log, also of a run that was cut off in the middle of a line."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
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


@final
class Console:
    """Shows a training: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        """Show on a stream; standard error if none is given."""
        self._terminal = Terminal(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._terminal.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeRemainingColumn(), console=self._terminal, transient=True,
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the screen tidy."""
        if self._bar is not None:
            self._bar.stop()
            self._bar, self._task = None, None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "step":
            self._advance(event)
        else:
            self._terminal.print(event.text, markup=False)

    def _advance(self, event: Event) -> None:
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("", total=event.total)
            self._bar.update(self._task, completed=event.step, description=event.text)
        # Ten lines a run are enough where nobody watches a bar.
        elif event.step % max(1, event.total // 10) == 0:
            self._terminal.print(event.text, markup=False)


def console(stream: IO[str] | None = None) -> Console:
    """A screen for the events of a training; a context manager that is called with each."""
    return Console(stream)
