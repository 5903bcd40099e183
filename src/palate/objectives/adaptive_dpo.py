r"""Adaptive-DPO: pairs whose label looks like a minority's count less, the others must win clearly.

$$\ell = -W \log \sigma\bigl(\tfrac{\beta}{2}\,(g_\text{chosen} - g_\text{rejected})
- \Gamma\bigr), \qquad W = \frac{1}{k_1 u + c_1}, \quad \Gamma = c_2 - k_2 u^2$$

The minority metric u is told by the policy and two running averages of it (`annotators.py`); no
judge needs a name. Weight W and margin Γ carry no gradient.

Read next: `adaptive_ipo.py`, the same around a target margin.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.annotators import Annotated, check_annotators
from palate.objectives.base import Needs
from palate.objectives.limits import positive
from palate.objectives.logistic import soft_label_loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveDPO(Annotated):
    """Adaptive-DPO (Zhang et al., 2025, eq. 11 to 15; arithmetic of the released code).

    Attributes:
        beta: How tightly the reference holds the policy: the logit is (beta/2) · margin, as in
            `dpo`. The released code uses 1000 without the half, which is 2000 here.
    """

    beta: float = 2000.0

    name: ClassVar[str] = "adaptive-dpo"
    title: ClassVar[str] = "Adaptive-DPO"
    paper: ClassVar[str] = "arXiv:2503.16921"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        labels="hard, some of them wrong",
        averages=("slow", "fast"),
        whole_batch=True,
        kept=("minority",),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000: the released 1000 has no half.")
        check_annotators(self)

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its chosen image wins, as far as it is trusted."""
        minority = self.minority(pairs)
        weight = self.weights(pairs, minority)
        logit = 0.5 * self.beta * pairs.margin
        raised = logit - self.bonus(pairs, minority, self.beta)
        loss = weight * soft_label_loss(raised, pairs.agreement)
        return Verdict(loss, {"logit": logit.detach(), "minority": minority, "weight": weight})

    def at_init(self) -> float:
        """A fair coin, times the weight of a pair that is not suspect."""
        return math.log(2) * (1.0 if self.balanced else self.first_weight())
