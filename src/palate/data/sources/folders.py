"""Two folders with the same file names: the better pictures in one, the others in the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, cast, final

from palate.core.problems import DataError, require, unknown
from palate.data.comparison import SOURCES_OF_LABELS, Source
from palate.data.sources.draft import MAX_CAPTION, Draft, Fault, Importer, Reading, Unfit, inside
from palate.data.sources.text import existing, parse

PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Folders(Importer):
    """A folder with `chosen/` and `rejected/`, pictures paired by file name.

    A caption stands in a `.txt` file beside the picture in either folder, or in a captions file.

    Attributes:
        chosen: Name of the folder with the better pictures.
        rejected: Name of the folder with the others.
        captions: A JSON file that maps names to captions, relative to the folder.
        caption: The caption where none is found.
        labels: What kind of judge made the labels.
    """

    name: ClassVar[str] = "folders"
    about: ClassVar[str] = "two folders of pictures with the same names, captions in .txt files"

    chosen: str = "chosen"
    rejected: str = "rejected"
    captions: str | None = None
    caption: str | None = None
    labels: Source = "unknown"

    def __post_init__(self) -> None:
        if self.labels not in SOURCES_OF_LABELS:
            raise unknown("labels", str(self.labels), SOURCES_OF_LABELS)

    def open(self, path: str | Path) -> Reading:
        """List both folders.

        Raises:
            DataError: when one does not exist, or the captions file cannot be read.
        """
        root = existing(path, "a folder with two folders in it")
        sides = root / self.chosen, root / self.rejected
        for side in sides:
            require(
                side.is_dir(),
                got=f"{root} without a folder {side.name}",
                need=f"{self.chosen}/ and {self.rejected}/",
                fix="Name them with the settings `chosen` and `rejected`.",
                kind=DataError,
            )
        return Reading(self._rows(sides, self._captions(root)))

    def _rows(
        self, sides: tuple[Path, Path], captions: dict[str, object]
    ) -> Iterator[Draft | Fault]:
        better, worse = _pictures(sides[0]), _pictures(sides[1])
        for stem in sorted(better.keys() | worse.keys()):
            origin = f"folders:{sides[0].parent.name}#{stem}"
            try:
                if stem not in better or stem not in worse:
                    raise Unfit("unpaired", f"only in {sides[stem not in better].name}")
                pictures = better[stem], worse[stem]
                if any(len(files) > 1 for files in pictures):
                    raise Unfit("wrong-count", "several pictures with this name")
                yield Draft(
                    origin=origin,
                    prompt=self._prompt(stem, sides, captions),
                    pictures=tuple(
                        inside((side,), files[0])
                        for side, files in zip(sides, pictures, strict=True)
                    ),
                    agreement=1.0,
                    source=self.labels,
                )
            except Unfit as unfit:
                yield unfit.fault(origin)

    def _prompt(self, stem: str, sides: tuple[Path, Path], captions: dict[str, object]) -> object:
        if stem in captions:
            return captions[stem]
        for side in sides:
            try:
                file = inside((side,), f"{stem}.txt")
                with file.open("rb") as stream:
                    # A few bytes more than may be kept, so that too long is seen as too long.
                    return stream.read(4 * MAX_CAPTION + 4).decode("utf-8")
            except UnicodeDecodeError as error:
                raise Unfit("wrong-type", "a caption that is not UTF-8") from error
            except Unfit as unfit:
                if unfit.reason != "missing-file":
                    raise
        return self.caption

    def _captions(self, root: Path) -> dict[str, object]:
        if self.captions is None:
            return {}
        try:
            value = parse(inside((root,), self.captions).read_bytes())
            if not isinstance(value, dict):
                raise ValueError(f"it holds a {type(value).__name__}")
        except (OSError, ValueError, Unfit) as error:
            raise DataError(
                got=f"captions file {self.captions}: {error}",
                need="a JSON object that maps file names to captions, inside the folder",
                fix="Correct it, or leave `captions` out to use .txt files.",
            ) from error
        named = cast(dict[str, object], value)
        return {Path(name).stem: text for name, text in named.items()}


def _pictures(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES:
            found.setdefault(path.stem, []).append(path.name)
    return found
