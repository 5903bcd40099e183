"""The pictures of a snapshot in a few large files, with a list of where each one lies.

Ten thousand small files are slow to force to disk, to copy and to open; four large ones are not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import DataError
from palate.data.shelf import damaged, decode

INDEX: Final = "pictures.index"
PACK_BYTES: Final = 1024**3


class Encoded(Protocol):
    """Where encoded pictures can be had by name: a shelf, or a pack."""

    def encoded(self, sha256: str) -> bytes:
        """The file of a picture."""
        ...

    def path(self, sha256: str) -> Path:
        """Which file it lies in, for messages."""
        ...


def write_pack(
    folder: Path, pictures: Encoded, names: Sequence[str], *, pack_bytes: int = PACK_BYTES
) -> None:
    """Copy pictures from a shelf or a pack into packs, checking each one on the way.

    Raises:
        DataError: when a picture is missing or damaged; it is named.
    """
    lines: list[str] = []
    number, offset = 0, 0
    for name in names:
        data = pictures.encoded(name)
        decode(data, name, f"{pictures.path(name)}")
        if offset and offset + len(data) > pack_bytes:
            number, offset = number + 1, 0
        pack = _pack_name(number)
        with (folder / pack).open("ab") as file:
            file.write(data)
        lines.append(f"{name} {number} {offset} {len(data)}\n")
        offset += len(data)
    (folder / INDEX).write_text("".join(lines), encoding="ascii")


@final
class Pack:
    """The pictures of a snapshot.

    Args:
        folder: The snapshot.

    Raises:
        DataError: when the list of pictures cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, tuple[int, int, int]] = {}
        try:
            for line in (folder / INDEX).read_text(encoding="ascii").splitlines():
                name, number, offset, size = line.split()
                self._places[name] = int(number), int(offset), int(size)
        except (OSError, ValueError) as error:
            raise DataError(
                got=f"{folder / INDEX}: {error}",
                need="the list of pictures as it was written",
                fix="Freeze the store again into a new folder.",
            ) from error

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._places

    def get(self, sha256: str) -> NDArray[np.uint8]:
        """The pixels [height, width, 3], checked against the digest.

        Raises:
            DataError: when the picture is not here or is damaged; the file is named.
        """
        data = self.encoded(sha256)
        return decode(data, sha256, f"picture {sha256[:16]} in {self.path(sha256)}")

    def encoded(self, sha256: str) -> bytes:
        """The picture as a PNG, unchecked.

        Raises:
            DataError: when it is not here or cannot be read; the file is named.
        """
        path = self.path(sha256)
        _, offset, size = self._places[sha256]
        # Opened each time: no handle to share between worker processes.
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except (OSError, ValueError) as error:
            raise damaged(f"picture {sha256[:16]} in {path}", str(error)) from error

    def path(self, sha256: str) -> Path:
        """The pack a picture lies in.

        Raises:
            DataError: when it is not here.
        """
        if sha256 not in self._places:
            raise damaged(f"picture {sha256[:16]}", f"it is not in {self._folder}")
        return self._folder / _pack_name(self._places[sha256][0])


def _pack_name(number: int) -> str:
    return f"pictures-{number:05d}.pack"
