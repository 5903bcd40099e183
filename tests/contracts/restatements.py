"""Every objective once more, written from its paper with Python floats and nothing of ours.

A new objective adds one function here; the contract suite refuses an objective without one.
Arguments are plain numbers for one pair, above all the mean squared errors of policy and
reference on the chosen and the rejected image.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


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


def dpo(pair: Numbers, settings: Mapping[str, Any]) -> float:
    """Diffusion-DPO as released: −log σ(−β/2 · ((e_θʷ − e_refʷ) − (e_θˡ − e_refˡ)))."""
    model = pair.policy_chosen - pair.policy_rejected
    reference = pair.reference_chosen - pair.reference_rejected
    inside = -0.5 * settings["beta"] * (model - reference)
    return pair.agreement * softplus(-inside) + (1 - pair.agreement) * softplus(inside)


def sft(pair: Numbers, settings: Mapping[str, Any]) -> float:
    """The plain denoising loss on the chosen image."""
    return pair.policy_chosen


RESTATEMENTS: dict[str, Callable[[Numbers, Mapping[str, Any]], float]] = {"dpo": dpo, "sft": sft}
