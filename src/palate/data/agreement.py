"""How far judges agree about the same two pictures, and what that says of their labels.

The first picture of a pair is the one with the smaller digest, which means nothing: every number
here is the same if any pair is turned round. A judge counts once per pair; one who was asked twice
counts with the mean of their answers. Judges whom nobody named cannot be told apart and are left
out. Intervals take the prompt as the unit, because the pairs of one prompt share their pictures.

Read next: `judges.py`, who of them can be relied on, and `soft.py`, labels from several votes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, cast, final

import numpy as np

from palate.core.stats import Estimate
from palate.data.alpha import Level, krippendorff_alpha
from palate.data.comparison import Comparison
from palate.data.shares import pooled_share
from palate.data.votes import PairKey, Vote


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """What judges said of one pair.

    Attributes:
        pair: Prompt and pictures, in their canonical order.
        said: By judge: the probability that the pair's first picture is preferred; the mean of
            their answers, where one judge gave several.
    """

    pair: PairKey
    said: Mapping[str, float]

    @property
    def sides(self) -> dict[str, float]:
        """By judge: 1 prefers the first picture, 0 the second, 0.5 neither."""
        return {judge: 0.5 + 0.5 * ((p > 0.5) - (p < 0.5)) for judge, p in self.said.items()}

    @property
    def strict(self) -> dict[str, float]:
        """The sides of the judges who prefer one of the two."""
        return {judge: side for judge, side in self.sides.items() if side != 0.5}


def unnamed(judge: str) -> bool:
    """Whether a judge's name only says that it is not known."""
    return judge.rpartition("/")[2] in ("unknown", "nobody", "")


def ballots(votes: Iterable[Vote], *, everyone: bool = False) -> list[Ballot]:
    """One ballot per pair that anybody judged, in an order that does not depend on the votes'.

    Args:
        votes: Votes on any pairs.
        everyone: Whether votes without a judge's name count too, each as a judge of its own. Not
            for agreement: of two equal votes without a name an import keeps one.
    """
    heard: dict[PairKey, dict[str, list[float]]] = {}
    for vote in votes:
        nameless = unnamed(vote.judge)
        if everyone or not nameless:
            judge = f"{vote.row}/unknown" if nameless else vote.judge
            heard.setdefault(vote.pair, {}).setdefault(judge, []).append(vote.first)
    return [
        Ballot(pair=pair, said={judge: sum(p) / len(p) for judge, p in sorted(judges.items())})
        for pair, judges in sorted(heard.items())
    ]


def alpha(judged: Sequence[Ballot], *, level: Level = "nominal", seed: int = 0) -> Estimate | None:
    """Krippendorff's α of what judges said of pairs: 1 is full agreement, 0 is chance.

    Every pair is counted both ways round, so that α does not depend on which picture comes first.

    Args:
        judged: Ballots; those of a single judge say nothing of agreement.
        level: `nominal` takes a tie as a third answer, `interval` as half-way between the two.
        seed: Seed of the resampling.

    Returns:
        None where fewer than two pairs were judged by two, or all of them are ties.

    Raises:
        MissingExtra: when the krippendorff package is not installed.
    """
    shared = [ballot for ballot in judged if len(ballot.said) > 1]
    if len(shared) < 2 or not any(ballot.strict for ballot in shared):
        return None
    said = [list(ballot.sides.values()) for ballot in shared]
    turned = [[1 - side for side in sides] for sides in said]
    prompts = [ballot.pair[0] for ballot in shared]
    found = krippendorff_alpha([*said, *turned], [*prompts, *prompts], level=level, seed=seed)
    return replace(found, measurements=found.measurements // 2)


def pairwise_agreement(judged: Sequence[Ballot]) -> Estimate | None:
    """How often two judges who both prefer a picture of a pair prefer the same one."""
    values, prompts = list[float](), list[str]()
    for ballot in judged:
        strict = list(ballot.strict.values())
        if len(strict) > 1:
            same = [one == other for one, other in combinations(strict, 2)]
            values.append(sum(same) / len(same))
            prompts.append(ballot.pair[0])
    return pooled_share(values, prompts) if values else None


def contradictory(judged: Sequence[Ballot]) -> Estimate | None:
    """The share of pairs with opposite strict votes, of those with at least two strict votes.

    It grows with the number of votes per pair; `pairwise_agreement` does not.
    """
    several = [ballot for ballot in judged if len(ballot.strict) > 1]
    if not several:
        return None
    opposite = [float(len(set(ballot.strict.values())) > 1) for ballot in several]
    return pooled_share(opposite, [ballot.pair[0] for ballot in several])


def expected_flips(judged: Sequence[Ballot]) -> Estimate | None:
    """The share of single strict votes that are not what the pair deserves, from disagreement.

    If every pair had one true order and votes were flipped independently at the rate ε, two of
    them would differ with probability D = 2ε(1 − ε), so ε = (1 − √(1 − 2D)) / 2. Where taste is
    divided, judges also differ without any error: ε is then an upper bound of the errors. Where
    judges err together, because some pairs are harder, ε is too low; where judges differ in skill,
    it is about their mean.
    """
    same = pairwise_agreement(judged)
    if same is None:
        return None
    return Estimate(
        value=_flips(1 - same.value),
        low=_flips(1 - same.high),
        high=_flips(1 - same.low),
        n=same.n,
        measurements=same.measurements,
        method="from pairwise disagreement, one truth per pair and independent flips",
    )


def position(votes: Iterable[Vote], *, confidence: float = 0.95) -> Estimate | None:
    """How often the picture that was shown first is preferred, where the order is recorded.

    One half is no bias, if the order was drawn at random. Ties are left out.
    """
    placed = [vote for vote in votes if vote.shown_first is not None and vote.first != 0.5]
    if not placed:
        return None
    first = [float((vote.first > 0.5) == vote.shown_first) for vote in placed]
    return pooled_share(first, [vote.pair[0] for vote in placed], confidence=confidence)


def asked_both_ways(rows: Iterable[Comparison], *, confidence: float = 0.95) -> dict[str, Estimate]:
    """Of machines asked in both orders: how probable it is that they name the one shown first.

    By judge, from the signatures of their labels, over pairs and both orders. Pairs on which a
    machine contradicted itself got no label and are not here, so that bias is understated.
    """
    said: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        first = _first_of_both(row.signature)
        if row.labelled and first is not None:
            said.setdefault(row.judge, []).append((first, row.prompt))
    return {
        judge: pooled_share(
            [first for first, _ in each], [prompt for _, prompt in each], confidence=confidence
        )
        for judge, each in said.items()
    }


def _first_of_both(signature: Mapping[str, Any] | None) -> float | None:
    """The mean probability of the picture shown first over both orders, where both are signed."""
    steps = (signature or {}).get("asked")
    if not isinstance(steps, list):
        return None
    firsts: dict[Any, Any] = {
        step.get("step"): step.get("first")
        for step in cast(list[Any], steps)
        if isinstance(step, dict)
    }
    both = [firsts.get(order) for order in ("forth", "back")]
    numbers = [float(first) for first in both if isinstance(first, int | float)]
    return sum(numbers) / 2 if len(numbers) == 2 else None


def _flips(disagreement: float) -> float:
    return (1 - float(np.sqrt(max(0.0, 1 - 2 * disagreement)))) / 2
