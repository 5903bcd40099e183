"""A new snapshot with one soft label per pair, made of all the votes on it.

People's votes and machines' are never mixed: a pair that both judged gets two labels, one of each.
What tells them apart later, such as DeDPO, still can.

Nothing is lost: the snapshot it came from stays as it is, each new record's signature says how
many votes it stands on, and the snapshot's own record says what was done with ties, single votes
and pairs that nobody judged.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from palate.core.files import digest_json
from palate.core.problems import DataError, require
from palate.data.agreement import Ballot, ballots
from palate.data.comparison import SOURCES_OF_LABELS, Comparison, Source, compare
from palate.data.pack import Pack
from palate.data.snapshot import read_imports, read_rows
from palate.data.soft import Aggregation
from palate.data.store import Snapshot, write_snapshot
from palate.data.synthetic import MACHINES
from palate.data.votes import PairKey, Vote, by_pair, votes_of

# What a snapshot's record, and the signature of a label made of several votes, call it.
AGGREGATED: Final = "aggregated"
PEOPLE: Final = frozenset(SOURCES_OF_LABELS) - MACHINES


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What was made of people's votes, or of machines'.

    Attributes:
        judge: The name under which the new labels stand.
        source: `human` where every vote is a person's; of machines their kind, `scorer` where
            there are several; of others that are no machines `unknown`, where there are several.
        labelled: Pairs with a new label.
        single: How many of these stand on one vote.
        ties: How many of the new labels are exactly one half.
        votes: How many votes went in.
        judges: Of how many judges, those without a name counting as one each vote.
    """

    judge: str
    source: Source
    labelled: int
    single: int
    ties: int
    votes: int
    judges: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregated:
    """What was made.

    Attributes:
        snapshot: The new snapshot.
        pairs: Different pairs of pictures.
        people: Of people's votes; None where none went in.
        machines: Of machines' votes; None where none went in.
        carried: Records that were taken over as they were: other kinds of judges than those asked
            for, or the only machine there is.
        unlabelled: How many pairs nobody judged; they stay so.
    """

    snapshot: Snapshot
    pairs: int
    people: Side | None
    machines: Side | None
    carried: int
    unlabelled: int


def aggregate(
    snapshot: Path, out: Path, *, by: Aggregation, only: Source | None = None
) -> Aggregated:
    """Write a snapshot with one label per judged pair of people's votes, and one of machines'.

    A tie is half a vote for either picture. A single vote gives a label too, as sure as votes on
    other pairs proved to be. A pair that nobody judged stays unlabelled. Which pairs have labels
    by people stays as it was, so that a labelled part that was drawn at random still is.

    One machine alone has no others to be weighed with: its labels stay as they are, unless they
    are asked for with `only`.

    Args:
        snapshot: A frozen snapshot.
        out: The new snapshot's folder.
        by: How votes become a label.
        only: Take only the votes of this kind of judge; records of other kinds stay as they are.

    Raises:
        DataError: when the snapshot is damaged, nobody (of that kind) judged a pair, or the votes
            of people or of machines cannot be fitted by themselves.
        MissingExtra: when the package that `by` needs is not installed.
        StateError: when `out` exists.
    """
    rows = read_rows(snapshot)
    groups, sides = by_pair(rows), _sides(votes_of(rows), only)
    require(
        bool(sides),
        got=f"{snapshot} without a vote" + (f" of source {only}" if only else " to weigh"),
        need="votes by people, or by several machines; with --only, of that kind",
        fix="`palate data show` counts labels by source.",
        kind=DataError,
    )
    facts = {"by": by.name, "only": only, "from": digest_json(sorted(row.id for row in rows))}
    made, told, taken = list[Comparison](), dict[str, Side](), set[Source]()
    for name, votes in sides.items():
        side, fitted, labels = _side(name, votes, groups, by, facts)
        made, told[name] = [*made, *labels], side
        facts = {**facts, name: {**asdict(side), "fitted": dict(fitted)}}
        taken |= {vote.source for vote in votes}
    labelled = [row for group in groups.values() for row in group if row.labelled]
    carried = [row for row in labelled if row.source not in taken]
    bare = [group[0] for group in groups.values() if not any(row.labelled for row in group)]
    counts = {"pairs": len(groups), "carried": len(carried), "unlabelled": len(bare)}
    note = {AGGREGATED: {**facts, **counts}}
    written = write_snapshot(
        out, [*made, *carried, *bare], Pack(snapshot), [*read_imports(snapshot), note]
    )
    return Aggregated(
        snapshot=written, people=told.get("people"), machines=told.get("machines"), **counts
    )


def is_aggregated(row: Comparison) -> bool:
    """Whether a record is a label made of several votes."""
    return row.signature is not None and AGGREGATED in row.signature


def _sides(votes: Sequence[Vote], only: Source | None) -> dict[str, list[Vote]]:
    """The votes to aggregate: people's and machines' apart, or those of one kind of judge."""
    found = {
        name: [vote for vote in votes if vote.source in kinds and only in (None, vote.source)]
        for name, kinds in (("people", PEOPLE), ("machines", MACHINES))
    }
    if only is None and len({vote.judge for vote in found["machines"]}) == 1:
        found["machines"] = []
    return {name: mine for name, mine in found.items() if mine}


def _side(
    name: str,
    votes: Sequence[Vote],
    groups: Mapping[PairKey, Sequence[Comparison]],
    by: Aggregation,
    facts: Mapping[str, Any],
) -> tuple[Side, Mapping[str, Any], list[Comparison]]:
    """One side's labels, what was fitted for them, and their counts."""
    judged = {ballot.pair: ballot for ballot in ballots(votes, everyone=True)}
    labels, fitted = _fitted(name, list(judged.values()), by)
    source = _source({vote.source for vote in votes})
    judge = f"votes:{by.short} {digest_json({**facts, 'of': name, **fitted})[:12]}"
    rows = [
        _label(ballot, groups[key], labels[key], judge, source, by.name)
        for key, ballot in judged.items()
    ]
    side = Side(
        judge=judge,
        source=source,
        labelled=len(rows),
        single=sum(len(ballot.said) == 1 for ballot in judged.values()),
        ties=sum(row.tie for row in rows),
        votes=len(votes),
        judges=len({judge for ballot in judged.values() for judge in ballot.said}),
    )
    return side, fitted, rows


def _fitted(
    name: str, judged: Sequence[Ballot], by: Aggregation
) -> tuple[dict[PairKey, float], Mapping[str, Any]]:
    """Labels of these ballots; a refusal says whose votes they were."""
    try:
        return by.labels(judged)
    except DataError as error:
        raise DataError(
            got=f"votes of {name}: {error.got}",
            need=error.need,
            fix=f"{error.fix} --only takes one kind of judge and leaves the others as they are.",
        ) from error


def _source(kinds: Collection[Source]) -> Source:
    """What kind of judge several are together."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return "scorer" if set(kinds) <= MACHINES else "unknown"


def _label(
    ballot: Ballot,
    group: Sequence[Comparison],
    first: float,
    judge: str,
    source: Source,
    by: str,
) -> Comparison:
    """The one record of a pair by one side, its pictures in their canonical order."""
    key = ballot.pair
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
