r"""InPO: Diffusion-DPO at the noise that would have drawn the picture, not at a random one.

$$\ell = -\log \sigma\bigl(\tfrac{\beta}{2}\,(g_\text{chosen} - g_\text{rejected})\bigr),
\qquad g = \lVert y-\epsilon_\text{ref}(x_t)\rVert^2 - \lVert y-\epsilon_\theta(x_t)\rVert^2,
\qquad y = \frac{x_t - \alpha_t x_0}{\sigma_t}$$

The policy itself leads the picture to $x_t$ in a few DDIM steps, with a little fresh noise, and
$y$ is the noise that then stands between state and picture. The logit is Diffusion-DPO's; what
differs is the evidence, which the run's `inversion` settings make.

Read next: `smpo.py`, which weighs pairs by how sure a scorer is.
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
class InPO(Objective):
    """Inversion preference optimisation (Lu et al., 2025; arithmetic of the released code).

    Attributes:
        beta: How tightly the reference holds the policy: the logit is (beta/2) · margin, as in
            `dpo`. The released code uses 2000 for SD 1.5 and 5000 for SDXL.
    """

    beta: float = 2000.0

    name: ClassVar[str] = "inpo"
    title: ClassVar[str] = "InPO"
    paper: ClassVar[str] = "arXiv:2503.18454"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        evidence=("inverted",),
        # The released code's; its levels are 1, 101, … 901.
        settings=MappingProxyType(
            {
                "inversion.steps": 10,
                "inversion.first": 1,
                "inversion.guidance": 1.0,
                "inversion.by": "policy",
                "inversion.target": "clean",
                "inversion.weight": "uniform",
                "inversion.visits": 1,
                "inversion.jitter": 0.1,
            }
        ),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000 for SD 1.5 or 5000 for SDXL.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its chosen image wins."""
        logit = 0.5 * self.beta * pairs.margin
        return Verdict(soft_label_loss(logit, pairs.agreement), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
