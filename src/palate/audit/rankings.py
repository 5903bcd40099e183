"""Other orders of the labels in doubt, beside the doubts: how alike, and what comes first.

Read next: `checks/t013_minority.py`, which sets orders of labels side by side.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

import numpy as np
from scipy.stats import rankdata

from palate.audit.minority import Doubts, RunEvidence
from palate.core.stats import Estimate

FEWEST: Final = 10
# So many of the first labels of an order are told.
FIRST: Final = 20


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """Spearman's rank correlation; None with fewer than ten things, or where all are equal.

    The interval is Fisher's, with the variance 1.06 / (n - 3) of Fieller, Hartley and Pearson
    (1957); it takes things as independent.
    """
    if len(one) < FEWEST or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    found = float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
    centre = math.atanh(min(max(found, -1 + 1e-12), 1 - 1e-12))
    half = 1.96 * math.sqrt(1.06 / (len(one) - 3))
    return Estimate(
        value=found,
        low=math.tanh(centre - half),
        high=math.tanh(centre + half),
        n=len(one),
        measurements=len(one),
        method="Fisher's z for ranks",
    )


def in_words(found: Doubts, margins: Doubts | None, run: RunEvidence | None) -> str:
    """The orders by held-out margins and by an adaptive run's metric, as sentences."""
    words = ""
    if margins is not None and margins is not found:
        shown = sum(doubt >= 0.5 for doubt in margins.doubt.values())
        words = (
            f" Held-out margins alone doubt {shown:,} of {len(margins.doubt):,} by 0.5 or more, a "
            f"share of {margins.rate}; rank correlation with the doubts here: "
            f"{_alike(margins.doubt, found) or 'none'}."
        )
    if run is not None and run.minority:
        words += (
            " Ranked by the minority metric u that the run recorded, rank correlation with the "
            f"doubts here: {_alike(run.minority, found) or 'none'}; its first {FIRST} are in the "
            "figures (--json)."
        )
    return words


def by_margins(margins: Doubts, found: Doubts) -> dict[str, Any]:
    """What held-out margins alone say, as plain values."""
    alike = _alike(margins.doubt, found)
    return {
        "share": margins.rate.asdict(),
        "rank_correlation": None if alike is None else alike.asdict(),
        "first": [{"id": name, "doubt": doubt} for name, doubt in margins.ranked()[:FIRST]],
    }


def by_metric(run: RunEvidence | None, found: Doubts) -> dict[str, Any]:
    """How Adaptive-DPO's own metric ranks the labels in question, as plain values."""
    told = {} if run is None else {n: u for n, u in run.minority.items() if n in found.doubt}
    alike = _alike(told, found)
    first = sorted(told.items(), key=lambda each: (-each[1], each[0]))[:FIRST]
    return {
        "pairs": len(told),
        "mean": fmean(told.values()) if told else None,
        "rank_correlation": None if alike is None else alike.asdict(),
        "first": [{"id": n, "minority": u, "doubt": found.doubt[n]} for n, u in first],
    }


def _alike(other: Mapping[str, float], found: Doubts) -> Estimate | None:
    both = [name for name in other if name in found.doubt]
    return rank_correlation([other[name] for name in both], [found.doubt[name] for name in both])
