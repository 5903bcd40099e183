"""The one gate through which a picture from outside enters: bytes in, plain RGB pixels out.

The bytes are opened in a child process under limits (`decoder.py`), never in this one. A picture
that breaks, hangs or kills the child is refused with a reason, and the next one is served by a
fresh child. Whatever comes back is checked again before it is believed.

Read next: `store.py`, where the pixels go.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import StateError
from palate.data import decoder

REFUSALS: Final[Mapping[str, str]] = {
    "broken-picture": "it could not be decoded whole",
    "unsupported-format": "it is not a JPEG, PNG or WebP",
    "picture-too-large": "more than 4096 pixels a side, 20 MB, or the memory allowed",
    "picture-too-small": "fewer than 8 pixels a side",
    "decoder-timeout": "decoding took longer than allowed",
    "decoder-died": "decoding it ended the decoder",
}
START_SECONDS = 60.0
_DEATHS_ALLOWED = 3
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A normalised picture.

    Attributes:
        width: In pixels.
        height: In pixels.
        rgb: Eight-bit sRGB, row by row, width * height * 3 bytes.
        notes: What was changed on the way in, as stable words (`rotated-by-exif`, …).
    """

    width: int
    height: int
    rgb: bytes
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The same as an array [height, width, 3], read-only."""
        return np.frombuffer(self.rgb, np.uint8).reshape(self.height, self.width, 3)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A picture that was not let in.

    Attributes:
        reason: A stable code, one of `REFUSALS`.
        detail: What was seen.
    """

    reason: str
    detail: str


class _Ended(Exception):  # noqa: N818
    """The child closed its side."""


class _TooLong(Exception):  # noqa: N818
    """The child did not answer in time."""


@final
class Gate:
    """The running decoder. Use it in a `with` block.

    Args:
        seconds: Wall time one picture may take.
    """

    def __init__(self, *, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._child: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child. The gate opens again when it is next asked."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        child.wait()

    @property
    def process(self) -> int | None:
        """The child's process id, while there is one."""
        return None if self._child is None else self._child.pid

    def normalise(self, data: bytes) -> Picture | Refusal:
        """Decode one picture as a browser would show it.

        Raises:
            StateError: when the decoder cannot be started at all. A picture never raises.
        """
        if len(data) > decoder.MAX_BYTES:
            return Refusal(reason="picture-too-large", detail=f"{len(data)} bytes")
        child = self._running()
        try:
            return self._ask(child, data)
        except _TooLong:
            self._restart()
            return Refusal(reason="decoder-timeout", detail=f"more than {self._seconds:g} s")
        except (_Ended, BrokenPipeError):
            child.kill()  # It may be alive, if it was cut off for what it said.
            child.wait()
            self._restart()
            return Refusal(reason="decoder-died", detail=f"exit {child.returncode}")

    def _ask(self, child: subprocess.Popen[bytes], data: bytes) -> Picture | Refusal:
        deadline = time.monotonic() + self._seconds
        write_to, read_from = _ends(child)
        _write(write_to, decoder.REQUEST.pack(len(data)) + data, deadline)
        head = _read(read_from, decoder.REPLY.size, deadline)
        refused, width, height, length = decoder.REPLY.unpack(head)
        # The child has read a stranger's file: believe nothing it says without a check.
        if length > decoder.MAX_TEXT or max(width, height) > decoder.MAX_SIDE:
            raise _Ended
        lines = _read(read_from, length, deadline).decode("utf-8", "replace").split("\n")
        if refused:
            reason = lines[0] if lines[0] in REFUSALS else "broken-picture"
            return Refusal(reason=reason, detail=" ".join(lines[1:]))
        rgb = _read(read_from, width * height * 3, deadline)
        notes = tuple(line for line in lines if line)
        return Picture(width=width, height=height, rgb=rgb, notes=notes)

    def _running(self) -> subprocess.Popen[bytes]:
        tries = 0
        while self._child is None:
            tries += 1
            child = _start()
            try:
                ready = _read(_ends(child)[1], len(decoder.READY), _soon())
            except (_Ended, _TooLong):
                ready = b""
            self._child = child
            if ready == decoder.READY:
                break
            self.close()
            if tries >= _DEATHS_ALLOWED:
                raise StateError(
                    got=f"a picture decoder that ended {tries} times while starting",
                    need="a child process that can import Pillow",
                    fix="Run `palate doctor`; check that memory is not exhausted.",
                )
        return self._child

    def _restart(self) -> None:
        self.restarts += 1
        self.close()


def _soon() -> float:
    return time.monotonic() + START_SECONDS


def _start() -> subprocess.Popen[bytes]:
    """A decoder that inherits neither keys from the environment nor modules from this folder."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    child = subprocess.Popen(
        [sys.executable, "-I", str(Path(decoder.__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, "OMP_NUM_THREADS": "1"},
        bufsize=0,
    )
    for end in _ends(child):
        os.set_blocking(end, False)
    return child


def _ends(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    if child.stdin is None or child.stdout is None:
        raise _Ended
    return child.stdin.fileno(), child.stdout.fileno()


def _wait(end: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(end, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise _TooLong


def _write(end: int, data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(end, view) :]
        except BlockingIOError:
            _wait(end, select.POLLOUT, deadline)


def _read(end: int, count: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    while count:
        try:
            part = os.read(end, min(count, 1 << 20))
        except BlockingIOError:
            _wait(end, select.POLLIN, deadline)
            continue
        if not part:
            raise _Ended
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
