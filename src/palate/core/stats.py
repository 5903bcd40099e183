"""Intervals that mean what they say.

The unit of inference is the prompt: several pictures of one prompt are not independent, and
pooling ten of them gives a "95 %" interval that covers 63 % of the time (our simulation,
`tests/core/test_stats.py`). So pictures are averaged within a prompt first, and prompts are
resampled. Ties count half. Every estimate carries its n.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from palate.core.problems import require
from palate.core.streams import Streams

Array = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval (or another `confidence`) and what it rests on.

    Attributes:
        value: The estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Independent units (prompts, where pictures are clustered in prompts).
        measurements: Single measurements behind them.
        confidence: Nominal coverage of the interval.
        method: How the interval was made.
    """

    value: float
    low: float
    high: float
    n: int
    measurements: int
    confidence: float = 0.95
    method: str = "cluster bootstrap"

    def __str__(self) -> str:
        """For example `0.58 (95 % interval 0.54 to 0.62, n = 600)`."""
        share = f"{100 * self.confidence:g} %"
        return (
            f"{self.value:.3g} ({share} interval {self.low:.3g} to {self.high:.3g}, n = {self.n})"
        )

    def asdict(self) -> dict[str, Any]:
        """The estimate as plain values, for JSON."""
        return asdict(self)


def cluster_means(values: Sequence[float] | Array, clusters: Sequence[Any]) -> Array:
    """The mean of the values of each cluster, in order of first appearance."""
    numbers = np.asarray(values, dtype=np.float64)
    require(
        len(numbers) == len(clusters) and len(numbers) > 0,
        got=f"{len(numbers)} values and {len(clusters)} cluster names",
        need="one cluster name per value, and at least one value",
        fix="Pass the prompt of every measurement.",
    )
    index: dict[Any, int] = {}
    codes = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    return np.bincount(codes, weights=numbers) / np.bincount(codes)


def cluster_mean(
    values: Sequence[float] | Array,
    clusters: Sequence[Any],
    *,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """The mean over clusters, with a percentile bootstrap that resamples whole clusters.

    The distance of both ends from the mean is widened for small samples (3 % at 50 clusters,
    1 % at 200), because a plain percentile bootstrap of 50 clusters covers 93.9 %, not 95 %.

    Args:
        values: One measurement each.
        clusters: The cluster (prompt) of each measurement.
        confidence: Nominal coverage.
        draws: Bootstrap draws; 10 000 moves the ends by less than a tenth of their distance.
        seed: Seed of the resampling.

    Raises:
        SettingError: when the lists differ in length or are empty.
    """
    means = cluster_means(values, clusters)
    count = len(means)
    generator = Streams(seed)("bootstrap", count).numpy()
    # Blocks of draws bound the memory at about 8 MB whatever the number of clusters.
    block = max(1, 1_000_000 // count)
    totals = [
        means[generator.integers(0, count, (min(block, draws - start), count))].mean(axis=1)
        for start in range(0, draws, block)
    ]
    tail = 100 * (1 - confidence) / 2
    ends = np.percentile(np.concatenate(totals), [tail, 100 - tail])
    centre = means.mean()
    wider = centre + _small_sample(count, confidence) * (ends - centre)
    low, high = np.clip(wider, means.min(), means.max())
    return Estimate(
        value=float(centre),
        low=float(low),
        high=float(high),
        n=count,
        measurements=len(values),
        confidence=confidence,
    )


def _small_sample(count: int, confidence: float) -> float:
    """How much too narrow a bootstrap of few clusters is: n for n − 1, normal tails for t's."""
    if count < 2:
        return 1.0
    tails = [law.ppf(0.5 + confidence / 2) for law in (scipy_stats.t(count - 1), scipy_stats.norm)]
    return float(np.sqrt(count / (count - 1)) * tails[0] / tails[1])


def outcomes(after: Sequence[float] | Array, before: Sequence[float] | Array) -> Array:
    """1 where `after` is higher, 0 where it is lower, ½ where they are equal.

    A value that is not finite loses against a finite one: a broken picture is a loss.
    """
    a, b = (np.nan_to_num(np.asarray(x, np.float64), nan=-np.inf) for x in (after, before))
    return np.where(a > b, 1.0, np.where(a < b, 0.0, 0.5))


def win_rate(
    after: Sequence[float] | Array,
    before: Sequence[float] | Array,
    prompts: Sequence[Any],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """How often `after` beats `before` on the same prompt and noise; ties half.

    The interval resamples prompts (reliability notes §6.2).
    """
    return cluster_mean(outcomes(after, before), prompts, confidence=confidence, seed=seed)


def wilson(successes: float, trials: int, *, confidence: float = 0.95) -> Estimate:
    """A share with Wilson's interval, for independent single answers only.

    Raises:
        SettingError: when there are no trials.
    """
    require(
        trials > 0 and 0 <= successes <= trials,
        got=f"{successes} of {trials}",
        need="at least one trial, and successes between 0 and trials",
        fix="Count again.",
    )
    z = float(scipy_stats.norm.ppf(0.5 + confidence / 2))
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    half /= 1 + z * z / trials
    return Estimate(
        value=share,
        low=max(0.0, float(centre - half)),
        high=min(1.0, float(centre + half)),
        n=trials,
        measurements=trials,
        confidence=confidence,
        method="Wilson",
    )


def comparisons_needed(win_rate: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Independent comparisons that show a true win rate above one half with the given power."""
    require(
        0.5 < win_rate < 1,
        got=f"win_rate={win_rate}",
        need="a win rate between 0.5 and 1",
        fix="State the smallest win rate you want to see.",
    )
    z_alpha = float(scipy_stats.norm.ppf(0.5 + confidence / 2))
    z_beta = float(scipy_stats.norm.ppf(power))
    spread = z_alpha * 0.5 + z_beta * np.sqrt(win_rate * (1 - win_rate))
    return int(np.ceil((spread / (win_rate - 0.5)) ** 2))
