"""Every objective once more, written from its paper with Python floats and nothing of ours.

A new objective adds one function here; the contract suite refuses an objective without one.
Arguments are plain numbers for one pair, above all the mean squared errors of policy and
reference on the chosen and the rejected image.
"""

from collections.abc import Callable, Mapping
from typing import Any

from contracts.pair_numbers import Numbers, softplus
from contracts.restatements_first import FIRST
from contracts.restatements_second import SECOND


def dpo(pair: Numbers, settings: Mapping[str, Any]) -> float:
    """Diffusion-DPO as released: −log σ(−β/2 · ((e_θʷ − e_refʷ) − (e_θˡ − e_refˡ)))."""
    model = pair.policy_chosen - pair.policy_rejected
    reference = pair.reference_chosen - pair.reference_rejected
    inside = -0.5 * settings["beta"] * (model - reference)
    return pair.agreement * softplus(-inside) + (1 - pair.agreement) * softplus(inside)


def sft(pair: Numbers, settings: Mapping[str, Any]) -> float:
    """The plain denoising loss on the chosen image."""
    return pair.policy_chosen


RESTATEMENTS: dict[str, Callable[[Numbers, Mapping[str, Any]], float]] = {
    "dpo": dpo,
    "sft": sft,
    **FIRST,
    **SECOND,
}
