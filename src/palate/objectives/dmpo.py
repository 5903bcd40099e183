r"""DMPO: the divergence taken the other way round, which aims at a finite margin.

$$\ell = P\,\log\frac{P}{1-\alpha} + (1-P)\,\log\frac{1-P}{\alpha},
\qquad P = \sigma\bigl(\tfrac{\beta}{2}\,\text{margin}\bigr)$$

The reverse Kullback-Leibler divergence from the policy's coin to a label that is right with
probability 1 − α. Its slope is P(1−P)(m − m*), with the target m* = log((1−α)/α): pairs beyond it
are pulled back, and pairs that contradict their label strongly are hardly pushed.

Read next: `cdpo.py`, the forward divergence to the same label.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch.nn.functional import logsigmoid

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive, within


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DMPO(Objective):
    """Divergence minimisation preference optimisation (Li et al., 2025), as re-implemented.

    The paper's own equations were not read: the formula is that of the baseline in
    Diffusion-SDPO's released code, which equals EXO's for two images. A soft label averages the
    loss over both outcomes.

    Attributes:
        beta: How tightly the reference holds the policy, as in DPO. That code uses 2000 for
            SD 1.5 and 6000 for SDXL.
        alpha: Probability that a label is wrong, in (0, 0.5); it sets the target logit
            log((1 - alpha) / alpha). That code uses 0.01, a target of 4.595.
    """

    beta: float = 2000.0
    alpha: float = 0.01

    name: ClassVar[str] = "dmpo"
    title: ClassVar[str] = "DMPO"
    paper: ClassVar[str] = "arXiv:2507.07510"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(reference=True, evidence=("noised", "inverted", "steps"))

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000 for SD 1.5 or 6000 for SDXL.")
        within("alpha", self.alpha, 1e-6, 0.5, "Use 0.01 for a target logit of 4.6.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by how far the policy's coin is from the label's."""
        logit = 0.5 * self.beta * pairs.margin
        right, wrong = math.log1p(-self.alpha), math.log(self.alpha)
        label = 2 * pairs.agreement - 1
        # Averages of both outcomes of the label, for the coin's two sides.
        win = 0.5 * ((right + wrong) + label * (right - wrong))
        lose = 0.5 * ((right + wrong) - label * (right - wrong))
        # No part is detached: the weight σ(logit) is what makes the target finite.
        loss = torch.sigmoid(logit) * (logsigmoid(logit) - win)
        loss = loss + torch.sigmoid(-logit) * (logsigmoid(-logit) - lose)
        target = label * (right - wrong)
        return Verdict(loss, {"logit": logit.detach(), "target": target.detach()})

    def at_init(self) -> float:
        """A fair coin against the label, whatever it is."""
        return -math.log(2) - 0.5 * (math.log1p(-self.alpha) + math.log(self.alpha))
