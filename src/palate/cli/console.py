"""Where the command line's words go: results to stdout, everything else to stderr.

With `--json`, stdout holds one JSON value and nothing else. Progress is a moving bar on a terminal
and plain lines where nobody is looking.
"""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from palate.core.plain import plain
from palate.core.problems import Problem

if TYPE_CHECKING:
    from palate.train.log import Event

_PLAIN_WIDTH = 160
_LINE_EVERY = 5.0
_SHORT = 22


def screen(*, error: bool = False) -> Console:
    """The console of the stream as it is now. Files and pipes get wide, uncut lines."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def say(text: str = "") -> None:
    """Print a line of the result."""
    screen().print(text, soft_wrap=True)


def note(text: str) -> None:
    """Print a line about the work, which is not the result."""
    screen(error=True).print(text, soft_wrap=True, style="dim")


def show_page(markdown: str) -> None:
    """Print a page: set on a terminal, as it is written anywhere else."""
    console = screen()
    if console.is_terminal:
        console.print(Markdown(markdown))
    else:
        say(markdown.rstrip())


def emit(value: Any) -> None:
    """Print a value as JSON. What is not finite becomes null, because JSON has no word for it."""
    sys.stdout.write(json.dumps(plain(value), indent=2, default=str, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print rows under their column names. Only long cells are folded on a narrow terminal."""
    grid = Table(title=title or None, box=None, title_justify="left", pad_edge=False)
    cells = [[str(cell) for cell in row] for row in rows]
    for place, column in enumerate(columns):
        longest = max((len(line) for row in cells for line in row[place].split("\n")), default=0)
        grid.add_column(column, overflow="fold", no_wrap=longest <= _SHORT)
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    screen().print(grid)


def show_problem(problem: Problem) -> None:
    """Print a problem's three parts on stderr, one line each."""
    console = screen(error=True)
    for word, part in (("Got ", problem.got), ("Need", problem.need), ("Fix ", problem.fix)):
        line = Text.assemble((word, "bold red" if word == "Got " else "bold"), f"  {part}")
        console.print(line, soft_wrap=True)


def next_steps(*commands: str) -> None:
    """Print the commands that most people want now."""
    say()
    say("Next:")
    for command in commands:
        say(f"  {command}")


@final
class Bar:
    """Progress on stderr: a bar on a terminal, otherwise a line every few seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = time.monotonic()
        self._told = False
        self._task: TaskID | None = None
        console = screen(error=True)
        self._bar = _bar(console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, done: int, total: int | None, text: str = "") -> None:
        """Show that `done` of `total` is finished, with a word about it."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(self._what, total=total, text="")
            self._bar.update(self._task, completed=done, total=total, text=text)
            return
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY or (self._told and done == total):
            self._last, self._told = now, True
            end = f"/{total}" if total is not None else ""
            note(f"{self._what} {done}{end}{'  ' if text else ''}{text}")

    def line(self, text: str) -> None:
        """Print a line above the bar, and keep the bar."""
        screen_or_bar = self._bar.console if self._bar is not None else screen(error=True)
        screen_or_bar.print(text, markup=False, highlight=False, soft_wrap=True)

    def count(self, done: int) -> None:
        """Show that `done` are finished, where nobody knows of how many."""
        self.at(done, None)

    def show(self, event: "Event") -> None:
        """Show a training's event: a step moves the bar, whatever else is said is a line."""
        if event.kind == "step":
            self.at(event.step, event.total, event.text)
        else:
            self.line(event.text)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
    )
