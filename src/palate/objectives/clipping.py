"""Steps held near the reference: the loss that D3PO, SPO and LPO share."""

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Branch, Contrast, Verdict
from palate.core.problems import require
from palate.objectives.limits import clipped, positive
from palate.objectives.logistic import soft_label_loss


def clipped_verdict(pairs: Contrast, beta: float, clip: float) -> Verdict:
    """Score each pair of steps by the odds that the chosen one wins, within the band.

    The logit is beta times the difference of clipped log-ratios. `clipped` says which share of
    a pair's two steps lies outside the band, where there is no gradient.

    Raises:
        SettingError: when the evidence is not steps.
    """
    logit = 0.5 * beta * clipped(pairs, clip).margin
    sides = [side for side in (pairs.chosen, pairs.rejected) if side is not None]
    outside = torch.stack([_outside(side, clip) for side in sides]).mean(0)
    return Verdict(
        soft_label_loss(logit, pairs.agreement), {"logit": logit.detach(), "clipped": outside}
    )


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
