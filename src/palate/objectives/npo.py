r"""Diffusion-NPO: train a model of what people reject, to guide away from it.

$$\ell = -\log\sigma\bigl(-\tfrac{\beta}{2}\,\text{margin}\bigr)$$

Diffusion-DPO on the turned pair. The result is not a better model but the negative half of
classifier-free guidance: it stands in for the empty prompt when pictures are drawn.

Read next: `dpo.py`, which trains the positive half.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive
from palate.objectives.logistic import soft_label_loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NPO(Objective):
    """Diffusion-NPO (Wang et al., 2025): negative preference optimisation.

    Attributes:
        beta: How tightly the reference holds the policy, as in DPO. The released code uses 500
            for SD 1.5 and 2000 for SDXL without the factor ½: 1000 and 4000 here.
    """

    beta: float = 1000.0

    name: ClassVar[str] = "npo"
    title: ClassVar[str] = "Diffusion-NPO"
    paper: ClassVar[str] = "arXiv:2505.11245"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        evidence=("noised", "inverted", "steps"),
        # It is meant to denoise chosen pictures worse: these would be findings elsewhere.
        settings=MappingProxyType(
            {"health.ignore": ("winner-drift", "loser-worse", "labels-swapped")}
        ),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 1000 for SD 1.5 or 4000 for SDXL.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its rejected image wins."""
        logit = 0.5 * self.beta * pairs.margin
        return Verdict(soft_label_loss(logit, 1 - pairs.agreement), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
