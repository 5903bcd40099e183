"""One recorded judgement: somebody looked at pictures made for a prompt and said which is better.

A record keeps everything a later reader may doubt: who judged, what kind of judge it was, in
which order the pictures were shown, and how each picture was made. Its identity is a digest of
its content, with the pictures in a canonical order, so that the same judgement imported twice,
or with its sides swapped, is recognised.

Read next: `ingest.py`, the gate every picture passes, and `store.py`, where records live.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, final, get_args

from palate.core.files import digest_bytes, digest_json
from palate.core.problems import DataError, require

Source = Literal["human", "scorer", "vlm", "self", "world", "unknown"]
SOURCES_OF_LABELS: tuple[Source, ...] = get_args(Source)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """A normalised picture, named by its content.

    Attributes:
        sha256: Digest of size and RGB bytes.
        width: In pixels.
        height: In pixels.
    """

    sha256: str
    width: int
    height: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one judge said about two or more pictures made for the same prompt.

    Attributes:
        id: Digest of the content. Duplicates have the same one.
        prompt: What the pictures were asked to show.
        images: At least two different pictures, in the order the source lists them.
        ranks: One per picture, 1 is best, equal numbers are a tie; None where nobody labelled.
        agreement: Two pictures only: probability that the first is preferred; 0.5 is a tie.
        judge: Who judged, unique across sources.
        source: What kind of judge it was.
        shown: The order the pictures were shown in, as indices into `images`, where recorded.
        judged_at: When, as the source wrote it.
        generation: Per picture, how it was made (model, seed, steps, …), where recorded.
        origin: Where the record came from, for messages.
        signature: What a machine says of how it came to its answer (version, rubric, both raw
            answers, …); None where nothing was recorded. No part of the identity.
    """

    id: str
    prompt: str
    images: tuple[ImageRef, ...]
    ranks: tuple[int, ...] | None
    agreement: float | None
    judge: str
    source: Source
    shown: tuple[int, ...] | None
    judged_at: str | None
    generation: tuple[Mapping[str, Any] | None, ...]
    origin: str
    signature: Mapping[str, Any] | None = None

    @property
    def tie(self) -> bool:
        """Whether the judge saw no difference between any of the pictures."""
        return self.ranks is not None and len(set(self.ranks)) == 1

    @property
    def labelled(self) -> bool:
        """Whether anybody answered."""
        return self.ranks is not None

    def to_json(self) -> str:
        """One line of canonical JSON."""
        value: dict[str, Any] = {
            "id": self.id,
            "prompt": self.prompt,
            "images": [[image.sha256, image.width, image.height] for image in self.images],
            "ranks": self.ranks,
            "agreement": self.agreement,
            "judge": self.judge,
            "source": self.source,
            "shown": self.shown,
            "judged_at": self.judged_at,
            "generation": [None if facts is None else dict(facts) for facts in self.generation],
            "origin": self.origin,
        }
        # Left out where there is none: the digests of snapshots without it stay what they were.
        if self.signature is not None:
            value["signature"] = dict(self.signature)
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        """Digest of everything except where the record came from."""
        value = json.loads(self.to_json())
        value.pop("origin")
        return digest_json(value)


def compare(
    *,
    prompt: str,
    images: Sequence[ImageRef],
    ranks: Sequence[int] | None = None,
    agreement: float | None = None,
    judge: str = "unknown",
    source: Source = "unknown",
    shown: Sequence[int] | None = None,
    judged_at: str | None = None,
    generation: Sequence[Mapping[str, Any] | None] | None = None,
    origin: str = "",
    signature: Mapping[str, Any] | None = None,
) -> Comparison:
    """Make a record, checked and named.

    For two pictures, give `ranks` or `agreement`; the other one follows.

    Raises:
        DataError: when the parts do not fit together.
    """
    pictures, (places, chance) = tuple(images), _label(len(images), ranks, agreement)
    order = None if shown is None else tuple(shown)
    facts = tuple(generation) if generation is not None else (None,) * len(pictures)
    _check(pictures, order, facts, source, origin)
    return Comparison(
        id=_identity(prompt, pictures, places, chance, judge, source, order, judged_at),
        prompt=prompt,
        images=pictures,
        ranks=places,
        agreement=chance,
        judge=judge,
        source=source,
        shown=order,
        judged_at=judged_at,
        generation=facts,
        origin=origin,
        signature=signature,
    )


def relabelled(
    row: Comparison,
    agreement: float | None,
    *,
    judge: str | None = None,
    source: Source | None = None,
    origin: str | None = None,
    signature: Mapping[str, Any] | None = None,
) -> Comparison:
    """The same two pictures, in the same order, with another label.

    Where `judge` is given, somebody else said it: the order shown, the time and the signature
    were the old judge's and are not kept.

    Args:
        row: A record of two pictures.
        agreement: The new label; None for none.
        judge: Who judged, where it is not who did before.
        source: What kind of judge it is, where it is another.
        origin: Where the new record came from, where it is not from the same place.
        signature: How a new judge came to the answer.

    Raises:
        DataError: when the record has more than two pictures, or the label is no probability.
    """
    same = judge is None
    return compare(
        prompt=row.prompt,
        images=row.images,
        agreement=agreement,
        judge=row.judge if judge is None else judge,
        source=row.source if source is None else source,
        shown=row.shown if same else None,
        judged_at=row.judged_at if same else None,
        generation=row.generation,
        origin=row.origin if origin is None else origin,
        signature=row.signature if same else signature,
    )


def from_json(line: str) -> Comparison:
    """Read back a line written by `Comparison.to_json`.

    Raises:
        DataError: when the line is not such a record, or its content does not match its id.
    """
    try:
        value = cast(dict[str, Any], json.loads(line))
        made = compare(
            prompt=value["prompt"],
            images=[ImageRef(sha256=s, width=w, height=h) for s, w, h in value["images"]],
            ranks=value["ranks"],
            agreement=value["agreement"],
            judge=value["judge"],
            source=value["source"],
            shown=value["shown"],
            judged_at=value["judged_at"],
            generation=value["generation"],
            origin=value["origin"],
            signature=value.get("signature"),
        )
        named = str(value["id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            got=f"a line that is not a comparison ({error!r})",
            need="a record written by palate",
            fix="Restore the file, or import the data again.",
        ) from error
    require(
        made.id == named,
        got=f"record {named[:12]} whose content was changed",
        need="content that matches its id",
        fix="Restore the file, or import the data again.",
        kind=DataError,
    )
    return made


def _label(
    count: int, ranks: Sequence[int] | None, agreement: float | None
) -> tuple[tuple[int, ...] | None, float | None]:
    """Ranks (made dense, from 1) and agreement, each filled in from the other."""
    if agreement is not None:
        require(
            count == 2 and math.isfinite(agreement) and 0 <= agreement <= 1,
            got=f"agreement {agreement} on {count} pictures",
            need="a probability, on two pictures",
            fix="Give ranks for more than two pictures.",
            kind=DataError,
        )
        implied = (1, 1) if agreement == 0.5 else (1, 2) if agreement > 0.5 else (2, 1)
        require(
            ranks is None or _dense(ranks) == implied,
            got=f"ranks {ranks} with agreement {agreement}",
            need="a label that says one thing",
            fix="Give ranks or agreement, not both.",
            kind=DataError,
        )
        return implied, float(agreement)
    if ranks is None:
        return None, None
    require(
        len(ranks) == count,
        got=f"{len(ranks)} ranks for {count} pictures",
        need="one rank per picture",
        fix="Correct the record.",
        kind=DataError,
    )
    places = _dense(ranks)
    return places, _CHANCES.get(places)


_CHANCES: dict[tuple[int, ...], float] = {(1, 2): 1.0, (2, 1): 0.0, (1, 1): 0.5}


def _dense(ranks: Sequence[int]) -> tuple[int, ...]:
    place = {rank: index for index, rank in enumerate(sorted(set(ranks)), start=1)}
    return tuple(place[rank] for rank in ranks)


def _check(
    images: tuple[ImageRef, ...],
    shown: tuple[int, ...] | None,
    generation: tuple[Mapping[str, Any] | None, ...],
    source: str,
    origin: str,
) -> None:
    problems = [
        (len(images) < 2, f"{len(images)} picture(s)", "at least two pictures"),
        (len({i.sha256 for i in images}) < len(images), "the same picture twice", "two pictures"),
        (
            shown is not None and sorted(shown) != list(range(len(images))),
            f"order shown {shown}",
            "every picture's index once",
        ),
        (
            len(generation) != len(images),
            f"{len(generation)} generation records",
            "one per picture, or None",
        ),
        (source not in SOURCES_OF_LABELS, f"source={source!r}", ", ".join(SOURCES_OF_LABELS)),
    ]
    for wrong, got, need in problems:
        require(
            not wrong,
            got=f"{got} in {origin or 'a comparison'}",
            need=need,
            fix="Correct the record, or leave it out.",
            kind=DataError,
        )


def _identity(
    prompt: str,
    images: tuple[ImageRef, ...],
    ranks: tuple[int, ...] | None,
    agreement: float | None,
    judge: str,
    source: str,
    shown: tuple[int, ...] | None,
    judged_at: str | None,
) -> str:
    """The same whichever side each picture was recorded on."""
    order = sorted(range(len(images)), key=lambda index: images[index].sha256)
    turned = agreement if agreement is None or order == [0, 1] else 1 - agreement
    parts: list[Any] = [
        prompt,
        [images[index].sha256 for index in order],
        None if ranks is None else [ranks[index] for index in order],
        turned,
        judge,
        source,
        None if shown is None else [images[index].sha256 for index in shown],
        judged_at,
    ]
    return digest_bytes(json.dumps(parts, separators=(",", ":")).encode())
