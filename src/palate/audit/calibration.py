r"""From what was foretold of labels to the probability that each was turned round.

A share ε of clean labels was turned round, whatever the pair. A label that was foretold to be as
recorded with log-odds $z$, in some unit, is then recorded with probability

$$p = (1-\epsilon)\,q + \epsilon\,(1-q), \qquad q = \sigma(s z), \qquad
\text{doubt} = \epsilon\,(1-q)/p$$

ε and the sharpness s are not known. What the labels leave open of both is a weight on a grid, from
a flat prior, and doubts are means over it: a rate that cannot be told gives careful doubts.

Read next: `minority.py`, where log-odds come from.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float
from scipy.special import expit, log_expit

from palate.core.problems import require
from palate.core.stats import Estimate

RATES: Final = np.linspace(0.0025, 0.4975, 100)
SHARPNESS: Final = np.geomspace(0.05, 20.0, 61)
# Less than this of what is left open changes no doubt that anybody could see.
NEGLIGIBLE: Final = 1e-6


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
    """What held-out labels leave open of the flip rate ε and the sharpness s.

    Attributes:
        weight: Probability of each rate with each sharpness, [r, s].
        scale: What log-odds are divided by: their root mean square.
        n: Labels it was learned from.
    """

    weight: Float[np.ndarray, "r s"]
    scale: float
    n: int

    @classmethod
    def of(
        cls,
        logits: Float[np.ndarray, " n"],
        ahead: Float[np.ndarray, " n"],
        behind: Float[np.ndarray, " n"],
        rate: float | None = None,
    ) -> "Calibration":
        """Learn from log-odds foretold without the votes, and the votes.

        Args:
            logits: One per pair; positive speaks for one of its sides. Any unit will do.
            ahead: Votes for that side.
            behind: Votes for the other.
            rate: The flip rate, where it is known from elsewhere.
        """
        scale = max(float(np.sqrt(np.square(logits).mean())), 1e-12)
        right, wrong = np.log(1 - RATES)[:, None], np.log(RATES)[:, None]
        likely = np.empty((len(RATES), len(SHARPNESS)))
        for column, sharpness in enumerate(SHARPNESS):
            for_it = log_expit(sharpness * logits / scale) + right * ahead + wrong * behind
            against = log_expit(-sharpness * logits / scale) + wrong * ahead + right * behind
            likely[:, column] = np.logaddexp(for_it, against).sum(1)
        if rate is not None:
            likely[np.arange(len(RATES)) != int(np.abs(RATES - rate).argmin())] = -np.inf
        weight = np.exp(likely - likely.max())
        return cls(weight=weight / weight.sum(), scale=scale, n=len(logits))

    @property
    def rate(self) -> Estimate:
        """The flip rate: the mean, and the middle 95 %, of what is left open."""
        share = self.weight.sum(1)
        total = np.cumsum(share)
        ends = [int(np.searchsorted(total, q)) for q in (0.025, 0.975)]
        low, high = (float(RATES[min(end, len(RATES) - 1)]) for end in ends)
        return Estimate(
            value=float(share @ RATES),
            low=low,
            high=high,
            n=self.n,
            measurements=self.n,
            method="posterior on a grid, flat prior",
        )

    def doubts(
        self,
        logits: Float[np.ndarray, " n"],
        ahead: Float[np.ndarray, " n"],
        behind: Float[np.ndarray, " n"],
    ) -> Float[np.ndarray, " n"]:
        """Probability that most people are against the side that positive log-odds speak for, [n].

        For one vote ahead it is the formula of this module: ε(1 − q) / p.
        """
        found = np.zeros(len(logits))
        kept = self.weight > NEGLIGIBLE
        for row, column in np.argwhere(kept):
            worth = np.log((1 - RATES[row]) / RATES[row])
            odds = SHARPNESS[column] * logits / self.scale + worth * (ahead - behind)
            found += self.weight[row, column] * expit(-odds)
        return found / self.weight[kept].sum()
