"""Pictures and rows made by hand for the tests of this room."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from palate.data.sources import export_pickapic
from palate.data.store import Store

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(picture: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def plain(number: int = 0, size: tuple[int, int] = (16, 16), kind: str = "PNG") -> bytes:
    """A picture unlike those of all other numbers."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels), kind)


def corner(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """White with a red top-left quarter: shows every turn and mirror."""
    picture = Image.new("RGB", size, WHITE)
    picture.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    return picture


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    return encode(corner(), kind, exif=exif, **settings.get(kind, {}))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, raw: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bomb(width: int, height: int) -> bytes:
    """A few kilobytes that decode to as many pixels as asked for: one bit each, all the same."""
    return png(width, height, bytes((1 + (width + 7) // 8) * height), depth=1, colour=0)


def grey16(values: np.ndarray) -> bytes:
    """A 16-bit grey PNG."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], rows, depth=16, colour=0)


def swapped_profile() -> bytes:
    """An ICC profile in which red and blue are exchanged, so that using it shows."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    places = {}
    for index in range(count):
        at = 132 + 12 * index
        places[bytes(profile[at : at + 4])] = at
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    red_place, blue_place = bytes(profile[red + 4 : red + 12]), bytes(profile[blue + 4 : blue + 12])
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = blue_place, red_place
    # Another description, or it would be taken for sRGB itself.
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))


def row(number: int, label: object = 1.0, **others: Any) -> dict[str, Any]:
    """A Pick-a-Pic row with pictures of its own."""
    return {
        "caption": f"prompt {number}",
        "jpg_0": plain(2 * number),
        "jpg_1": plain(2 * number + 1),
        "label_0": label,
        **others,
    }


def pickapic(path: Path, rows: list[dict[str, Any]]) -> Path:
    export_pickapic(rows, path)
    return path


def store_of(folder: Path, rows: list[dict[str, Any]]) -> Store:
    """A store with some Pick-a-Pic rows in it."""
    from palate.data.sources import import_comparisons

    store = Store(folder / "store")
    import_comparisons(store, "pickapic", pickapic(folder / "rows.parquet", rows))
    return store
