"""Each judge in numbers: how much they said, how often others say the same, where they look first.

Nobody knows the truth, so a judge is held against people: a person against the other people, a
machine against all of them. On every pair where their strict votes have a majority, does this judge
prefer the same picture? Machines never count in a majority, however many they are; only where no
person judged anything is a machine held against the other machines. Judges with few such pairs are
drawn towards the mean of their kind, as far as its judges differ at all.

Read next: `skill.py`, the same question with a model of the truth behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, final

import numpy as np
from scipy import optimize, special

from palate.core.stats import Estimate
from palate.data.agreement import Ballot, ballots, position
from palate.data.comparison import Source
from palate.data.shares import pooled_share
from palate.data.synthetic import MACHINES
from palate.data.votes import Vote

# By judge, the pairs they could be held against others on, and whether they agree there.
Held = dict[str, list[tuple[Ballot, bool]]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFacts:
    """What is known of one judge.

    Attributes:
        judge: Their name in the records.
        source: What kind of judge.
        votes: How many pairs they judged, counting a pair again each time they did.
        ties: How many of these votes prefer neither picture.
        agreement: How often they prefer what the majority of the other people prefers, or of the
            other machines where there are no people; None where there is no such pair.
        compared: On how many pairs that was looked at.
        shrunk: The same, drawn towards the mean of people, or of machines, where it rests on few
            pairs.
        shown_first: How often they prefer the picture they saw first, or how probable that is of a
            machine that saw both orders; None where no order is known.
    """

    judge: str
    source: Source
    votes: int
    ties: int
    agreement: Estimate | None
    compared: int
    shrunk: float | None
    shown_first: Estimate | None

    def asdict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "judge": self.judge,
            "source": self.source,
            "votes": self.votes,
            "ties": self.ties,
            "agreement": None if self.agreement is None else self.agreement.asdict(),
            "compared": self.compared,
            "shrunk": self.shrunk,
            "shown_first": None if self.shown_first is None else self.shown_first.asdict(),
        }


def judges_of(
    votes: Sequence[Vote],
    judged: Sequence[Ballot],
    *,
    both_ways: Mapping[str, Estimate] | None = None,
    confidence: float = 0.95,
) -> list[JudgeFacts]:
    """Every judge, the busiest first.

    Args:
        votes: All votes.
        judged: Their ballots.
        both_ways: What `agreement.asked_both_ways` found of machines.
        confidence: Nominal coverage of each judge's own intervals.
    """
    by_judge: dict[str, list[Vote]] = {}
    for vote in votes:
        by_judge.setdefault(vote.judge, []).append(vote)
    known, found = both_ways or {}, list[JudgeFacts]()
    for held in _by_kind(votes, judged):
        prior = _prior([[same for _, same in each] for each in held.values()])
        for judge, pairs in held.items():
            facts = _facts(judge, by_judge[judge], pairs, prior, confidence)
            first = known.get(judge) if facts.shown_first is None else facts.shown_first
            found.append(replace(facts, shown_first=first))
    return sorted(found, key=lambda each: (-each.votes, each.judge))


def _by_kind(votes: Sequence[Vote], judged: Sequence[Ballot]) -> list[Held]:
    """People, each against the others, and machines, each against people; nobody is left out."""
    names = {vote.judge for vote in votes}
    machines = {vote.judge for vote in votes if vote.source in MACHINES}
    if machines == names:
        held = against_others(judged)
        return [{name: held.get(name, []) for name in sorted(names)}]
    people = [
        Ballot(
            pair=each.pair,
            said={judge: side for judge, side in each.said.items() if judge not in machines},
        )
        for each in judged
    ]
    own, others = against_others(people), against_people(votes)
    return [
        {name: own.get(name, []) for name in sorted(names - machines)},
        {name: others.get(name, []) for name in sorted(machines)},
    ]


def against_others(judged: Sequence[Ballot]) -> Held:
    """By judge, each pair on which the others have a strict majority, and whether they agree."""
    held: Held = {}
    for ballot in judged:
        strict = ballot.strict
        for judge, side in strict.items():
            rest = [other for name, other in strict.items() if name != judge]
            lead = 2 * sum(rest) - len(rest)
            if lead != 0:
                held.setdefault(judge, []).append((ballot, (lead > 0) == (side > 0.5)))
    return held


def against_people(votes: Sequence[Vote]) -> Held:
    """By machine, each pair on which people have a strict majority, and whether it agrees.

    People without a name count here, each vote by itself: of two equal ones an import keeps one,
    so that a pair with one dissenter among them has no majority.
    """
    by_people = ballots([vote for vote in votes if vote.source not in MACHINES], everyone=True)
    lead = {each.pair: sum(side - 0.5 for side in each.strict.values()) for each in by_people}
    held: Held = {}
    for ballot in ballots([vote for vote in votes if vote.source in MACHINES]):
        more = lead.get(ballot.pair, 0.0)
        for judge, side in ballot.strict.items() if more else ():
            held.setdefault(judge, []).append((ballot, (more > 0) == (side > 0.5)))
    return held


def _facts(
    judge: str,
    votes: Sequence[Vote],
    held: Sequence[tuple[Ballot, bool]],
    prior: tuple[float, float],
    confidence: float,
) -> JudgeFacts:
    same = [float(agrees) for _, agrees in held]
    prompts = [ballot.pair[0] for ballot, _ in held]
    mean, weight = prior
    return JudgeFacts(
        judge=judge,
        source=votes[0].source,
        votes=len(votes),
        ties=sum(vote.first == 0.5 for vote in votes),
        agreement=pooled_share(same, prompts, confidence=confidence) if same else None,
        compared=len(same),
        shrunk=(sum(same) + weight * mean) / (len(same) + weight) if same else None,
        shown_first=position(votes, confidence=confidence),
    )


def _prior(held: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Mean agreement of these judges, and how many pairs that mean is worth against a judge's own.

    The most likely beta-binomial with the pooled mean; judges that do not differ give the bound.
    """
    n = np.array([len(each) for each in held if each], np.float64)
    k = np.array([sum(each) for each in held if each], np.float64)
    if len(n) == 0:
        return 0.5, 1.0
    mean = float(np.clip(k.sum() / n.sum(), 0.01, 0.99))

    def unlikely(log_weight: float) -> float:
        a, b = mean * np.exp(log_weight), (1 - mean) * np.exp(log_weight)
        return -float((special.betaln(k + a, n - k + b) - special.betaln(a, b)).sum())

    best = optimize.minimize_scalar(unlikely, bounds=np.log([0.5, 1_000.0]), method="bounded")
    return mean, float(np.exp(cast(Any, best).x))
