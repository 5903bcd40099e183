"""A snapshot in which a random part of the pairs keeps people's labels, and all have a machine's.

This is how few people's labels are tried against many: the others are hidden, not changed, and the
snapshot's record says that the part was drawn at random, from which seed, who labelled the rest,
and what those labels are worth where people's can be held against them.

Read next: `machine.py`, where a machine's labels come from; `labelers.py`, what they are worth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.comparison import Comparison, relabelled
from palate.data.labelers import people_on, worths_in
from palate.data.machine import (
    Groups,
    Machine,
    Told,
    by_machine,
    by_people,
    opinions_in,
    opinions_of,
    said_already,
    said_by,
    said_tuned,
)
from palate.data.pack import Pack
from palate.data.snapshot import read_imports, read_rows
from palate.data.store import Snapshot, write_snapshot
from palate.data.synthetic import LABELLED_PART, drawn_at_random
from palate.data.votes import PairKey, by_pair
from palate.data.worth import Worth

# What a snapshot's record calls the labelers, and how one was tuned.
LABELERS: Final = "labelers"
TUNED: Final = "tuned"


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
        worths: What each machine's labels are worth, and those of all together; empty where no
            pair has both.
    """

    snapshot: Snapshot
    pairs: int
    people: int
    machine: int
    agree: float | None
    worths: tuple[Worth, ...] = ()


def label_part(
    snapshot: Path,
    out: Path,
    *,
    share: float,
    seed: int,
    machine: Machine | Sequence[Machine] | None = None,
    tuned: bool = False,
    told: Told | None = None,
) -> Part:
    """Keep people's labels on a random part of the pairs, and put a machine's on all of them.

    Records of more than two pictures become pairs. A machine's labels that are there already stay
    unless a machine is given or they are tuned; a pair without any label left stays as unlabelled.

    Args:
        snapshot: A frozen snapshot.
        out: The new snapshot's folder.
        share: The part of all pairs that keeps people's labels, in (0, 1].
        seed: Which part.
        machine: Who labels all pairs, one or several; None adds no labels.
        tuned: Make one labeler of the machines, or of their labels that are there, tuned on the
            labels that people keep; see `tuned.py`.
        told: Told (done, total) pictures scored.

    Raises:
        SettingError: when the share makes no sense.
        DataError: when the snapshot is damaged, nobody judged a pair, or there is too little to
            tune on.
        StateError: when `out` exists.
    """
    require(
        0 < share <= 1,
        got=f"a share of {share}",
        need="a share above 0, up to 1",
        fix="0.25 keeps people's labels on a quarter of the pairs; 1 on all of them.",
    )
    groups, pack = by_pair(read_rows(snapshot)), Pack(snapshot)
    judged = _judged(snapshot, groups)
    kept = set(_draw(judged, share, seed))
    machines = [machine] if isinstance(machine, Machine) else list(machine or ())
    origin = f"label-part of {snapshot.name}"
    said, how = said_already(groups), dict[str, Any]()
    if tuned:
        opinions = opinions_of(groups, machines, pack, told) if machines else opinions_in(groups)
        people = people_on(groups, opinions.keys, kept)
        said, how = said_tuned(groups, opinions, people, seed=seed, origin=origin)
    elif machines:
        said = said_by(groups, opinions_of(groups, machines, pack, told), machines, origin)
    made = {key: _labels(rows, key in kept, said.get(key, [])) for key, rows in groups.items()}
    worths = worths_in(made, pack)
    note: dict[str, Any] = {
        LABELLED_PART: {
            # A part of pairs that were picked in some other way is no random part of all of them.
            "at_random": len(judged) == len(groups) or drawn_at_random(snapshot),
            "share": share,
            "seed": seed,
            "pairs": len(groups),
            "people": len(kept),
            "machine": ", ".join(each.judge for each in machines) or None,
            "sharpness": TUNED if tuned else machines[0].sharpness if machines else None,
        }
    }
    note |= {LABELERS: [each.asdict() for each in worths]} if worths else {}
    note |= {TUNED: how} if how else {}
    rows = [row for group in made.values() for row in group]
    written = write_snapshot(out, rows, pack, [*read_imports(snapshot), note])
    return _summary(written, made, worths)


def _judged(snapshot: Path, groups: Groups) -> list[PairKey]:
    """The pairs that people judged."""
    judged = [key for key, rows in groups.items() if any(map(by_people, rows))]
    require(
        bool(judged),
        got=f"{snapshot} without a pair that people judged",
        need="people's labels to keep a part of",
        fix="`palate data show` counts labels by source.",
        kind=DataError,
    )
    return judged


def _draw(keys: Sequence[PairKey], share: float, seed: int) -> list[PairKey]:
    """The same part for the same seed, whatever else is in the snapshot's order."""
    streams = Streams(seed)
    count = max(1, round(share * len(keys)))
    return sorted(keys, key=lambda key: streams("labelled part", *key).seed)[:count]


def _labels(
    group: Sequence[Comparison], kept: bool, machines: Sequence[Comparison]
) -> list[Comparison]:
    """What remains of the labels of two pictures, or one unlabelled record of them."""
    people = [row for row in group if by_people(row) and kept]
    if people or machines:
        return [*people, *machines]
    first = group[0]
    return [relabelled(first, None, judge="nobody", source="unknown", origin=first.origin)]


def _summary(written: Snapshot, groups: Groups, worths: tuple[Worth, ...]) -> Part:
    people = [key for key, rows in groups.items() if any(map(by_people, rows))]
    machine = [key for key, rows in groups.items() if any(map(by_machine, rows))]
    same = [
        _winners(groups[key], by_machine) == _winners(groups[key], by_people)
        for key in sorted(set(people) & set(machine))
        if _winners(groups[key], by_machine) and _winners(groups[key], by_people)
    ]
    return Part(
        snapshot=written,
        pairs=len(groups),
        people=len(people),
        machine=len(machine),
        agree=sum(same) / len(same) if same else None,
        worths=worths,
    )


def _winners(rows: Sequence[Comparison], side: Callable[[Comparison], bool]) -> set[str]:
    """The pictures that machines, or people, preferred."""
    return {
        row.images[row.ranks.index(1)].sha256
        for row in rows
        if row.ranks is not None and not row.tie and side(row)
    }
