r"""Diffusion-DPO: a coin-flip model of preference, fitted through denoising errors.

$$\ell = -\log \sigma\bigl(\tfrac{\beta}{2}\,(g_\text{chosen} - g_\text{rejected})\bigr),
\qquad g = \lVert\epsilon-\epsilon_\text{ref}\rVert^2 - \lVert\epsilon-\epsilon_\theta\rVert^2$$

The policy is paid for denoising the chosen image better than the reference does, by more than
it gained on the rejected one. Where labels are soft, the loss is the average over both outcomes.

Read next: `sft.py`, which needs neither reference nor rejected image.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.core.problems import require
from palate.objectives.base import Needs, Objective
from palate.objectives.logistic import soft_label_loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DPO(Objective):
    """Diffusion-DPO (Wallace et al., 2023, eq. 14, with the released code's factor ½).

    Attributes:
        beta: How tightly the reference holds the policy: the logit is (beta/2) · margin, with
            errors averaged over elements. The paper's text uses 2000 for SD 1.5 and 5000 for
            SDXL; the released launchers use 5000 for both.
    """

    beta: float = 2000.0

    name: ClassVar[str] = "dpo"
    title: ClassVar[str] = "Diffusion-DPO"
    paper: ClassVar[str] = "arXiv:2311.12908"
    year: ClassVar[int] = 2023
    needs: ClassVar[Needs] = Needs(reference=True, evidence=("noised", "inverted", "steps"))

    def __post_init__(self) -> None:
        require(
            self.beta > 0 and math.isfinite(self.beta),
            got=f"beta={self.beta}",
            need="beta > 0",
            fix="Use 2000 for SD 1.5 or 5000 for SDXL; smaller lets the policy move further.",
        )

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its chosen image wins."""
        logit = 0.5 * self.beta * pairs.margin
        return Verdict(soft_label_loss(logit, pairs.agreement), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
