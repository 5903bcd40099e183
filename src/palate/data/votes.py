"""Who said what of which two pictures: comparisons taken apart into votes, and grouped by pair.

A record of more than two pictures holds a vote on every two of them. Two records of the same two
pictures for the same prompt are votes on one pair, whichever side each picture stood on.

Read next: `synthetic.py`, which sets people's votes beside machines'.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

from palate.data.comparison import Comparison, Source, compare

# A prompt and the digests of its two pictures, the smaller digest first.
PairKey = tuple[str, str, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one judge said of two pictures.

    Attributes:
        pair: Prompt and pictures, in their canonical order.
        judge: Who said it.
        source: What kind of judge that is.
        first: Probability that the first picture of `pair` is preferred; one half is a tie.
        shown_first: Whether that picture was shown first; None where the order is not known.
        row: Id of the record it was taken from.
    """

    pair: PairKey
    judge: str
    source: Source
    first: float
    shown_first: bool | None
    row: str


def two_by_two(row: Comparison) -> Iterator[Comparison]:
    """A record of two pictures as it is; of more, every two of them."""
    if len(row.images) == 2:
        yield row
        return
    for first, second in combinations(range(len(row.images)), 2):
        ranks = None if row.ranks is None else [row.ranks[first], row.ranks[second]]
        shown = None
        if row.shown is not None:
            shown = (0, 1) if row.shown.index(first) < row.shown.index(second) else (1, 0)
        yield compare(
            prompt=row.prompt,
            images=[row.images[first], row.images[second]],
            ranks=ranks,
            judge=row.judge,
            source=row.source,
            shown=shown,
            judged_at=row.judged_at,
            generation=[row.generation[first], row.generation[second]],
            origin=row.origin,
            signature=row.signature,
        )


def key_of(row: Comparison) -> PairKey:
    """The pair that a record of two pictures is about."""
    one, other = sorted(image.sha256 for image in row.images)
    return row.prompt, one, other


def by_pair(rows: Iterable[Comparison]) -> dict[PairKey, list[Comparison]]:
    """Records of two pictures each, by the pair they are about; unlabelled ones too."""
    groups: dict[PairKey, list[Comparison]] = {}
    for row in rows:
        for two in two_by_two(row):
            groups.setdefault(key_of(two), []).append(two)
    return groups


def votes_of(rows: Sequence[Comparison]) -> list[Vote]:
    """Every vote in some records, in their order; unlabelled records hold none."""
    return [
        _vote(two, row.id) for row in rows for two in two_by_two(row) if two.agreement is not None
    ]


def _vote(two: Comparison, row: str) -> Vote:
    pair = key_of(two)
    turned = two.images[0].sha256 != pair[1]
    agreement = two.agreement if two.agreement is not None else 0.5
    shown_first = None if two.shown is None else (two.shown[0] == 0) != turned
    return Vote(
        pair=pair,
        judge=two.judge,
        source=two.source,
        first=1 - agreement if turned else agreement,
        shown_first=shown_first,
        row=row,
    )
