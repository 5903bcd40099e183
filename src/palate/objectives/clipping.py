"""Steps held near the reference: the clip that D3PO, SPO and LPO share."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Branch, Contrast, Stepped, Verdict
from palate.core.problems import SettingError, require
from palate.objectives.logistic import soft_label_loss


def clipped_verdict(pairs: Contrast, beta: float, clip: float) -> Verdict:
    """Score each pair by the odds that its chosen step wins, within the band.

    The logit is beta times the difference of clipped log-ratios. `clipped` says which share of
    a pair's two steps lies outside the band, where there is no gradient.

    Raises:
        SettingError: when the evidence is not steps.
    """
    sides = [_step(side) for side in (pairs.chosen, pairs.rejected)]
    gains = [side.clipped(clip).gain for side in sides]
    logit = 0.5 * beta * (gains[0] - gains[1])
    outside = torch.stack([_outside(side, clip) for side in sides]).mean(0)
    return Verdict(
        soft_label_loss(logit, pairs.agreement), {"logit": logit.detach(), "clipped": outside}
    )


def check_clip(beta: float, clip: float, fix: str) -> None:
    """Refuse settings with which no step could teach anything.

    Raises:
        SettingError: when beta is not positive, or the band is empty or reaches a ratio of 0.
    """
    require(
        beta > 0 and math.isfinite(beta),
        got=f"beta={beta}",
        need="beta > 0",
        fix=fix,
    )
    require(
        0 < clip < 1,
        got=f"clip={clip}",
        need="0 < clip < 1",
        fix="The released code uses 0.1: ratios from 0.9 to 1.1.",
    )


def _outside(side: Stepped, clip: float) -> Float[Tensor, " b"]:
    """1 where a step's ratio has left the band, [b]."""
    ratio = (side.gain / 2).detach().exp()
    return ((ratio - 1).abs() > clip).to(ratio)


def _step(side: Branch | None) -> Stepped:
    if not isinstance(side, Stepped):
        raise SettingError(
            got="evidence that is not a step of a drawn picture",
            need="log-probabilities of steps on both sides",
            fix="Train with `palate train --method`, which draws them, or give Stepped branches.",
        )
    return side
