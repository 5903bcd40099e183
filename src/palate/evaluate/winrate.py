"""What one scorer says of before and after, and how sure one can be of it.

The unit is the prompt. A tie is half a win. A broken picture loses, whatever a scorer thinks of
it. The scorer named in the plan answers the question; the p-values of the others are corrected for
their number (Holm), because of 24 scorers without any difference, one usually finds some.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from palate.core.stats import (
    Estimate,
    cluster_mean,
    cluster_means,
    comparisons_needed,
    win_rate,
)
from palate.core.streams import Streams
from palate.evaluate.measurements import Measurements

Array = NDArray[np.float64]
# Up to this many undecided prompts, every assignment of signs is tried: at most 16 384.
_EXACT = 14


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """One scorer's answer.

    Attributes:
        scorer: Its name.
        identity: Its digest or version.
        primary: Whether the plan named it as the one that decides.
        made_labels: Whether its opinion also made the training labels.
        win_rate: How often it prefers the picture after; ties half.
        ties: Share of picture pairs it could not tell apart.
        before: Mean score before, over pairs where both scores are finite.
        after: Mean score after, over the same pairs.
        difference: Mean of after minus before, over the same pairs; None where there are none.
        unscored: Pairs left out of the means because a score was not finite.
        p_value: Two-sided sign-flip test of "no preference", over prompts.
        adjusted_p: The p-value after Holm's correction; None for the primary scorer.
    """

    scorer: str
    identity: str
    primary: bool
    made_labels: bool
    win_rate: Estimate
    ties: float
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None
    unscored: int
    p_value: float
    adjusted_p: float | None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read an opinion back from its plain values."""
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {
            name: Estimate.from_json(value) if isinstance(value, dict) else value
            for name, value in values.items()
            if name in known
        }
        return cls(**given)


def judge(found: Measurements, scorer: str) -> dict[str, Any]:
    """Everything in an `Opinion` that follows from the scores."""
    before, after = found.scores[scorer]
    valid_before, valid_after = found.valid(scorer)
    prompts, won = found.prompts, found.outcomes(scorer)
    both = np.isfinite(before) & np.isfinite(after)
    kept = [prompt for prompt, keep in zip(prompts, both, strict=True) if keep]
    means: dict[str, Estimate | None] = dict.fromkeys(("before", "after", "difference"))
    if kept:
        means = {
            "before": cluster_mean(before[both], kept),
            "after": cluster_mean(after[both], kept),
            "difference": cluster_mean((after - before)[both], kept),
        }
    return means | {
        "win_rate": win_rate(valid_after, valid_before, prompts),
        "ties": float(np.mean(won == 0.5)),
        "unscored": int((~both).sum()),
        "p_value": sign_flip(cluster_means(won, prompts) - 0.5),
    }


def sign_flip(differences: Sequence[float] | Array, *, draws: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of "each prompt could as well have gone the other way".

    Exact for few prompts; otherwise from random signs, counting the observed assignment itself, so
    that the value is never 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if len(values) == 0:
        return 1.0
    observed = abs(values.sum()) - 1e-12
    if len(values) <= _EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(values))))
        return float(np.mean(np.abs(signs @ values) >= observed))
    chance = Streams(seed)("sign flip", len(values)).numpy()
    hits = 0
    for start in range(0, draws, 1000):
        signs = 2.0 * chance.integers(0, 2, (min(1000, draws - start), len(values))) - 1.0
        hits += int((np.abs(signs @ values) >= observed).sum())
    return (1 + hits) / (1 + draws)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: the smallest times m, the next times m-1, never falling."""
    adjusted: dict[str, float] = {}
    floor = 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        floor = max(floor, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}


def smallest_visible(n: int, *, power: float = 0.8) -> float | None:
    """The smallest true win rate that n prompts show with this power, to a tenth of a point.

    None when even 99.9 % would be missed.
    """
    tenths = range(501, 1000)
    found = bisect_left(
        tenths, True, key=lambda tenth: comparisons_needed(tenth / 1000, power=power) <= n
    )
    return tenths[found] / 1000 if found < len(tenths) else None
