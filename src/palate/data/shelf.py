"""Pictures on disk, each once, under the digest of its pixels.

A picture is kept as a lossless PNG that we encoded ourselves. Reading checks that size and
pixels still have the digest in the file's name, so a flipped bit, or a file somebody put there,
is noticed before it is trained on.
"""

import hashlib
import io
import os
import struct
import uuid
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from palate.core.files import UNFINISHED
from palate.core.problems import DataError, require
from palate.data.comparison import ImageRef
from palate.data.decoder import MAX_SIDE

PICTURES: Final = "pictures"
_PNG_START: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def digest_pixels(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of a picture's size and RGB bytes."""
    height, width = pixels.shape[:2]
    total = hashlib.sha256(f"rgb8 {width}x{height}\n".encode())
    total.update(np.ascontiguousarray(pixels).data)
    return total.hexdigest()


@final
class Shelf:
    """A folder of pictures.

    Args:
        folder: Where `pictures/ab/ab12….png` live.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: set[str] = set()

    def path(self, sha256: str) -> Path:
        """Where a picture is, or would be.

        Raises:
            DataError: when the name is no digest; it might otherwise lead out of the folder.
        """
        require(
            len(sha256) == 64 and set(sha256) <= set("0123456789abcdef"),
            got=f"picture {sha256[:80]!r}",
            need="64 hexadecimal digits",
            fix="Use a digest from a record.",
            kind=DataError,
        )
        return self._folder / sha256[:2] / f"{sha256}.png"

    def put(self, pixels: NDArray[np.uint8]) -> ImageRef:
        """Keep a picture, [height, width, 3], unless it is here already.

        Raises:
            DataError: when it is no eight-bit RGB picture of a permitted size.
        """
        require(
            pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3,
            got=f"pixels of type {pixels.dtype} and shape {pixels.shape}",
            need="uint8 [height, width, 3]",
            fix="Convert the picture first.",
            kind=DataError,
        )
        height, width = pixels.shape[:2]
        require(
            0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE,
            got=f"a picture of {width}x{height}",
            need=f"1 to {MAX_SIDE} pixels a side",
            fix="Resize it first.",
            kind=DataError,
        )
        ref = ImageRef(sha256=digest_pixels(pixels), width=width, height=height)
        path = self.path(ref.sha256)
        if not path.exists():
            self._write(path, pixels)
        return ref

    def get(self, sha256: str) -> NDArray[np.uint8]:
        """The pixels [height, width, 3], checked against the digest.

        Raises:
            DataError: when the file is missing or damaged; the file is named.
        """
        return decode(self.encoded(sha256), sha256, f"{self.path(sha256)}")

    def encoded(self, sha256: str) -> bytes:
        """The PNG file of a picture, unchecked.

        Raises:
            DataError: when it is missing.
        """
        path = self.path(sha256)
        try:
            return path.read_bytes()
        except OSError as error:
            raise damaged(f"{path}", error.strerror or "it cannot be read") from error

    def _write(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        if path.parent.name not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent.name)
        temporary = self._folder / f"{UNFINISHED}{uuid.uuid4().hex}"
        with temporary.open("wb") as file:
            Image.fromarray(pixels).save(file, "PNG", compress_level=3)
        os.replace(temporary, path)


def decode(data: bytes, sha256: str, where: str) -> NDArray[np.uint8]:
    """The pixels of a PNG that we wrote, checked against their digest.

    Args:
        data: The file.
        sha256: The digest its pixels must have.
        where: What to call it in a message.

    Raises:
        DataError: when it is anything else.
    """
    try:
        pixels = _pixels(data)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise damaged(where, str(error)) from error
    if digest_pixels(pixels) != sha256:
        raise damaged(where, "its pixels do not have the digest it is named by")
    return pixels


def damaged(where: str, what: str) -> DataError:
    """The refusal of a picture file."""
    return DataError(
        got=f"{where}: {what}",
        need="the picture as it was imported",
        fix="Restore the file from a copy, or import the data again into a new store.",
    )


def _pixels(data: bytes) -> NDArray[np.uint8]:
    # We wrote this file, but a snapshot may have come from somebody else: size before pixels.
    if not data.startswith(_PNG_START):
        raise ValueError("it is not a PNG")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, len(_PNG_START))
    if max(width, height) > MAX_SIDE or (depth, colour) != (8, 2):
        raise ValueError("it is not an eight-bit RGB picture of a permitted size")
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        return np.array(picture, dtype=np.uint8)
