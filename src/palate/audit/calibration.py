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

Read next: `minority.py`, where log-odds come from.
"""

import math
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, xlog1py, xlogy
from scipy.stats import norm

from palate.core.problems import require
from palate.core.stats import Estimate

RATES: Final = np.linspace(0.005, 0.495, 50)
SHARPNESS: Final = np.geomspace(0.1, 20.0, 30)
# Middles of slices of equal probability of a normal number.
NODES: Final = norm.ppf((np.arange(41) + 0.5) / 41)[:, None]
# Where log-odds are alike to a fiftieth of their spread, they count as equal for the weights.
STEPS: Final = 50
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


def flip_posterior(foretold: Float[np.ndarray, " n"], rate: float) -> Float[np.ndarray, " n"]:
    """Probability that each label was turned round, from how probable it was as recorded, [n].

    `foretold` is calibrated for the labels as they are, turned ones among them: p above. q is
    cut to [0, 1] where p goes beyond what ε allows.

    Raises:
        SettingError: when the rate is not in [0, 1/2).
    """
    require(
        0 <= rate < 0.5,
        got=f"a flip rate of {rate}",
        need="a share from 0 to below one half",
        fix="At one half labels say nothing.",
    )
    clean = np.clip((foretold - rate) / (1 - 2 * rate), 0.0, 1.0)
    recorded = (1 - rate) * clean + rate * (1 - clean)
    return rate * (1 - clean) / np.maximum(recorded, 1e-12)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What votes leave open of τ, the sharpness s and the flip rate ε.

    Attributes:
        noise: Why votes may be against most people's.
        weight: Probability of each spread, sharpness and rate together, [t, s, r].
        scale: What log-odds are divided by: their root mean square.
    """

    noise: Noise
    weight: Float[np.ndarray, "t s r"]
    scale: float

    @classmethod
    def of(
        cls,
        logits: Float[np.ndarray, " n"],
        ahead: Float[np.ndarray, " n"],
        behind: Float[np.ndarray, " n"],
        noise: Noise = PEOPLE,
        rate: float | None = None,
    ) -> "Calibration":
        """Learn from log-odds foretold without the votes, and the votes.

        Args:
            logits: One per pair; positive speaks for one of its sides. Any unit will do.
            ahead: Votes for that side.
            behind: Votes for the other.
            noise: Why votes may be against most people's.
            rate: The flip rate, where it is known from elsewhere.
        """
        scale = max(float(np.sqrt(np.square(logits).mean())), 1e-12)
        coarse = np.round(logits / scale * STEPS) / STEPS
        cells, counts = np.unique(np.stack([coarse, ahead, behind]), axis=1, return_counts=True)
        likely = np.full((len(noise.spreads), len(SHARPNESS), len(RATES)), -np.inf)
        known = range(len(RATES)) if rate is None else [int(np.abs(RATES - rate).argmin())]
        for t, s in np.ndindex(likely.shape[:2]):
            cases = _cases(noise.spreads[t], float(SHARPNESS[s]), cells[0])
            for r in known:
                chance, _ = _weighed(cases, float(RATES[r]), cells[1], cells[2])
                likely[t, s, r] = float(np.log(chance) @ counts)
        weight = np.exp(likely - likely.max())
        return cls(noise=noise, weight=weight / weight.sum(), scale=scale)

    def doubts(
        self,
        logits: Float[np.ndarray, " n"],
        ahead: Float[np.ndarray, " n"],
        behind: Float[np.ndarray, " n"],
    ) -> tuple[Float[np.ndarray, " n"], Estimate]:
        """Probability that most people are against the side that positive log-odds speak for.

        Returns:
            The doubt of each pair's side, [n]; and the share of all votes that most people would
            not give, with the middle 95 % of what is left open.
        """
        kept = self._kept()
        found, shares, chance = np.zeros(len(logits)), np.zeros(len(kept)), 0.0
        weight = self.weight[tuple(kept.T)]
        weight = weight / weight.sum()
        votes = max(float((ahead + behind).sum()), 1e-12)
        for place, (t, s, r) in enumerate(kept):
            cases = _cases(self.noise.spreads[t], float(SHARPNESS[s]), logits / self.scale)
            _, against = _weighed(cases, float(RATES[r]), ahead, behind)
            found += weight[place] * against
            shares[place] = float(ahead @ against + behind @ (1 - against)) / votes
            moved = np.square(ahead - behind) * against * (1 - against)
            chance += weight[place] * float(moved.sum()) / votes**2
        return found, _share(weight, shares, math.sqrt(chance), round(votes))

    def _kept(self) -> Int[np.ndarray, "k 3"]:
        """The points of the grid that matter."""
        return np.argwhere(self.weight > NEGLIGIBLE * self.weight.max())


def _share(
    weight: Float[np.ndarray, " k"], shares: Float[np.ndarray, " k"], chance: float, votes: int
) -> Estimate:
    """The mean share, its middle 95 % over the grid, and on top what chance does at each point."""
    order, mean = np.argsort(shares), float(weight @ shares)
    total = np.cumsum(weight[order])
    ends = [order[min(int(np.searchsorted(total, q)), len(order) - 1)] for q in (0.025, 0.975)]
    low, high = (math.hypot(float(shares[end]) - mean, 1.96 * chance) for end in ends)
    return Estimate(
        value=mean,
        low=max(0.0, mean - low),
        high=min(1.0, mean + high),
        n=votes,
        measurements=votes,
        method="posterior on a grid, flat prior",
    )


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
