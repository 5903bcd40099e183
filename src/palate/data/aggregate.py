"""A new snapshot with one soft label per pair, made of all the votes on it.

Nothing is lost: the snapshot it came from stays as it is, each new record's signature says how
many votes it stands on, and the snapshot's own record says what was done with ties, single votes
and pairs that nobody judged.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from palate.core.files import digest_json
from palate.core.problems import DataError, require
from palate.data.agreement import Ballot, ballots
from palate.data.comparison import Comparison, Source, compare
from palate.data.pack import Pack
from palate.data.snapshot import read_imports, read_rows
from palate.data.soft import Aggregation
from palate.data.store import Snapshot, write_snapshot
from palate.data.votes import PairKey, by_pair, key_of, votes_of

# What a snapshot's record, and the signature of a label made of several votes, call it.
AGGREGATED: Final = "aggregated"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregated:
    """What was made.

    Attributes:
        snapshot: The new snapshot.
        judge: The name under which the new labels stand.
        source: `human` where all votes are people's; `unknown` where sources were mixed.
        pairs: Different pairs of pictures.
        labelled: How many have a new label.
        single: How many of these stand on one vote.
        ties: How many of the new labels are exactly one half.
        unlabelled: How many pairs nobody judged; they stay so.
        votes: How many votes went in.
        judges: Of how many judges, those without a name counting as one each vote.
        carried: Records of other sources that were taken over as they were.
    """

    snapshot: Snapshot
    judge: str
    source: Source
    pairs: int
    labelled: int
    single: int
    ties: int
    unlabelled: int
    votes: int
    judges: int
    carried: int


def aggregate(
    snapshot: Path, out: Path, *, by: Aggregation, only: Source | None = None
) -> Aggregated:
    """Write a snapshot with one soft-labelled record per pair that was judged.

    A tie is half a vote for either picture. A single vote gives a label too, as sure as votes on
    other pairs proved to be. A pair that nobody judged stays unlabelled.

    Args:
        snapshot: A frozen snapshot.
        out: The new snapshot's folder.
        by: How votes become a label.
        only: Take only the votes of this kind of judge; records of other kinds stay as they are.

    Raises:
        DataError: when the snapshot is damaged, or nobody (of that kind) judged a pair.
        MissingExtra: when the package that `by` needs is not installed.
        StateError: when `out` exists.
    """
    rows = read_rows(snapshot)
    votes = [vote for vote in votes_of(rows) if only is None or vote.source == only]
    require(
        bool(votes),
        got=f"{snapshot} without a vote" + (f" of source {only}" if only else ""),
        need="votes to aggregate",
        fix="`palate data show` counts labels by source.",
        kind=DataError,
    )
    judged = {ballot.pair: ballot for ballot in ballots(votes, everyone=True)}
    labels, fitted = by.labels(list(judged.values()))
    sources = {vote.source for vote in votes}
    source: Source = votes[0].source if len(sources) == 1 else "unknown"
    facts = {"by": by.name, "only": only, "from": digest_json(sorted(row.id for row in rows))}
    judge = f"votes:{by.short} {digest_json({**facts, **fitted})[:12]}"
    groups = by_pair(rows)
    made = [
        _label(key, groups[key], labels[key], judged[key], judge, source, by.name) for key in judged
    ]
    carried = [
        row
        for group in groups.values()
        for row in group
        if row.labelled and only is not None and row.source != only
    ]
    told = {key_of(row) for row in carried}
    bare = [group[0] for key, group in groups.items() if key not in judged and key not in told]
    counts = {
        "pairs": len(groups),
        "labelled": len(made),
        "single": sum(len(ballot.said) == 1 for ballot in judged.values()),
        "ties": sum(row.tie for row in made),
        "unlabelled": len(bare),
        "votes": len(votes),
        "judges": len({judge for ballot in judged.values() for judge in ballot.said}),
        "carried": len(carried),
    }
    note = {AGGREGATED: {**facts, **fitted, **counts, "judge": judge, "source": source}}
    written = write_snapshot(
        out, [*made, *carried, *bare], Pack(snapshot), [*read_imports(snapshot), note]
    )
    return Aggregated(snapshot=written, judge=judge, source=source, **counts)


def is_aggregated(row: Comparison) -> bool:
    """Whether a record is a label made of several votes."""
    return row.signature is not None and AGGREGATED in row.signature


def _label(
    key: PairKey,
    group: Sequence[Comparison],
    first: float,
    ballot: Ballot,
    judge: str,
    source: Source,
    by: str,
) -> Comparison:
    """The one record of a pair, its pictures in their canonical order."""
    images = {image.sha256: image for row in group for image in row.images}
    made = {
        image.sha256: facts
        for row in reversed(group)
        for image, facts in zip(row.images, row.generation, strict=True)
        if facts is not None
    }
    sides = Counter(ballot.sides.values())
    votes = {"first": sides[1.0], "second": sides[0.0], "ties": sides[0.5]}
    return compare(
        prompt=key[0],
        images=[images[name] for name in key[1:]],
        agreement=min(max(first, 0.0), 1.0),
        judge=judge,
        source=source,
        generation=[made.get(name) for name in key[1:]],
        origin=group[0].origin,
        signature={AGGREGATED: {"by": by, "votes": votes}},
    )
