"""ImageReward: pictures of one prompt ranked by an expert, with ties (Xu et al., 2023).

Two shapes are published and both are read: ImageRewardDB, with one record per picture
(`image_path`, `prompt_id`, `prompt`, `rank`, ratings), and the benchmark file, with one record
per prompt (`id`, `prompt`, `generations`, `ranking`). Lower ranks are better.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast, final

from palate.core.problems import DataError
from palate.data.sources.draft import Draft, Fault, Importer, Reading, Unfit, inside, ranking, word
from palate.data.sources.text import existing, read_list

RATINGS = ("overall_rating", "image_text_alignment_rating", "fidelity_rating")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReward(Importer):
    """ImageRewardDB's JSON files, or the benchmark's, with their pictures.

    Attributes:
        images: Folder the picture names are relative to. Without it they are looked for in the
            folder given, then beside the JSON file.
    """

    name: ClassVar[str] = "imagereward"
    about: ClassVar[str] = "JSON list with one record per ranked picture, or per prompt"

    images: str | None = None

    def open(self, path: str | Path) -> Reading:
        """Read one JSON file, or all under a folder.

        A record of ImageRewardDB is one picture; the rows counted are prompts, or records that
        belong to none.

        Raises:
            DataError: when a file is no JSON list.
        """
        found = existing(path, "a JSON file or the folder it is in")
        files = sorted(found.rglob("*.json")) if found.is_dir() else [found]
        if not files:
            raise DataError(
                got=f"{path} without JSON files",
                need="the JSON files of ImageRewardDB",
                fix="Unpack the data set first.",
            )
        root = found if found.is_dir() else found.parent
        lists = [(file, read_list(file)) for file in files]
        rows = (row for file, records in lists for row in self._rows(root, file, records))
        return Reading(rows)

    def _rows(self, root: Path, file: Path, records: list[Any]) -> Iterator[Draft | Fault]:
        bases = (root, file.parent) if self.images is None else (Path(self.images),)
        for origin, group in _groups(file, records):
            try:
                yield _draft(group, bases, origin)
            except Unfit as unfit:
                yield unfit.fault(origin)


def _groups(file: Path, records: list[Any]) -> Iterator[tuple[str, list[object]]]:
    """Records that belong together: those of one prompt, or one that holds a whole ranking."""
    prompts: dict[str, list[object]] = {}
    for number, record in enumerate(records):
        facts = cast(dict[str, Any], record) if isinstance(record, dict) else {}
        key = facts.get("prompt_id")
        if isinstance(key, str) and "generations" not in facts:
            prompts.setdefault(f"imagereward:{file.name}#prompt {word(key)}", []).append(facts)
        else:
            yield f"imagereward:{file.name}#{number}", [record]
    yield from prompts.items()


def _draft(group: list[object], bases: tuple[Path, ...], origin: str) -> Draft:
    if not isinstance(group[0], dict):
        raise Unfit("wrong-type", f"a record of type {type(group[0]).__name__}")
    records = cast(list[dict[str, Any]], group)
    first = records[0]
    if "generations" in first:
        names, ranks = first["generations"], first.get("ranking")
    else:
        names = [record.get("image_path") for record in records]
        ranks = [record.get("rank") for record in records]
        ranks = None if all(rank is None for rank in ranks) else ranks
    if not isinstance(names, list):
        raise Unfit("wrong-type", f"generations of type {type(names).__name__}")
    if any(record.get("prompt") != first.get("prompt") for record in records):
        raise Unfit("labels-disagree", "one prompt id with different prompts")
    paths = cast(list[Any], names)
    if None in paths or "prompt" not in first:
        raise Unfit("missing-field", "prompt or image_path")
    if len(paths) < 2:
        raise Unfit("wrong-count", f"{len(paths)} picture(s)")
    places = ranking(ranks, len(paths), "rank")
    if places is None:
        raise Unfit("unlabelled")
    facts = tuple(_ratings(record) for record in records)
    return Draft(
        origin=origin,
        prompt=first["prompt"],
        pictures=tuple(inside(bases, name) for name in paths),
        ranks=places,
        judge="imagereward/expert",
        source="human",
        generation=facts if len(facts) == len(paths) else None,
    )


def _ratings(record: dict[str, Any]) -> dict[str, Any] | None:
    kept = {name: record[name] for name in RATINGS if isinstance(record.get(name), int)}
    return kept or None
