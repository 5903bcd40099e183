"""A share with an interval from whatever variance its estimate has.

`cluster_share` takes the variance of a mean of clusters. Where users stand in two places, or users
and prompts are both drawn anew, the variance is another one; what is made of it is the same.
"""

import numpy as np
from numpy.typing import NDArray

from palate.core.stats import FEWEST_APART, Estimate, share_of, tails

Array = NDArray[np.float64]


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
