"""What a labeler was told already, kept so that a kill asks nothing twice.

A journal is a file of lines, one per raw answer, and each is forced to disk before its labeler goes
on. A line carries its own digest. The last one may be cut by a kill or a full disk and is then
dropped: that answer is asked again. Anything else that does not fit was damaged, and is refused.

Read next: `labeler.py`, who writes here.
"""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self, final

from palate.core.files import digest_bytes, sync_folder
from palate.core.lock import sole_writer
from palate.core.problems import DataError, StateError, require

_CHECK: Final = 16


@final
class Journal:
    """Answers by key, on disk; safe to use from several threads, open in one process at a time.

    Use it in a `with` block, or call `close`: a second opening is refused until then.

    Args:
        path: The file, whose folder is made where there is none.

    Raises:
        DataError: when a line other than a cut last one is damaged.
        StateError: when another process has it open, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Mapping[str, Any]] = {}
        self._turn = Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(sole_writer(path.with_suffix(".lock")))
            new = not path.exists()
            self._file = stack.enter_context(path.open("ab", buffering=0))
            if new:
                sync_folder(path.parent)
            self._read()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._known)

    def close(self) -> None:
        """Let others open it. What is kept stays kept."""
        self._stack.close()

    def known(self, key: str) -> Mapping[str, Any] | None:
        """What was kept under a key, or None."""
        with self._turn:
            return self._known.get(key)

    def keep(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep an answer; it is on disk when this returns. A second one replaces the first.

        Args:
            key: What was asked. Labelers that write many answers use a digest.
            value: As JSON holds it, without NaN or infinity.

        Raises:
            StateError: when the disk refuses; the journal is as it was before.
        """
        self.keep_all({key: value})

    def keep_all(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep several answers at once, which costs one wait for the disk instead of one each.

        Raises:
            StateError: when the disk refuses; what was kept before is whole.
        """
        lines = b"".join(_line(key, value) for key, value in values.items())
        with self._turn:
            end = self._file.seek(0, os.SEEK_END)
            try:
                left = memoryview(lines)
                while left:
                    left = left[self._file.write(left) :]
                os.fsync(self._file.fileno())
            except OSError as error:
                # Or the next line would be glued to half of this one.
                self._file.truncate(end)
                raise StateError(
                    got=f"{self.path}: {error}",
                    need="a writable disk with room",
                    fix="Free some space and run the same command again; nothing was lost.",
                ) from error
            self._known.update(values)

    def _read(self) -> None:
        """Take in what is there, and cut off a last line that was never finished."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            key, value = self._parsed(number, line)
            self._known[key] = value
        if whole < len(data):
            self._file.truncate(whole)
            os.fsync(self._file.fileno())

    def _parsed(self, number: int, line: bytes) -> tuple[str, dict[str, Any]]:
        check, _, body = line.partition(b" ")
        require(
            check.decode("ascii", "replace") == digest_bytes(body)[:_CHECK],
            got=f"{self.path}, whose line {number} was changed",
            need="a journal as it was written",
            fix="Restore it from a copy, or remove it: its labeler is then asked again.",
            kind=DataError,
        )
        entry = json.loads(body)
        return entry["key"], entry["value"]


def _line(key: str, value: Mapping[str, Any]) -> bytes:
    body = json.dumps(
        {"key": key, "value": value}, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()
    return f"{digest_bytes(body)[:_CHECK]} ".encode() + body + b"\n"
