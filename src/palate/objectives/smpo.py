r"""SmPO: a pair counts as much as its label is sure, on inverted noise.

$$\ell = -\log \sigma\bigl(\gamma\,(2p-1)\,\tfrac{\beta}{2}\,
(g_\text{chosen} - g_\text{rejected})\bigr)$$

A soft label does not average the loss over two outcomes here: it scales the logit. A tie (p = ½)
teaches nothing, and a label turned round is the same pair turned round. The evidence is inverted
as for InPO, without fresh noise and with one ReNoise correction per step.

Read next: `inpo.py`, the same with hard labels.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, final

from torch.nn.functional import logsigmoid

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SmPO(Objective):
    """Smoothed preference optimisation (Lu et al., 2025; arithmetic of the released code).

    Attributes:
        beta: How tightly the reference holds the policy: the logit of a hard label is
            gamma · (beta/2) · margin. The released code uses 2000 for SD 1.5 and 5000 for SDXL.
        gamma: How sharply a sure label counts. The released code uses 10.
    """

    beta: float = 2000.0
    gamma: float = 10.0

    name: ClassVar[str] = "smpo"
    title: ClassVar[str] = "SmPO-Diffusion"
    paper: ClassVar[str] = "arXiv:2506.02698"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        labels="hard or soft; made for a scorer's soft ones",
        evidence=("inverted",),
        # The released code's; the paper says nine steps where its code takes five.
        settings=MappingProxyType(
            {
                "inversion.steps": 5,
                "inversion.first": 1,
                "inversion.guidance": 1.0,
                "inversion.by": "policy",
                "inversion.target": "clean",
                "inversion.weight": "uniform",
                "inversion.visits": 1,
                "inversion.renoise": True,
            }
        ),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000 for SD 1.5 or 5000 for SDXL.")
        positive("gamma", self.gamma, "The released code uses 10.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its chosen image wins, as far as the label is sure."""
        logit = 0.5 * self.beta * self.gamma * pairs.margin
        certainty = 2 * pairs.agreement - 1
        return Verdict(-logsigmoid(certainty * logit), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
