"""The child process in which pictures from strangers are decoded.

It imports Pillow and nothing of ours.

It reads one encoded picture from its standard input, writes the plain RGB pixels to its
standard output, and repeats. It lives under limits on memory, processor time and files, so that
the worst a hostile picture can do is to end it; the parent (`ingest.py`) then starts another and
refuses that picture. What leaves is plain pixels: nothing of the stranger's file survives.

What a picture looks like is decided here once, as a browser would show it: EXIF rotation
applied, transparency over white, colour profile converted to sRGB, 16-bit grey scaled, first
frame of an animation.

Wire format, little-endian. In: u32 length, bytes. Out: u8 refused, u32 width, u32 height,
u32 text length, text (notes, or reason and detail, one per line), then width*height*3 bytes.
"""

import io
import os
import resource
import struct
import sys
from typing import BinaryIO

from PIL import ExifTags, Image, ImageCms, ImageFile
from PIL.MpoImagePlugin import MpoImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_SIDE = 4096
MIN_SIDE = 8
MAX_BYTES = 20 * 1024 * 1024
MAX_TEXT = 1000
MEMORY_BYTES = 512 * 1024 * 1024
CPU_SECONDS = 8

REPLY = struct.Struct("<BIII")
REQUEST = struct.Struct("<I")
READY = b"ready\n"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KNOWN = ((b"GIF8", "GIF"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"<", "SVG"))


class Refused(Exception):  # noqa: N818 - an outcome that crosses the wire, not a crash
    """A picture that is not let in."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


def normalise(data: bytes) -> tuple[int, int, bytes, list[str]]:
    """Width, height, RGB bytes and notes on what was changed.

    Raises:
        Refused: with a stable reason, for every file that is not an ordinary picture.
    """
    if len(data) > MAX_BYTES:
        raise Refused("picture-too-large", f"{len(data)} bytes; the limit is {MAX_BYTES}")
    kind = _kind(data)
    notes: list[str] = []
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            _check_size(*picture.size)
            if _frames(picture) > 1:
                notes.append("first-frame-only")
            picture.load()
            turn = _orientation(picture, notes)
            plain = _over_white(_to_srgb(_eight_bit(picture, notes), notes), notes)
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused("picture-too-large", str(error)) from error
    except MemoryError as error:
        raise Refused("picture-too-large", "it needs more memory than is allowed") from error
    except Exception as error:  # decoders raise anything on hostile input
        raise Refused("broken-picture", f"{type(error).__name__}: {error}") from error
    if turn in _TURNS:
        plain = plain.transpose(_TURNS[turn])
        notes.append("rotated-by-exif")
    return plain.width, plain.height, plain.tobytes(), notes


def _kind(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    found = next((name for magic, name in _KNOWN if data.startswith(magic)), None)
    if found is not None:
        raise Refused("unsupported-format", f"{found}; JPEG, PNG and WebP are read")
    raise Refused("broken-picture", f"{len(data)} bytes that are no JPEG, PNG or WebP")


def _check_size(width: int, height: int) -> None:
    # Before any pixel is decoded: nine kilobytes of PNG can ask for 400 MB.
    if max(width, height) > MAX_SIDE:
        raise Refused("picture-too-large", f"{width}x{height}; the limit is {MAX_SIDE} a side")
    if min(width, height) < MIN_SIDE:
        raise Refused("picture-too-small", f"{width}x{height}; the least is {MIN_SIDE} a side")


def _frames(picture: ImageFile.ImageFile) -> int:
    match picture:
        case PngImageFile() | WebPImageFile() | MpoImageFile():
            return picture.n_frames
        case _:
            return 1


def _orientation(picture: ImageFile.ImageFile, notes: list[str]) -> int:
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF does not make the pixels wrong
        notes.append("exif-ignored")
        return 1
    return found if isinstance(found, int) else 1


def _eight_bit(picture: Image.Image, notes: list[str]) -> Image.Image:
    """Sixteen-bit grey scaled to eight; everything else is eight-bit already."""
    # Pillow's own conversion clips at 255 instead of scaling: such a picture turns white.
    if picture.mode in ("I;16", "I;16L", "I;16N"):
        high = picture.tobytes("raw", "I;16")[1::2]
    elif picture.mode == "I;16B":
        high = picture.tobytes("raw", "I;16B")[0::2]
    elif picture.mode == "I":
        high = picture.tobytes("raw", "I")[1::4]
    else:
        return picture
    notes.append("scaled-from-16-bit")
    grey = Image.frombytes("L", picture.size, high)
    profile = picture.info.get("icc_profile")
    if profile is not None:
        grey.info["icc_profile"] = profile
    return grey


def _to_srgb(picture: Image.Image, notes: list[str]) -> Image.Image:
    """RGB or RGBA in sRGB, through the embedded profile where there is a usable one."""
    profile = picture.info.get("icc_profile")
    clear = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    wanted = "RGBA" if clear else "RGB"
    source = picture
    if picture.mode in ("P", "PA", "LA", "1") or clear:
        source = _as(picture, wanted)
    if picture.mode == "CMYK":
        notes.append("converted-from-cmyk")
    if not isinstance(profile, bytes) or not profile:
        return _as(source, wanted)
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(embedded).startswith("sRGB"):
            return _as(source, wanted)
        turned = ImageCms.profileToProfile(source, embedded, _SRGB, outputMode=wanted)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("colour-profile-ignored")
        return _as(source, wanted)
    notes.append("colour-profile-applied")
    return _as(source, wanted) if turned is None else turned


def _as(picture: Image.Image, mode: str) -> Image.Image:
    # Converting to the same mode would copy: 64 MB for the largest picture.
    return picture if picture.mode == mode else picture.convert(mode)


def _over_white(picture: Image.Image, notes: list[str]) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    alpha = picture.getchannel("A")
    if alpha.getextrema() != (255, 255):
        notes.append("transparency-over-white")
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(picture.convert("RGB"), mask=alpha)
    return white


_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _limit() -> None:
    """Memory above what is in use now; no new files, no growing files, no core dump."""
    # Elsewhere the kernel does not enforce this limit; the cap on pixels still bounds memory.
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _allow_cpu() -> None:
    """Let the next picture use a few seconds of processor time, then the kernel ends us."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    until = int(spent.ru_utime + spent.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def _warm_up() -> None:
    """Decode one of each kind, so that everything lazily imported is there before the limits."""
    for kind in ("JPEG", "PNG", "WEBP"):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind, icc_profile=_SRGB.tobytes())
        normalise(file.getvalue())
        for size in (20, len(file.getvalue()) - 20):
            try:
                normalise(file.getvalue()[:size])
            except Refused:
                continue


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        sys.exit(0)  # The parent closed the pipe or is gone.
    return data


def serve() -> None:
    """Answer requests until the parent closes the pipe."""
    # Only we may write to the pipe: a library that prints must not break the protocol.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = MAX_SIDE * MAX_SIDE
    _warm_up()
    _limit()
    answers.write(READY)
    answers.flush()
    while True:
        (count,) = REQUEST.unpack(_read(sys.stdin.buffer, REQUEST.size))
        data = _read(sys.stdin.buffer, count)
        _allow_cpu()
        width = height = 0
        pixels = b""
        refused = False
        try:
            width, height, pixels, lines = normalise(data)
        except Refused as refusal:
            refused, lines = True, [refusal.reason, refusal.detail]
        text = "\n".join(lines).encode("utf-8", "replace")[:MAX_TEXT]
        answers.write(REPLY.pack(refused, width, height, len(text)) + text)
        answers.write(pixels)
        answers.flush()


if __name__ == "__main__":
    serve()
