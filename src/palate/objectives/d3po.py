r"""D3PO: every step on the way to the better picture counts as the better step.

$$\ell = -\log \sigma\Bigl(\beta\,\bigl(\log \mathrm{clip}(\rho_\text{chosen})
- \log \mathrm{clip}(\rho_\text{rejected})\bigr)\Bigr),
\qquad \rho = \frac{p_\theta(x_p \mid x_t)}{p_\text{ref}(x_p \mid x_t)}$$

Two pictures are drawn from one initial noise, a scorer says which is better, and all their steps
inherit that label: a step of one is compared with the step of the other at the same level. Ratios
are held within 1 ± clip; outside there is no gradient.

Read next: `spo.py`, which gives each step a label of its own.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.clipping import check_band, clipped_verdict


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class D3PO(Objective):
    """D3PO (Yang et al., 2023; arithmetic of the released code).

    Attributes:
        beta: Multiplies the difference of log-ratios, which are averaged over elements and not
            summed. The released code uses 0.1, with which the loss hardly leaves ln 2.
        clip: Ratios stay within 1 ± clip. The released code uses 0.1.
    """

    beta: float = 0.1
    clip: float = 0.1

    name: ClassVar[str] = "d3po"
    title: ClassVar[str] = "D3PO"
    paper: ClassVar[str] = "arXiv:2311.13231"
    year: ClassVar[int] = 2023
    needs: ClassVar[Needs] = Needs(
        reference=True,
        evidence=("steps",),
        generation=True,
        scorer=True,
        settings=MappingProxyType(
            {
                "rollout.labels": "final",
                "rollout.candidates": 2,
                "rollout.steps": 20,
                "rollout.eta": 1.0,
                "rollout.guidance": 5.0,
            }
        ),
    )

    def __post_init__(self) -> None:
        check_band(self.beta, self.clip, published="0.1")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair of steps by the odds that the chosen one wins."""
        return clipped_verdict(pairs, self.beta, self.clip)

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
