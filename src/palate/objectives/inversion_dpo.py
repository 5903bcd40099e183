r"""Inversion-DPO: pictures led back to noise by the reference, instead of noised at random.

$$\ell = -\log \sigma\bigl(\tfrac{\beta}{2}\,(g_\text{chosen} - g_\text{rejected})\bigr),
\qquad g = \overline{w_k\,\bigl(\lVert\epsilon_k-\epsilon_\text{ref}\rVert^2
- \lVert\epsilon_k-\epsilon_\theta\rVert^2\bigr)}$$

The mean runs over the levels a deterministic DDIM inversion visits, and $\epsilon_k$ is the noise
of the step it took there. The logit is Diffusion-DPO's; what differs is the evidence, which the
run's `inversion` settings make. With the target `reference`, $\epsilon_k = \epsilon_\text{ref}$
as in the paper's figure: then nothing moves at the start, because both errors are at their minimum.

Read next: `inpo.py`, which inverts with the policy and aims at the clean picture.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import one_of, positive
from palate.objectives.logistic import soft_label_loss

SIGNS = {"figure": 1.0, "code": -1.0}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InversionDPO(Objective):
    """Inversion-DPO (Li et al., 2025); the loss of the figure, on transitions as they were taken.

    The transition target is RECONSTRUCTED: it equals the figure's form where the inversion is
    exact, and has a gradient at the start where the figure's has none.

    Attributes:
        beta: How tightly the reference holds the policy: the logit is (beta/2) · margin, as in
            `dpo`. The released script uses 2000 on SDXL.
        sign: Which branch may leave the reference. The paper's figure fits the chosen picture
            (`figure`); the released script has the opposite sign (`code`).
    """

    beta: float = 2000.0
    sign: Literal["figure", "code"] = "figure"

    name: ClassVar[str] = "inversion-dpo"
    title: ClassVar[str] = "Inversion-DPO"
    paper: ClassVar[str] = "arXiv:2507.11554"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        evidence=("inverted",),
        # All from the released script, except the target, which is ours: see the page.
        settings=MappingProxyType(
            {
                "inversion.steps": 80,
                "inversion.guidance": 2.0,
                "inversion.by": "reference",
                "inversion.target": "trajectory",
                "inversion.weight": "inv_alpha",
                # Ways are kept on disk, so they have to start where they started before.
                "pictures.latents": "mean",
            }
        ),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "The released script uses 2000.")
        one_of("sign", self.sign, SIGNS)

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its chosen image wins."""
        logit = SIGNS[self.sign] * 0.5 * self.beta * pairs.margin
        return Verdict(soft_label_loss(logit, pairs.agreement), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
