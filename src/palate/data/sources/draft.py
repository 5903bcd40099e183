"""What a source hands over: a draft of a comparison, or a fault that says why there is none.

Every row a source reads becomes exactly one of the two, so that rows in always equal rows kept
plus rows dropped, by reason. Reasons are stable words; scripts may rely on them.
"""

import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar, Final, final

from palate.data.comparison import Source
from palate.data.decoder import MAX_BYTES
from palate.data.ingest import REFUSALS

REASONS: Final[Mapping[str, str]] = {
    **REFUSALS,
    "unlabelled": "nobody said which picture is better",
    "wrong-type": "a value has another type than the format asks for",
    "missing-field": "a required value is absent",
    "label-out-of-range": "a label is outside 0 to 1, or a rank is not a whole number",
    "labels-disagree": "the row's own labels contradict each other",
    "wrong-count": "pictures and labels differ in number, or there are fewer than two pictures",
    "empty-caption": "there is no prompt",
    "caption-too-long": "the prompt has more than 4,000 characters",
    "same-picture-twice": "two sides hold the same picture",
    "duplicate": "the same judgement was there already",
    "path-outside": "a file name leads out of the data folder",
    "missing-file": "a file that is named does not exist",
    "unpaired": "a picture without its counterpart in the other folder",
    "not-json": "a line is not JSON",
    "line-too-long": "a line has more than a million bytes",
    "unreadable-rows": "the file is damaged from here on",
}
MAX_CAPTION: Final = 4000
MAX_WORD: Final = 200
MAX_NAME: Final = 1024


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row that cannot become a comparison.

    Attributes:
        reason: One of `REASONS`.
        origin: Which row.
        detail: What was seen.
        count: How many rows this stands for.
    """

    reason: str
    origin: str
    detail: str = ""
    count: int = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A row whose labels are understood and whose pictures are not opened yet.

    Attributes:
        origin: Which row.
        prompt: As found; checked later.
        pictures: Encoded bytes, or a file that is inside the data folder.
        ranks: As in `Comparison`.
        agreement: As in `Comparison`.
        judge: As in `Comparison`.
        source: As in `Comparison`.
        judged_at: As in `Comparison`.
        generation: As in `Comparison`.
    """

    origin: str
    prompt: object
    pictures: tuple[bytes | Path, ...]
    ranks: tuple[int, ...] | None = None
    agreement: float | None = None
    judge: str = "unknown"
    source: Source = "unknown"
    judged_at: str | None = None
    generation: tuple[Mapping[str, Any] | None, ...] | None = None


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """A source that was opened.

    Attributes:
        rows: Drafts and faults, read as they are asked for.
        notes: What a person should know: optional columns found, files refused. Grows while
            rows are read.
    """

    rows: Iterator[Draft | Fault]
    notes: list[str] = field(default_factory=list[str])


class Importer(ABC):
    """A format preferences come in. Its fields are its settings."""

    __slots__ = ()

    name: ClassVar[str]
    about: ClassVar[str]

    @abstractmethod
    def open(self, path: str | Path) -> Reading:
        """Check what can be checked without reading the rows, then hand over a reading.

        Raises:
            DataError: when nothing of it can be read: no such file, a missing column.
        """


class Unfit(Exception):  # noqa: N818 - becomes a Fault, never reaches a user
    """Raised inside a source while one row is read."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason)

    def fault(self, origin: str) -> Fault:
        """The fault for the row it happened in."""
        return Fault(reason=self.reason, origin=origin, detail=self.detail)


def caption(value: object) -> str:
    """A prompt without control characters.

    Raises:
        Unfit: when it is no text, empty, or too long.
    """
    if value is None:
        raise Unfit("empty-caption")
    if not isinstance(value, str):
        raise Unfit("wrong-type", f"a caption of type {type(value).__name__}")
    if len(value) > MAX_CAPTION:
        raise Unfit("caption-too-long", f"{len(value)} characters")
    text = plain(value)
    if not text:
        raise Unfit("empty-caption")
    return text


def plain(text: str) -> str:
    """Text without what a reader cannot see: control, surrogate and direction characters."""
    kept = (_seen(character) for character in text)
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def _seen(character: str) -> str:
    if character in "\t\n\r":
        return " "
    hidden = unicodedata.category(character) in ("Cc", "Cs") or character in _DIRECTIONS
    return "" if hidden else character


_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def word(value: object, default: str = "unknown") -> str:
    """A short name (a judge, a model, a date) from whatever was found."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return default
    return plain(str(value)[:MAX_WORD]) or default


def probability(value: object, name: str) -> float | None:
    """A label between 0 and 1, or None where there is none.

    Raises:
        Unfit: when it is something else. Text that looks like a number is not a number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit("wrong-type", f"{name} of type {type(value).__name__}")
    if math.isnan(value):
        return None
    if not 0 <= value <= 1:
        raise Unfit("label-out-of-range", f"{name}={value:g}")
    return float(value)


def ranking(value: object, count: int, name: str) -> tuple[int, ...] | None:
    """One whole number per picture, lower is better, or None where there is none.

    Raises:
        Unfit: when it is something else.
    """
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise Unfit("wrong-type", f"{name} of type {type(value).__name__}")
    places: list[int] = []
    for rank in value:  # pyright: ignore[reportUnknownVariableType]
        if isinstance(rank, bool) or not isinstance(rank, int | float):
            raise Unfit("wrong-type", f"{name} with a {type(rank).__name__}")  # pyright: ignore[reportUnknownArgumentType]
        if not math.isfinite(rank) or rank != int(rank) or abs(rank) > 1_000_000:
            raise Unfit("label-out-of-range", f"{name} with {rank}")
        places.append(int(rank))
    if len(places) != count:
        raise Unfit("wrong-count", f"{len(places)} labels for {count} pictures")
    return tuple(places)


def inside(bases: tuple[Path, ...], name: object) -> Path:
    """The file a row names, looked for in the folders given, and nowhere else.

    Raises:
        Unfit: when it does not exist, leads out of the folder by any trick, or is too large.
    """
    if not isinstance(name, str):
        raise Unfit("wrong-type", f"a file name of type {type(name).__name__}")
    parts = name.replace("\\", "/").split("/")
    tricks = not name or len(name) > MAX_NAME or "\0" in name or ".." in parts
    if tricks or name.startswith(("/", "\\", "~")) or PureWindowsPath(name).drive:
        raise Unfit("path-outside", repr(name[:100]))
    for base in bases:
        try:
            path = (base / name).resolve()
        except (OSError, RuntimeError, ValueError):
            continue
        # After following links: a link inside the folder may point out of it.
        if not path.is_relative_to(base.resolve()):
            raise Unfit("path-outside", repr(name[:100]))
        if path.is_file():
            return path
    raise Unfit("missing-file", repr(name[:100]))


def content(picture: bytes | Path) -> bytes:
    """The encoded bytes of a picture.

    Raises:
        Unfit: when the file is too large or cannot be read.
    """
    if isinstance(picture, bytes):
        return picture
    try:
        with picture.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unfit("missing-file", f"{picture.name}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise Unfit("picture-too-large", f"{picture.name} has more than {MAX_BYTES} bytes")
    return data
