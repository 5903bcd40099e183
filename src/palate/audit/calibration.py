r"""From what was foretold of a pair, and its votes, to the probability that a vote is a minority's.

How much better most people find one picture of a pair is not known; what was foretold of it, the
log-odds $z$ in some unit, says where it probably lies. A vote depends on it in one of two ways.

*Flips.* Everybody agrees, and a share ε of the votes was turned round, whatever the pair. With
$q = \sigma(s z)$ a vote is as recorded with probability $p = (1-\epsilon)q + \epsilon(1-q)$, and

$$\text{doubt} = \epsilon\,(1-q)/p$$

*People.* They disagree most where pictures are nearly equal: the gap is $g = s z + \tau\eta$ with a
normal η, an honest vote is for it with probability $\sigma(g)$ (Bradley and Terry), a share ε is
turned round on top, and most people are against it where $g < 0$.

What the votes leave open of s, τ and ε is a weight on a grid, from a flat prior; doubts are means
over it. Single votes cannot tell the two ways apart, nor τ: which of them holds is assumed.

Votes on one prompt may be wrong together. What the grid leaves open of their share is widened by
how much more surprises add up within prompts than one by one (the design effect; Kish 1965), and
what other prompts would have been like comes on top.

Read next: `minority.py`, where log-odds come from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, ndtri, xlog1py, xlogy

from palate.core.stats import Estimate
from palate.data.shares import further

RATES: Final = np.linspace(0.005, 0.495, 50)
SHARPNESS: Final = np.geomspace(0.1, 20.0, 30)
# Middles of slices of equal probability of a normal number.
NODES: Final = ndtri((np.arange(41) + 0.5) / 41)[:, None]
# Where log-odds are alike to a fiftieth of their spread, they count as equal for the weights.
STEPS: Final = 50
# Up to so many pairs doubts are computed one by one; of more, to a five-hundredth of the spread.
ONE_BY_ONE: Final = 10_000
FINE_STEPS: Final = 500
# Less than this of what is left open changes no doubt that anybody could see.
NEGLIGIBLE: Final = 1e-4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Why a vote may be against most people's.

    Attributes:
        assumes: What is assumed, as a sentence.
        spreads: How far gaps may lie from what was foretold, τ in logit units of an honest judge;
            infinite where everybody agrees.
    """

    assumes: str = field(repr=False)
    spreads: tuple[float, ...]


FLIPS: Final = Noise(
    assumes="Assumed: people agree, and labels are turned round at one rate, whatever the pair.",
    spreads=(math.inf,),
)
PEOPLE: Final = Noise(
    assumes="Assumed: people disagree most where pictures are nearly equal (Bradley-Terry), and "
    "some labels are turned round on top.",
    spreads=(0.5, 1.0, 2.0, 4.0),
)

# By the word that the command line takes.
NOISES: Final[Mapping[str, Noise]] = {"people": PEOPLE, "flips": FLIPS}


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What votes leave open of τ, the sharpness s and the flip rate ε.

    Attributes:
        noise: Why votes may be against most people's.
        weight: Probability of each spread, sharpness and rate together, [t, s, r].
        scale: What log-odds are divided by: their root mean square.
        effect: How many votes that are wrong together are worth one that stands alone.
    """

    noise: Noise
    weight: Float[np.ndarray, "t s r"]
    scale: float
    effect: float = 1.0

    @classmethod
    def of(
        cls,
        logits: Float[np.ndarray, " n"],
        ahead: Float[np.ndarray, " n"],
        behind: Float[np.ndarray, " n"],
        noise: Noise = PEOPLE,
        rate: float | None = None,
        prompts: Sequence[str] | None = None,
    ) -> "Calibration":
        """Learn from log-odds foretold without the votes, and the votes.

        Args:
            logits: One per pair; positive speaks for one of its sides. Any unit will do.
            ahead: Votes for that side.
            behind: Votes for the other.
            noise: Why votes may be against most people's.
            rate: The flip rate, where it is known from elsewhere.
            prompts: The prompt of each pair, where pairs share prompts.
        """
        scale = max(float(np.sqrt(np.square(logits).mean())), 1e-12)
        cells, at, counts = _alike(logits / scale, ahead, behind, STEPS, 10)
        likely = np.full((len(noise.spreads), len(SHARPNESS), len(RATES)), -np.inf)
        known = range(len(RATES)) if rate is None else [int(np.abs(RATES - rate).argmin())]
        for t, s in np.ndindex(likely.shape[:2]):
            cases = _cases(noise.spreads[t], float(SHARPNESS[s]), cells[0])
            for r in known:
                chance, _ = _weighed(cases, float(RATES[r]), cells[1], cells[2])
                likely[t, s, r] = float(np.log(chance) @ counts)
        t, s, r = np.unravel_index(int(likely.argmax()), likely.shape)
        cases = _cases(noise.spreads[t], float(SHARPNESS[s]), cells[0])
        single, _ = _weighed(cases, float(RATES[r]), np.ones(1), np.zeros(1))
        surprise = np.sign(logits) * (ahead - (ahead + behind) * single[at])
        weight = np.exp(likely - likely.max())
        return cls(
            noise=noise,
            weight=weight / weight.sum(),
            scale=scale,
            effect=_design_effect(surprise, _codes(prompts, len(logits))),
        )

    def doubts(
        self,
        logits: Float[np.ndarray, " n"],
        ahead: Float[np.ndarray, " n"],
        behind: Float[np.ndarray, " n"],
        prompts: Sequence[str] | None = None,
    ) -> tuple[Float[np.ndarray, " n"], Estimate]:
        """Probability that most people are against the side that positive log-odds speak for.

        Returns:
            The doubt of each pair's side, [n]; and the share of votes that most people would not
            give, with an interval for what is left open and for which prompts there are.
        """
        kept = self._kept()
        fine = (FINE_STEPS, 100) if len(logits) > ONE_BY_ONE else (None, None)
        (z, more, less), at, counts = _alike(logits / self.scale, ahead, behind, *fine)
        found, shares, chance = np.zeros(len(z)), np.zeros(len(kept)), 0.0
        weight = self.weight[tuple(kept.T)]
        weight = weight / weight.sum()
        votes = max(float((ahead + behind).sum()), 1e-12)
        for place, (t, s, r) in enumerate(kept):
            cases = _cases(self.noise.spreads[t], float(SHARPNESS[s]), z)
            _, against = _weighed(cases, float(RATES[r]), more, less)
            found += weight[place] * against
            shares[place] = float(counts @ (more * against + less * (1 - against))) / votes
            moved = counts @ (np.square(more - less) * against * (1 - against))
            chance += weight[place] * float(moved) / votes**2
        against, codes = found[at], _codes(prompts, len(logits))
        told = ahead * against + behind * (1 - against)
        rest = np.bincount(codes, weights=told - told.sum() / votes * (ahead + behind))
        between = float(np.square(rest).sum()) / votes**2
        units = int(codes.max()) + 1
        tails = further(units, 0.95) * units / (units - 1) if units > 1 else math.inf
        spread = tails * math.sqrt(self.effect * chance + between)
        n = round(votes)
        ends = _share(weight, shares, tails * math.sqrt(self.effect), 1.96 * spread)
        method = "posterior on a grid, flat prior; widened for prompts"
        return against, Estimate(**ends, n=units, measurements=n, method=method)

    def _kept(self) -> Int[np.ndarray, "k 3"]:
        """The points of the grid that matter."""
        return np.argwhere(self.weight > NEGLIGIBLE * self.weight.max())


def _alike(
    logits: Float[np.ndarray, " n"],
    ahead: Float[np.ndarray, " n"],
    behind: Float[np.ndarray, " n"],
    steps: int | None,
    parts: int | None,
) -> tuple[Float[np.ndarray, "3 m"], Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Pairs that count as equal, to a step of their log-odds and a part of a vote.

    Returns:
        The different ones, [3, m]; which of them each pair is, [n]; how many pairs each is, [m].
    """
    if steps is not None and parts is not None:
        logits = np.round(logits * steps) / steps
        ahead, behind = (np.round(votes * parts) / parts for votes in (ahead, behind))
    cells, at, counts = np.unique(
        np.stack([logits, ahead, behind]), axis=1, return_inverse=True, return_counts=True
    )
    return cells, at.reshape(-1), counts


def _codes(prompts: Sequence[str] | None, count: int) -> Int[np.ndarray, " n"]:
    """The number of each pair's prompt; each its own where none are told."""
    if prompts is None:
        return np.arange(count)
    return np.unique(np.array(prompts), return_inverse=True)[1].reshape(-1)


def _design_effect(surprise: Float[np.ndarray, " n"], codes: Int[np.ndarray, " n"]) -> float:
    """How much more surprises of pairs spread when added up by prompt than one by one; at least 1.

    1 where no two pairs share a prompt.
    """
    rest = surprise - surprise.mean()
    together = float(np.square(np.bincount(codes, weights=rest)).sum())
    return max(1.0, together / max(float(np.square(rest).sum()), 1e-12))


def _share(
    weight: Float[np.ndarray, " k"], shares: Float[np.ndarray, " k"], wider: float, more: float
) -> dict[str, float]:
    """The mean share; its middle 95 % over the grid, made so much wider, and more on top."""
    order, mean = np.argsort(shares), float(weight @ shares)
    total = np.cumsum(weight[order])
    ends = [order[min(int(np.searchsorted(total, q)), len(order) - 1)] for q in (0.025, 0.975)]
    if math.isinf(wider):
        return {"value": mean, "low": 0.0, "high": 1.0}
    low, high = (math.hypot(wider * (float(shares[end]) - mean), more) for end in ends)
    return {"value": mean, "low": max(0.0, mean - low), "high": min(1.0, mean + high)}


Cases = tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m n"], Float[np.ndarray, "m n"]]


def _cases(spread: float, sharpness: float, logits: Float[np.ndarray, " n"]) -> Cases:
    """How it may be with each pair: probability, an honest vote's chance, and most people's side.

    All [m, n], where m is the number of cases; 1 is the side that positive log-odds speak for.
    """
    if math.isinf(spread):
        for_it = expit(sharpness * logits)
        side = np.repeat(np.array([[1.0], [0.0]]), len(logits), axis=1)
        return np.stack([for_it, 1 - for_it]), side, side
    # A wider spread flattens what single votes show; the grid of sharpness is made up for it.
    steeper = sharpness * math.sqrt(1 + 0.35 * spread**2)
    gap = steeper * logits[None, :] + spread * NODES
    return np.full_like(gap, 1 / len(NODES)), expit(gap), 0.5 + 0.5 * np.sign(gap)


def _weighed(
    cases: Cases, rate: float, ahead: Float[np.ndarray, " n"], behind: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Probability of each pair's votes, and that most people are against its side given them."""
    probability, honest, side = cases
    chance = rate + (1 - 2 * rate) * honest
    joint = probability * np.exp(xlogy(ahead, chance) + xlog1py(behind, -chance))
    total = joint.sum(0)
    return total, (joint * (1 - side)).sum(0) / total
