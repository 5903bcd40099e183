"""Winner and loser per line: the shape people invent for themselves, under its usual names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast, final, get_args

from palate.core.problems import DataError, unknown
from palate.data.comparison import SOURCES_OF_LABELS, Source
from palate.data.sources.draft import (
    Draft,
    Fault,
    Importer,
    Reading,
    Unfit,
    inside,
    probability,
    word,
)
from palate.data.sources.text import existing, read_lines

PROMPT = ("prompt", "caption", "text")
CHOSEN = ("chosen", "winner", "win", "preferred")
REJECTED = ("rejected", "loser", "lose", "dispreferred")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Winners(Importer):
    """JSON lines with prompt, chosen and rejected (or winner and loser) file names.

    Optional per line: `agreement` (probability that `chosen` is better; 0.5 is a tie), `judge`,
    `source`, `judged_at`.

    Attributes:
        images: Folder the picture names are relative to; the file's own folder without it.
        labels: What kind of judge made the labels, where a line does not say.
    """

    name: ClassVar[str] = "jsonl"
    about: ClassVar[str] = "JSON lines with prompt, chosen and rejected picture files"

    images: str | None = None
    labels: Source = "unknown"

    def __post_init__(self) -> None:
        if self.labels not in SOURCES_OF_LABELS:
            raise unknown("labels", str(self.labels), SOURCES_OF_LABELS)

    def open(self, path: str | Path) -> Reading:
        """Read one file line by line.

        Raises:
            DataError: when the file does not exist.
        """
        found = existing(path, "a JSON-lines file")
        if not found.is_file():
            raise DataError(got=f"{path}, a folder", need="a JSON-lines file", fix="Name the file.")
        return Reading(self._rows(found))

    def _rows(self, file: Path) -> Iterator[Draft | Fault]:
        base = file.parent if self.images is None else Path(self.images)
        for line in read_lines(file, self.name):
            if isinstance(line, Fault):
                yield line
                continue
            origin, facts = line
            try:
                yield self._draft(facts, base, origin)
            except Unfit as unfit:
                yield unfit.fault(origin)

    def _draft(self, facts: dict[str, Any], base: Path, origin: str) -> Draft:
        prompt, better, worse = (_first(facts, names) for names in (PROMPT, CHOSEN, REJECTED))
        agreement = probability(facts.get("agreement", 1.0), "agreement")
        if agreement is None:
            raise Unfit("unlabelled")
        source = facts.get("source", self.labels)
        if source not in get_args(Source):
            raise Unfit("wrong-type", f"source {word(source)}")
        when = facts.get("judged_at")
        return Draft(
            origin=origin,
            prompt=prompt,
            pictures=(inside((base,), better), inside((base,), worse)),
            agreement=agreement,
            judge=word(facts.get("judge")),
            source=cast(Source, source),
            judged_at=word(when, "") or None,
        )


def _first(facts: dict[str, Any], names: tuple[str, ...]) -> object:
    for name in names:
        if name in facts:
            return facts[name]
    raise Unfit("missing-field", " or ".join(names))
