"""Shares with an interval from whatever variance they have, and means that few users give none.

`cluster_share` takes the variance of a mean of clusters. Where users stand in two places, or users
and prompts are both drawn anew, the variance is another one; what is made of it is the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from palate.core.stats import FEWEST_APART, Estimate, cluster_mean, share_of, tails

Array = NDArray[np.float64]
# One tail of an interval at 90 %: what a verdict may be wrong by.
ONE_SIDED: Final = 0.05


def share_with(
    share: float,
    variance: float,
    units: int,
    measurements: int,
    *,
    apart: int,
    confidence: float = 0.95,
) -> Estimate:
    """Wilson's interval on what the measurements are worth in independent answers.

    Args:
        share: The estimate.
        variance: Its variance.
        units: Independent units it rests on.
        measurements: Single measurements behind them.
        apart: How many units differ from the commonest. With fewer than ten, the variance is not
            trusted, and every unit is one answer.
        confidence: Nominal coverage.
    """
    trusted = apart >= FEWEST_APART and variance > 0
    trials = float(units)
    if trusted:
        far, near = tails(units, confidence)
        trials = max(trials, share * (1 - share) / variance * (near / far) ** 2)
    exact = None if trusted else units
    return share_of(share, trials, units, measurements, exact=exact, confidence=confidence)


def off_the_commonest(means: Array) -> int:
    """How many of the units' means differ from the commonest one."""
    return len(means) - int(np.unique(means.round(9), return_counts=True)[1].max())


def mean_of(values: Sequence[float] | Array, users: Sequence[Any]) -> Estimate:
    """`cluster_mean` over users; without ends for fewer than five.

    So few agree too often by chance: where nobody is followed, the bootstrap's lower end lies
    above 0 in 24 % of studies with two users and in 8 % with three.
    """
    found = cluster_mean(values, users)
    return found if can_tell(found.n) else without_ends(found, "none: fewer than five users")


def can_tell(count: int, tests: int = 1) -> bool:
    """Whether so many signs that all agree would be rarer than 5 % by chance, among the tests.

    The bootstrap alone does not know: it resamples three rises into nothing but rises.
    """
    return 0.5**count * tests <= ONE_SIDED


def without_ends(estimate: Estimate, why: str) -> Estimate:
    """The same value, of whose spread nothing is known."""
    return replace(estimate, low=-np.inf, high=np.inf, method=why)
