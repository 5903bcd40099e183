"""A snapshot in which a random part of the pairs keeps people's labels, and all have a machine's.

This is how few people's labels are tried against many: the others are hidden, not changed, and the
snapshot's record says that the part was drawn at random, from which seed, and who labelled the
rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.comparison import Comparison, Source, compare
from palate.data.pack import Pack
from palate.data.snapshot import read_imports, read_rows
from palate.data.store import Snapshot, write_snapshot
from palate.data.synthetic import LABELLED_PART, MACHINES, agreement_of, drawn_at_random
from palate.data.votes import PairKey, by_pair

AT_ONCE = 64
Score = Callable[[Sequence[NDArray[np.uint8]], Sequence[str]], NDArray[np.float64]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Who labels the pairs that people's labels are taken from, and the others.

    Attributes:
        judge: Its name in the records, unlike any other's.
        score: Pictures and prompts → one number each.
        sharpness: What differences of scores are multiplied by; None gives hard labels.
        source: What kind of judge it is.
    """

    judge: str
    score: Score
    sharpness: float | None = 1.0
    source: Source = "scorer"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What was made.

    Attributes:
        snapshot: The new snapshot.
        pairs: Different pairs of pictures in it.
        people: How many of them kept people's labels.
        machine: How many of them have a machine's label.
        agree: Of those with both, the share where the two prefer the same picture.
    """

    snapshot: Snapshot
    pairs: int
    people: int
    machine: int
    agree: float | None


def label_part(
    snapshot: Path,
    out: Path,
    *,
    share: float,
    seed: int,
    machine: Machine | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Part:
    """Keep people's labels on a random part of the pairs, and put a machine's on all of them.

    Records of more than two pictures become pairs. A machine's labels that are there already stay
    unless a machine is given; a pair without any label left stays as unlabelled.

    Args:
        snapshot: A frozen snapshot.
        out: The new snapshot's folder.
        share: The part of all pairs that keeps people's labels, in (0, 1].
        seed: Which part.
        machine: Who labels all pairs; None adds no labels.
        told: Told (done, total) pictures scored.

    Raises:
        SettingError: when the share makes no sense.
        DataError: when the snapshot is damaged or nobody judged a pair.
        StateError: when `out` exists.
    """
    require(
        0 < share <= 1,
        got=f"a share of {share}",
        need="a share above 0, up to 1",
        fix="0.25 keeps people's labels on a quarter of the pairs; 1 on all of them.",
    )
    groups, pack = by_pair(read_rows(snapshot)), Pack(snapshot)
    judged = [key for key, rows in groups.items() if any(map(_by_people, rows))]
    require(
        bool(judged),
        got=f"{snapshot} without a pair that people judged",
        need="people's labels to keep a part of",
        fix="`palate data show` counts labels by source.",
        kind=DataError,
    )
    kept = set(_draw(judged, share, seed))
    scores = {} if machine is None else _scores(machine.score, groups, pack, told)
    rows = [
        row
        for key, group in groups.items()
        for row in _relabelled(group, key in kept, machine, scores, snapshot)
    ]
    # A part of pairs that were picked in some other way is no random part of all of them.
    at_random = len(judged) == len(groups) or drawn_at_random(snapshot)
    note = {
        LABELLED_PART: {
            "at_random": at_random,
            "share": share,
            "seed": seed,
            "pairs": len(groups),
            "people": len(kept),
            "machine": None if machine is None else machine.judge,
            "sharpness": None if machine is None else machine.sharpness,
        }
    }
    made = write_snapshot(out, rows, pack, [*read_imports(snapshot), note])
    return _summary(made, by_pair(rows))


def _by_people(row: Comparison) -> bool:
    return row.labelled and row.source not in MACHINES


def _draw(keys: Sequence[PairKey], share: float, seed: int) -> list[PairKey]:
    """The same part for the same seed, whatever else is in the snapshot's order."""
    streams = Streams(seed)
    count = max(1, round(share * len(keys)))
    return sorted(keys, key=lambda key: streams("labelled part", *key).seed)[:count]


def _scores(
    score: Score,
    groups: dict[PairKey, list[Comparison]],
    pack: Pack,
    told: Callable[[int, int], None] | None,
) -> dict[tuple[str, str], float]:
    """The machine's score of each picture with its prompt; those that are not finite left out."""
    names = list(dict.fromkeys((key[0], name) for key in groups for name in key[1:]))
    found: dict[tuple[str, str], float] = {}
    for start in range(0, len(names), AT_ONCE):
        few = names[start : start + AT_ONCE]
        answers = score([pack.get(name) for _, name in few], [prompt for prompt, _ in few])
        found |= dict(zip(few, map(float, answers), strict=True))
        if told is not None:
            told(start + len(few), len(names))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _relabelled(
    group: Sequence[Comparison],
    kept: bool,
    machine: Machine | None,
    scores: dict[tuple[str, str], float],
    snapshot: Path,
) -> list[Comparison]:
    """What remains of the labels of two pictures, or one unlabelled record of them."""
    people = [row for row in group if _by_people(row) and kept]
    machines = [row for row in group if row.labelled and row.source in MACHINES]
    first = group[0]
    if machine is not None:
        machines = _said(first, machine, scores, snapshot)
    if people or machines:
        return [*people, *machines]
    return [_again(first, None, "nobody", "unknown", first.origin)]


def _said(
    row: Comparison, machine: Machine, scores: dict[tuple[str, str], float], snapshot: Path
) -> list[Comparison]:
    """The machine's own record of two pictures; none where it could not score one of them."""
    first, second = (scores.get((row.prompt, image.sha256)) for image in row.images)
    if first is None or second is None:
        return []
    agreement = agreement_of(first - second, machine.sharpness)
    origin = f"label-part of {snapshot.name}"
    return [_again(row, agreement, machine.judge, machine.source, origin)]


def _again(
    row: Comparison, agreement: float | None, judge: str, source: Source, origin: str
) -> Comparison:
    """The same pictures with another label."""
    return compare(
        prompt=row.prompt,
        images=row.images,
        agreement=agreement,
        judge=judge,
        source=source,
        generation=row.generation,
        origin=origin,
    )


def _summary(made: Snapshot, groups: dict[PairKey, list[Comparison]]) -> Part:
    people = [key for key, rows in groups.items() if any(map(_by_people, rows))]
    machine = [key for key, rows in groups.items() if any(r.source in MACHINES for r in rows)]
    same = [
        _winners(groups[key], machines=True) == _winners(groups[key], machines=False)
        for key in sorted(set(people) & set(machine))
        if _winners(groups[key], machines=True) and _winners(groups[key], machines=False)
    ]
    return Part(
        snapshot=made,
        pairs=len(groups),
        people=len(people),
        machine=len(machine),
        agree=sum(same) / len(same) if same else None,
    )


def _winners(rows: Sequence[Comparison], *, machines: bool) -> set[str]:
    """The pictures that machines, or people, preferred."""
    return {
        row.images[row.ranks.index(1)].sha256
        for row in rows
        if row.ranks is not None and not row.tie and (row.source in MACHINES) == machines
    }
