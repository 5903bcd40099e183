"""`palate data judges` and `palate data aggregate`: many judges, and one label of theirs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from palate.cli.app import Flag
from palate.cli.console import emit, next_steps, say, table
from palate.core.problems import DataError, require

if TYPE_CHECKING:
    from palate.core.stats import Estimate
    from palate.data import aggregate as aggregates
    from palate.data.agreement import Ballot
    from palate.data.comparison import Comparison
    from palate.data.judges import JudgeFacts
    from palate.data.models import ModelFacts
    from palate.data.votes import Vote

    # By name: what it is called in a table, and the number.
    Side = dict[str, tuple[str, Estimate | int | None]]


def judges(folder: Path, /, *, most: int = 20, json: Flag = False) -> None:
    """Say how far the judges agree, who of them can be relied on, and who looks left first.

    People and machines are told apart: a person is held against the majority of
    the other people, a machine against people's. Ties are left out there, and
    judges without a name everywhere but in the counts and in what machines are
    held against. Intervals are at 95 %, with the prompt as the unit.

    Args:
        folder: A store, or a frozen snapshot.
        most: How many judges to print, the busiest first; --json has them all.
        json: Print JSON and nothing else.
    """
    from palate.data.agreement import asked_both_ways, ballots
    from palate.data.judges import judges_of

    require(most >= 1, got=f"--most {most}", need="at least 1", fix="--json has all judges.")
    rows, votes = _votes(folder)
    found = judges_of(votes, ballots(votes), both_ways=asked_both_ways(rows))
    sides, (whose, models) = _sides(votes), _models(rows, votes)
    if json:
        emit(
            {
                **{name: side and _plain(side) for name, side in sides.items()},
                "by_judge": [each.asdict() for each in found],
                "models": [each.asdict() for each in models],
                "models_by": whose,
            }
        )
        return
    for name, side in sides.items():
        if side is not None:
            table((name, str(folder)), [(words, _words(each)) for words, each in side.values()])
            say()
    against = "the others" if sides["people"] is None else "people"
    table(
        ("judge", "kind", "votes", "ties", f"agrees with {against}", "drawn in", "first shown"),
        [_line(each) for each in found[:most]],
    )
    if len(found) > most:
        say(f"… and {len(found) - most:,} more (--most)")
    if models:
        say()
        lines = [(each.model, _words(each.beats), f"{each.votes:,}") for each in models]
        table((f"model, by {whose}", "preferred to an average one", "votes"), lines)
    if (folder / "snapshot.json").is_file():
        next_steps(f"palate data aggregate {folder} soft-labels", f"palate audit {folder}")
    else:
        next_steps(f"palate data freeze {folder} my-pairs")


def aggregate(
    snapshot: Path,
    out: Path,
    /,
    *,
    by: Literal["votes", "dawid-skene", "bradley-terry"] = "votes",
    only: Literal["human", "scorer", "vlm", "self", "world", "unknown"] | None = None,
    json: Flag = False,
) -> None:
    """Make one soft label per pair of all the votes on it, in a new snapshot.

    People's votes and machines' are never mixed: a pair that both judged gets
    two labels. A machine that is alone keeps its own. A tie is half a vote for
    either picture, a single vote makes a label too, and a pair that nobody
    judged stays unlabelled.

    Args:
        snapshot: A frozen snapshot.
        out: The folder of the new snapshot.
        by: What weighs the votes: their number (votes), the skill of each judge (dawid-skene),
            or the strength of each picture among all of its prompt (bradley-terry).
        only: Take only votes of this kind; labels of other kinds stay as they are beside them.
        json: Print JSON and nothing else.
    """
    from dataclasses import asdict

    from palate.data.aggregate import aggregate as make
    from palate.data.soft import AGGREGATIONS

    made = make(snapshot, out, by=AGGREGATIONS[by], only=only)
    if json:
        facts = asdict(made)
        facts.pop("snapshot")
        emit({"path": made.snapshot.path, "digest": made.snapshot.digest, **facts})
        return
    for name, side in (("people", made.people), ("machines", made.machines)):
        if side is not None:
            _tell(name, side, made.pairs)
    say(
        f"{out}: {made.unlabelled:,} pairs stay unlabelled, "
        f"{made.carried:,} other labels stay as they were"
    )
    next_steps(
        f"palate data show {out}",
        f"palate train --model shipped --data {out} --out runs/soft",
    )


def _tell(name: str, side: "aggregates.Side", pairs: int) -> None:
    """What was made of people's votes, or of machines'."""
    say(
        f"{name}: {side.labelled:,} of {pairs:,} pairs have one label of {side.votes:,} votes by "
        f"{side.judges:,} judges, signed {side.judge!r}, source {side.source}; "
        f"{side.single:,} stand on a single vote, {side.ties:,} came out as ties"
    )


def _votes(folder: Path) -> "tuple[list[Comparison], list[Vote]]":
    """The records of a store or a snapshot, and the votes in them."""
    from palate.data.snapshot import read_rows
    from palate.data.store import SNAPSHOT, Store
    from palate.data.votes import votes_of

    frozen = (folder / SNAPSHOT).is_file()
    rows = read_rows(folder) if frozen else list(Store(folder, create=False).rows())
    votes = votes_of(rows)
    require(
        bool(votes),
        got=f"{folder}, in which nobody judged a pair",
        need="votes",
        fix="`palate data show` counts what is there.",
        kind=DataError,
    )
    return rows, votes


def _apart(votes: "list[Vote]") -> "dict[str, list[Vote]]":
    """People's votes and machines'."""
    from palate.data.synthetic import MACHINES

    return {
        "people": [vote for vote in votes if vote.source not in MACHINES],
        "machines": [vote for vote in votes if vote.source in MACHINES],
    }


def _models(rows: "list[Comparison]", votes: "list[Vote]") -> "tuple[str, list[ModelFacts]]":
    """Whose votes rank the models, people's where there are any; and the ranking."""
    from palate.data.models import models_of

    apart = _apart(votes)
    whose = "people" if apart["people"] else "machines"
    return whose, models_of(rows, apart[whose])


def _sides(votes: "list[Vote]") -> "dict[str, Side | None]":
    """What is said of people together, and of machines: a name, its words, and the number."""
    from palate.data.agreement import ballots, expected_flips

    sides: dict[str, Side | None] = {}
    for name, mine in _apart(votes).items():
        sides[name] = _together(mine, ballots(mine)) if mine else None
    people = sides["people"]
    if people is not None:
        # Not of machines: it takes mistakes that do not go together.
        flips = expected_flips(ballots(_apart(votes)["people"]))
        people["expected_flips"] = ("expected flips", flips)
    return sides


def _together(votes: "list[Vote]", judged: "list[Ballot]") -> "Side":
    """What is said of all these judges together."""
    from palate.data.agreement import alpha, contradictory, pairwise_agreement, position

    shared = sum(len(ballot.said) > 1 for ballot in judged)
    return {
        "votes": ("votes", len(votes)),
        "pairs": ("pairs", len({vote.pair for vote in votes})),
        "judges": ("judges", len({vote.judge for vote in votes})),
        "pairs_with_two_judges": ("pairs with two judges", shared),
        "alpha": ("Krippendorff's alpha", alpha(judged)),
        "alpha_ties_between": ("alpha, ties half-way", alpha(judged, level="interval")),
        "pairwise_agreement": ("two judges agree", pairwise_agreement(judged)),
        "contradictory": ("contradictory pairs", contradictory(judged)),
        "shown_first": ("first shown preferred", position(votes)),
    }


def _plain(side: "Side") -> dict[str, object]:
    numbers = {name: each for name, (_, each) in side.items()}
    return {
        name: each if each is None or isinstance(each, int) else each.asdict()
        for name, each in numbers.items()
    }


def _line(each: "JudgeFacts") -> tuple[str, ...]:
    return (
        each.judge,
        each.source,
        f"{each.votes:,}",
        f"{each.ties:,}",
        _share(each.agreement, each.compared),
        "–" if each.shrunk is None else f"{each.shrunk:.2f}",
        _share(each.shown_first, 0 if each.shown_first is None else each.shown_first.measurements),
    )


def _share(each: "Estimate | None", pairs: int) -> str:
    """For example `0.81 [0.77, 0.85] of 402`."""
    return "–" if each is None else f"{each.value:.2f} [{each.low:.2f}, {each.high:.2f}] of {pairs}"


def _words(each: "Estimate | int | None") -> str:
    if isinstance(each, int):
        return f"{each:,}"
    return "not known" if each is None else str(each)
