r"""Robust DPO: labels are wrong at a known rate, and the loss takes the error out again.

$$\ell = \frac{(1-\varepsilon)\,\ell_\text{DPO}(m) - \varepsilon\,\ell_\text{DPO}(-m)}
{1-2\varepsilon},
\qquad m = \tfrac{\beta}{2}\,\text{margin}$$

Over labels that are flipped at random with probability ε, its mean is the DPO loss of the labels
before the flip. It has no lower bound: a large logit earns ever more.

Read next: `cdpo.py`, the bounded way; `dmpo.py`, which aims at a finite margin.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive, within
from palate.objectives.logistic import soft_label_loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RDPO(Objective):
    """Robust DPO (Ray Chowdhury et al., 2024, eq. 12) on denoising errors.

    A soft label averages the loss over both outcomes.

    Attributes:
        beta: How tightly the reference holds the policy, as in DPO.
        epsilon: The known share of labels that were flipped, in [0, 0.5). At 0 it is DPO.
    """

    beta: float = 2000.0
    epsilon: float = 0.1

    name: ClassVar[str] = "rdpo"
    title: ClassVar[str] = "Robust DPO"
    paper: ClassVar[str] = "arXiv:2403.00409"
    year: ClassVar[int] = 2024
    needs: ClassVar[Needs] = Needs(reference=True, evidence=("noised", "inverted", "steps"))

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000 for SD 1.5 or 5000 for SDXL.")
        within(
            "epsilon",
            self.epsilon,
            0.0,
            0.5,
            "Give the share of flipped labels; at one half they carry no information.",
        )

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair against a label that is pushed beyond certainty."""
        logit = 0.5 * self.beta * pairs.margin
        unflipped = (pairs.agreement - self.epsilon) / (1 - 2 * self.epsilon)
        return Verdict(soft_label_loss(logit, unflipped), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
