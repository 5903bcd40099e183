"""Steps held near the reference: the clip, and the loss that D3PO, SPO and LPO share."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Branch, Contrast, Stepped, Verdict
from palate.core.problems import require
from palate.objectives.limits import positive
from palate.objectives.logistic import soft_label_loss


def clipped_verdict(pairs: Contrast, beta: float, clip: float) -> Verdict:
    """Score each pair of steps by the odds that the chosen one wins, within the band.

    The logit is beta times the difference of clipped log-ratios. `clipped` says which share of
    a pair's two steps lies outside the band, where there is no gradient.

    Raises:
        SettingError: when the evidence is not steps.
    """
    logit = 0.5 * beta * clipped_pairs(pairs, clip).margin
    sides = [side for side in (pairs.chosen, pairs.rejected) if side is not None]
    outside = torch.stack([_outside(side, clip) for side in sides]).mean(0)
    return Verdict(
        soft_label_loss(logit, pairs.agreement), {"logit": logit.detach(), "clipped": outside}
    )


def clipped_pairs(pairs: Contrast, clip: float) -> Contrast:
    """The same steps, each with its ratio of policy to reference held within 1 ± clip.

    Raises:
        SettingError: when the evidence is not steps.
    """
    sides = (pairs.chosen, pairs.rejected)
    held = [side.clipped(clip) for side in sides if isinstance(side, Stepped)]
    require(
        len(held) == len(sides),
        got=f"clip={clip} on evidence that is not steps of drawn pictures",
        need="log-probabilities of steps on both sides, which have a ratio to clip",
        fix="Train on pictures that the policy draws, or give Stepped branches.",
    )
    return replace(pairs, chosen=held[0], rejected=held[1])


def check_band(beta: float, clip: float, published: str) -> None:
    """Refuse settings with which no step could teach anything.

    Raises:
        SettingError: when beta is not positive, or the band is empty or reaches a ratio of 0.
    """
    positive("beta", beta, f"The released code uses {published}, on averaged log-ratios.")
    require(
        0 < clip < 1,
        got=f"clip={clip}",
        need="0 < clip < 1",
        fix="The released code uses 0.1: ratios from 0.9 to 1.1.",
    )


def _outside(side: Branch, clip: float) -> Float[Tensor, " b"]:
    """1 where a step's ratio has left the band, [b]."""
    ratio = (side.gain.detach() / 2).exp()
    return ((ratio - 1).abs() > clip).to(ratio)
