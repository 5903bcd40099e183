"""Shares of measurements that come in clusters, every measurement counting the same.

`core.stats.cluster_share` takes the mean over clusters. Here the value is the plain share, "342 of
1,204", which is what a reader counts again; the interval still takes the cluster as the unit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.core.stats import FEWEST_APART, Estimate, share_of, tails


def pooled_share(
    values: Sequence[float], clusters: Sequence[Any], *, confidence: float = 0.95
) -> Estimate:
    """The mean of values between 0 and 1 over measurements, with an interval over clusters.

    Unlike `core.stats.cluster_share`, every measurement counts the same, not every cluster: "342
    of 1,204" is the value. Wilson's interval on as many independent answers as the spread of the
    clusters is worth (the ratio's linearised variance; Korn and Graubard 1998), and at least as
    many as Kish's number of clusters of equal size. Where fewer than ten clusters differ from the
    commonest value, their spread is not trusted: then it is the latter, and the wider of Wilson's
    and the exact interval.

    Args:
        values: One measurement each, from 0 to 1.
        clusters: The cluster (prompt) of each measurement.
        confidence: Nominal coverage.
    """
    index: dict[Any, int] = {}
    codes = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    numbers = np.asarray(values, np.float64)
    sizes, totals = np.bincount(codes), np.bincount(codes, weights=numbers)
    count, share = len(sizes), float(numbers.mean())
    trials = float(sizes.sum() ** 2 / (sizes**2).sum())
    _, alike = np.unique((totals / sizes).round(9), return_counts=True)
    trusted = count - int(alike.max()) >= FEWEST_APART
    if trusted:
        rest = totals - share * sizes
        variance = count / (count - 1) * float((rest**2).sum()) / sizes.sum() ** 2
        wider = further(count, confidence) ** 2
        trials = max(trials, share * (1 - share) / variance / wider)
    exact = None if trusted else max(1, int(trials))
    return share_of(share, trials, count, len(numbers), exact=exact, confidence=confidence)


def further(count: int, confidence: float) -> float:
    """How much further out Student's tails lie than the normal law's, with `count` clusters."""
    far, near = tails(count, confidence)
    return far / near
