"""One writer at a time, and the other one is told who it is.

The lock is held by the kernel for as long as the process lives, so a killed writer leaves
nothing to clean up; the text in the file is only there to name the holder.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from palate.core.problems import StateError

_TRY_EVERY = 0.5


@contextmanager
def sole_writer(path: Path) -> Generator[None]:
    """Hold the lock file for the length of the block.

    Raises:
        StateError: when another process holds it; the message names that process.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(
                got=f"{path.parent}, which {_holder(path)} is writing to",
                need="one writer at a time",
                fix="Wait until it has finished, or stop it.",
            ) from error
        facts = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        file.seek(0)
        file.truncate()
        file.write(json.dumps(facts))
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


@contextmanager
def patient_writer(path: Path, tell: Callable[[str], None]) -> Generator[None]:
    """Hold the lock file for the length of the block, after waiting for whoever holds it.

    `tell` hears once who is waited for.
    """
    with ExitStack() as stack:
        waited = False
        while True:
            try:
                stack.enter_context(sole_writer(path))
                break
            except StateError:
                if not waited:
                    tell(f"Waiting for {_holder(path)}, which is writing to {path.parent}.")
                waited = True
                time.sleep(_TRY_EVERY)
        yield


def _holder(path: Path) -> str:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return f"process {facts['process']} on {facts['host']} (since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
