"""One soft label per pair from several votes: three ways, and what each assumes.

- `MeanVotes`: the share of the votes, drawn towards one half as far as the data say (the posterior
  mean of a beta-binomial). It assumes nothing of the judges: what anybody would probably say.
- `DawidSkene`: the probability that the *truth* prefers the first picture, if there is one truth
  per pair and each judge errs in their own way. Good judges weigh more. Where taste is divided
  there is no such truth, and its labels are too sure.
- `BradleyTerry`: every picture of a prompt has a strength, and chance does the rest. It helps where
  pictures meet in several pairs: A before B and B before C speaks for A before C.

Read next: `aggregate.py`, which writes them into a snapshot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast, final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from palate.core.problems import DataError, MissingExtra, require
from palate.data.agreement import Ballot
from palate.data.skill import fit_skills
from palate.data.votes import PairKey

Array = NDArray[np.float64]


class Aggregation(Protocol):
    """A way to make one label of several votes.

    Attributes:
        name: What it is called on the command line.
        short: What it is called in a judge's name.
    """

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        ...

    @property
    def short(self) -> str:
        """What it is called in a judge's name."""
        ...

    def labels(self, judged: Sequence[Ballot]) -> tuple[dict[PairKey, float], Mapping[str, Any]]:
        """Probability that the first picture is preferred, by pair; and what was fitted.

        Raises:
            DataError: when the votes cannot carry it.
            MissingExtra: when its package is not installed.
        """
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeanVotes:
    """The share of the votes for the first picture; a tie is half a vote for either.

    Attributes:
        doubt: Votes that are added on either side; None fits them to how far votes on the same pair
            agree (`fitted_doubt`).
    """

    doubt: float | None = None
    name: str = field(default="votes", init=False)
    short: str = field(default="mean", init=False)

    def labels(self, judged: Sequence[Ballot]) -> tuple[dict[PairKey, float], Mapping[str, Any]]:
        """The posterior mean (k + c) / (n + 2 c) of each pair."""
        c = fitted_doubt(judged) if self.doubt is None else self.doubt
        found = {
            ballot.pair: (sum(ballot.said.values()) + c) / (len(ballot.said) + 2 * c)
            for ballot in judged
        }
        return found, {"doubt": c}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DawidSkene:
    """The probability of the true order, from judges of unequal skill (Dawid and Skene 1979).

    The order of a pair means nothing, so every pair is fitted both ways round, which makes each
    judge's confusions of first and second the same. A tie is a third answer, and a third truth.
    """

    name: str = field(default="dawid-skene", init=False)
    short: str = field(default="ds", init=False)

    def labels(self, judged: Sequence[Ballot]) -> tuple[dict[PairKey, float], Mapping[str, Any]]:
        """P(first) + P(tie) / 2 of each pair."""
        skills = fit_skills(judged)
        found = {ballot.pair: skills.first(ballot) for ballot in judged}
        return found, {"judges": skills.judges, "fitted_pairs": skills.pairs}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BradleyTerry:
    """The chance that one picture beats the other, from strengths of all pictures of a prompt.

    Attributes:
        doubt: Votes that are added on either side of every pair that was judged; None fits them
            as in `MeanVotes`. A pair whose pictures meet no others gets the same label as there.
    """

    doubt: float | None = None
    name: str = field(default="bradley-terry", init=False)
    short: str = field(default="bt", init=False)

    def labels(self, judged: Sequence[Ballot]) -> tuple[dict[PairKey, float], Mapping[str, Any]]:
        """σ(strength of the first − strength of the second) of each pair."""
        c = fitted_doubt(judged) if self.doubt is None else self.doubt
        prompts: dict[str, list[Ballot]] = {}
        for ballot in judged:
            prompts.setdefault(ballot.pair[0], []).append(ballot)
        found: dict[PairKey, float] = {}
        for group in prompts.values():
            wins = [
                (ballot.pair[1], ballot.pair[2], first + c, len(ballot.said) - first + c)
                for ballot in group
                for first in [sum(ballot.said.values())]
            ]
            strength = strengths(wins)
            for ballot in group:
                gap = strength[ballot.pair[1]] - strength[ballot.pair[2]]
                found[ballot.pair] = float(special.expit(gap))
        return found, {"doubt": c}


AGGREGATIONS: Final[Mapping[str, Aggregation]] = {
    each.name: each for each in cast(list[Aggregation], [MeanVotes(), DawidSkene(), BradleyTerry()])
}


def fitted_doubt(judged: Sequence[Ballot]) -> float:
    """The votes to add on either side so that the others on a pair best foretell each vote.

    Each vote is left out in turn and foretold by the label of the rest; the c with the least
    squared error is taken. Under a symmetric Beta(c, c) of the shares that is this c. It is small
    where votes on a pair agree, large where they look like coins, and ties have their say: by
    likelihood they would not, as half a vote is nothing that a binomial can draw. One, where no
    pair has two votes: then nothing says how far to trust one.
    """
    several = [list(each.said.values()) for each in judged if len(each.said) > 1]
    if not several:
        return 1.0
    own = np.array([said for group in several for said in group])
    rest = np.array([sum(group) - said for group in several for said in group])
    count = np.array([len(group) - 1.0 for group in several for _ in group])

    def error(log_c: float) -> float:
        c = np.exp(log_c)
        return float(np.square((rest + c) / (count + 2 * c) - own).mean())

    best = optimize.minimize_scalar(error, bounds=np.log([0.02, 50.0]), method="bounded")
    return float(np.exp(cast(Any, best).x))


def strengths(wins: Sequence[tuple[str, str, float, float]]) -> dict[str, float]:
    """Bradley–Terry's log-strengths, by maximum likelihood, zero on the mean of each component.

    Args:
        wins: (one, other, wins of the one, wins of the other), all above zero; fractions are
            right. Things that meet through no chain of others have no common scale.

    Raises:
        MissingExtra: when the choix package is not installed.
    """
    found: dict[str, float] = {}
    for component in _components(wins):
        if len(component) == 1:
            one, other, for_one, for_other = component[0]
            half = float(np.log(for_one / for_other)) / 2
            found |= {one: half, other: -half}
            continue
        names = sorted({name for each in component for name in each[:2]})
        place = {name: index for index, name in enumerate(names)}
        table = np.zeros((len(names), len(names)))
        for one, other, for_one, for_other in component:
            table[place[one], place[other]] += for_one
            table[place[other], place[one]] += for_other
        found |= dict(zip(names, map(float, _fitted(table)), strict=True))
    return found


def _components(
    wins: Sequence[tuple[str, str, float, float]],
) -> list[list[tuple[str, str, float, float]]]:
    """Comparisons that hang together by what they compare."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    for one, other, _, _ in wins:
        root[find(one)] = find(other)
    groups: dict[str, list[tuple[str, str, float, float]]] = {}
    for each in wins:
        groups.setdefault(find(each[0]), []).append(each)
    return list(groups.values())


def _fitted(table: Array) -> Array:
    try:
        import choix
    except ImportError as error:
        raise MissingExtra(
            got="no choix package",
            need="it for Bradley-Terry strengths",
            fix="Install it: pip install 'palate[labels]'.",
        ) from error
    try:
        found = choix.ilsr_pairwise_dense(table, max_iter=1_000, tol=1e-8)
    except RuntimeError as error:
        raise DataError(
            got=f"votes on {len(table)} pictures whose strengths do not settle",
            need="votes of which none outweighs the others without limit",
            fix="Use --by votes.",
        ) from error
    require(
        bool(np.all(np.isfinite(found))),
        got=f"votes on {len(table)} pictures without finite strengths",
        need="some votes on either side of every pair",
        fix="Give a doubt above zero.",
        kind=DataError,
    )
    return np.asarray(found, np.float64)
