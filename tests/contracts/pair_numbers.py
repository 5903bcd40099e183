"""One pair as plain numbers, and the arithmetic that every restatement needs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """One pair, reduced to what the papers write down.

    `averages` are the margins of the averaged policies, `facts` what comes with the pair,
    `predictions` the flat values of policy, target and reference on both sides (named as
    `policy_chosen`, …), and `company` all pairs of the optimizer step, this one included. For
    objectives that judge steps, an error is minus twice the step's log-probability.
    """

    policy_chosen: float
    reference_chosen: float
    policy_rejected: float
    reference_rejected: float
    agreement: float
    averages: tuple[float, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    alpha: float = 1.0
    sigma: float = 0.0
    step: int = 0
    progress: float = 0.0
    predictions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    company: tuple["Numbers", ...] = ()


def softplus(x: float) -> float:
    """log(1 + eˣ) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
