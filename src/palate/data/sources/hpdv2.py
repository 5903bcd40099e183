"""HPDv2: a JSON list beside a folder of pictures (Wu et al., 2023).

Training records compare two pictures (`human_preference`, 1 for the winner); test records rank
several (`rank`, lower is better). `raw_annotations` are the single annotators' answers behind a
rank; the combined rank is what is imported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast, final

from palate.core.problems import DataError
from palate.data.sources.draft import Draft, Fault, Importer, Reading, Unfit, inside, ranking, word
from palate.data.sources.text import existing, read_list


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HPDv2(Importer):
    """HPDv2's train.json or test.json with its pictures.

    Attributes:
        images: Folder the picture names are relative to. Without it they are looked for beside
            the JSON file, then in a folder named like it, then in `images`.
    """

    name: ClassVar[str] = "hpdv2"
    about: ClassVar[str] = "JSON list with prompt, image_path and human_preference or rank"

    images: str | None = None

    def open(self, path: str | Path) -> Reading:
        """Read one JSON file, or all in a folder.

        Raises:
            DataError: when a file is no JSON list.
        """
        found = existing(path, "a JSON file or the folder it is in")
        files = sorted(found.glob("*.json")) if found.is_dir() else [found]
        if not files:
            raise DataError(
                got=f"{path} without JSON files", need="train.json or test.json", fix="Check it."
            )
        lists = [(file, read_list(file)) for file in files]
        rows = (row for file, records in lists for row in self._rows(file, records))
        return Reading(rows)

    def _rows(self, file: Path, records: list[Any]) -> Iterator[Draft | Fault]:
        beside = (file.parent, file.parent / file.stem, file.parent / "images")
        bases = beside if self.images is None else (Path(self.images),)
        for number, record in enumerate(records):
            origin = f"hpdv2:{file.name}#{number}"
            try:
                yield _draft(record, bases, origin)
            except Unfit as unfit:
                yield unfit.fault(origin)


def _draft(record: object, bases: tuple[Path, ...], origin: str) -> Draft:
    if not isinstance(record, dict):
        raise Unfit("wrong-type", f"a record of type {type(record).__name__}")
    facts = cast(dict[str, Any], record)
    names = facts.get("image_path")
    if names is None or "prompt" not in facts:
        raise Unfit("missing-field", "prompt or image_path")
    if not isinstance(names, list):
        raise Unfit("wrong-type", f"image_path of type {type(names).__name__}")
    paths = cast(list[Any], names)
    if len(paths) < 2:
        raise Unfit("wrong-count", f"{len(paths)} picture(s)")
    ranks = _ranks(facts, len(paths))
    if ranks is None:
        raise Unfit("unlabelled")
    return Draft(
        origin=origin,
        prompt=facts["prompt"],
        pictures=tuple(inside(bases, name) for name in paths),
        ranks=ranks,
        judge=f"hpdv2/{_who(facts.get('user_hash'))}",
        source="human",
    )


def _ranks(facts: dict[str, Any], count: int) -> tuple[int, ...] | None:
    ranks = ranking(facts.get("rank"), count, "rank")
    if ranks is not None:
        return ranks
    wins = ranking(facts.get("human_preference"), count, "human_preference")
    if wins is None:
        return None
    if not set(wins) <= {0, 1}:
        raise Unfit("label-out-of-range", f"human_preference {wins}")
    return tuple(-win for win in wins)


def _who(value: object) -> str:
    """One annotator's hash; a list of them stands for their combined answer."""
    return "combined" if isinstance(value, list) else word(value)
