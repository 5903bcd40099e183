"""Krippendorff's α: agreement of any number of judges beyond chance, whoever answered what.

The krippendorff package gives α; the interval around it is ours, because answers to one prompt are
not independent and the package has none.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import MissingExtra, require
from palate.core.stats import Estimate
from palate.core.streams import Streams
from palate.data.shares import further

Level = Literal["nominal", "ordinal", "interval"]
Array = NDArray[np.float64]
# Draws of the bootstrap times clusters: what bounds its time where there are many clusters.
_WORK: Final = 40_000_000


def krippendorff_alpha(
    units: Sequence[Sequence[float]],
    clusters: Sequence[Any],
    *,
    level: Level = "nominal",
    draws: int = 2_000,
    seed: int = 0,
) -> Estimate:
    """Krippendorff's α of any values, with an interval that resamples whole clusters.

    The value is the krippendorff package's. Each draw's coincidence matrix is the sum of those of
    its clusters, which gives the same α as the package on the draw's units, in far less time. The
    distance of both ends from α is widened for few clusters, as in `core.stats`.

    Args:
        units: The values that different judges gave one unit; at least two different ones in all.
        clusters: The cluster (prompt) of each unit.
        level: What differences between values mean.
        draws: Bootstrap draws; fewer where there are more than 20,000 clusters.
        seed: Seed of the resampling.

    Raises:
        SettingError: when the lists differ in length or all values are the same.
        MissingExtra: when the krippendorff package is not installed.
    """
    domain = sorted({value for unit in units if len(unit) > 1 for value in unit})
    require(
        len(units) == len(clusters) and len(domain) > 1,
        got=f"{len(units)} units, {len(clusters)} cluster names and {len(domain)} different values",
        need="one cluster name per unit, and values that differ",
        fix="Where everybody gave the same value, α is not defined.",
    )
    place = {value: index for index, value in enumerate(domain)}
    counts = np.zeros((len(units), len(domain)))
    for row, unit in enumerate(units):
        for value in unit if len(unit) > 1 else ():
            counts[row, place[value]] += 1
    value = _package_alpha(counts, domain, level)
    index: dict[Any, int] = {}
    codes = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    sums = np.zeros((len(index), len(domain), len(domain)))
    np.add.at(sums, codes, coincidences(counts))
    sums = sums[sums.sum(axis=(1, 2)) > 0]
    low, high = _ends(value, sums, np.asarray(domain), level, draws, seed)
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=len(sums),
        measurements=int(counts.sum()),
        method="cluster bootstrap of Krippendorff's alpha",
    )


def coincidences(counts: Array) -> Array:
    """Of each unit, how often two of its values meet: [unit, value] → [unit, value, value]."""
    judges = np.maximum(counts.sum(axis=1), 2)
    own = counts[:, :, None] * np.eye(counts.shape[1])
    return (counts[:, :, None] * counts[:, None, :] - own) / (judges - 1)[:, None, None]


def _package_alpha(counts: Array, domain: Sequence[float], level: Level) -> float:
    try:
        import krippendorff
    except ImportError as error:
        raise MissingExtra(
            got="no krippendorff package",
            need="it for Krippendorff's alpha",
            fix="Install it: pip install 'palate[labels]'.",
        ) from error
    found = krippendorff.alpha(
        value_counts=counts, value_domain=list(domain), level_of_measurement=level
    )
    return float(cast(Any, found))


def _alphas(matrices: Array, domain: Array, level: Level) -> Array:
    """α of coincidence matrices [draw, value, value] (Krippendorff 2011, section F)."""
    met = matrices.sum(axis=2)
    total = met.sum(axis=1)
    distance = _DISTANCES[level](met, domain)
    observed = (matrices * distance).sum(axis=(1, 2))
    expected = (met[:, :, None] * met[:, None, :] * distance).sum(axis=(1, 2)) / (total - 1)
    # A draw in which everybody said the same has no disagreement to explain.
    return 1 - np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)


def _nominal(met: Array, domain: Array) -> Array:
    return np.broadcast_to(1 - np.eye(len(domain)), (len(met), len(domain), len(domain)))


def _interval(met: Array, domain: Array) -> Array:
    apart = (domain[:, None] - domain[None, :]) ** 2
    return np.broadcast_to(apart, (len(met), len(domain), len(domain)))


def _ordinal(met: Array, domain: Array) -> Array:
    middle = np.cumsum(met, axis=1) - met / 2
    return (middle[:, :, None] - middle[:, None, :]) ** 2


_DISTANCES: Final = {"nominal": _nominal, "ordinal": _ordinal, "interval": _interval}


def _ends(
    value: float, sums: Array, domain: Array, level: Level, draws: int, seed: int
) -> tuple[float, float]:
    """The ends of α's interval; without bounds where there is one cluster."""
    count = len(sums)
    if count == 1:
        return -np.inf, np.inf
    generator = Streams(seed)("alpha", count).numpy()
    draws = min(draws, max(400, _WORK // count))
    flat, block = sums.reshape(count, -1), max(1, 1_000_000 // count)
    found = [
        _alphas(
            (generator.multinomial(count, np.full(count, 1 / count), size) @ flat).reshape(
                size, *sums.shape[1:]
            ),
            domain,
            level,
        )
        for size in [min(block, draws - start) for start in range(0, draws, block)]
    ]
    ends = np.percentile(np.concatenate(found), [2.5, 97.5])
    wider = value + np.sqrt(count / (count - 1)) * further(count, 0.95) * (ends - value)
    return float(wider[0]), float(min(wider[1], 1.0))
