"""Being asked to stop: the first signal finishes the step and saves, the second leaves at once."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self, final

from palate.core.problems import Problem


@final
class Interrupted(Problem):
    """The run was asked to stop. It finished its step and saved.

    The exit code is that of a temporary failure: starting again is all it takes.
    """

    exit_code = 75


@final
class Signals:
    """Listens for SIGTERM and SIGINT while a run is under way.

    Attributes:
        asked: The name of the signal that asked to stop, or None.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        """Prepare to listen; `notice` is told about the first signal."""
        self.asked: str | None = None
        self._notice = notice
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Begin to listen. Only a main thread can; elsewhere nothing is listened to."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            # Checkpoints are whole or absent, so leaving in the middle of a save is safe.
            os._exit(128 + number)
        self.asked = signal.Signals(number).name
        self._notice(self.asked)
