r"""SPO: several next steps from one state, each judged by itself.

$$\ell = -\log \sigma\Bigl(\beta\,\bigl(\log \mathrm{clip}(\rho_\text{chosen})
- \log \mathrm{clip}(\rho_\text{rejected})\bigr)\Bigr),
\qquad \rho = \frac{p_\theta(x_p \mid x_t)}{p_\text{ref}(x_p \mid x_t)}$$

At each level the policy draws a few candidates for the next state. A scorer that knows the noise
level picks the best and the worst, the pair is kept where it is sure enough, and the drawing goes
on from a random candidate, so that later pairs do not inherit the earlier decision.

Read next: `lpo.py`, whose scorer reads noisy latents and needs no picture.
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
class SPO(Objective):
    """Step-by-step preference optimisation (Liang et al., 2024; arithmetic of the released code).

    Attributes:
        beta: Multiplies the difference of log-ratios, which are averaged over elements and not
            summed. The released code uses 10.
        clip: Ratios stay within 1 ± clip. The released code uses 0.1.
    """

    beta: float = 10.0
    clip: float = 0.1

    name: ClassVar[str] = "spo"
    title: ClassVar[str] = "SPO"
    paper: ClassVar[str] = "arXiv:2406.04314"
    year: ClassVar[int] = 2024
    needs: ClassVar[Needs] = Needs(
        reference=True,
        evidence=("steps",),
        generation=True,
        scorer=True,
        # The released code's for SD 1.5.
        settings=MappingProxyType(
            {
                "rollout.labels": "steps",
                "rollout.candidates": 4,
                "rollout.steps": 20,
                "rollout.eta": 1.0,
                "rollout.guidance": 5.0,
                "rollout.skip_first": 4,
                "rollout.threshold": 0.3,
            }
        ),
    )

    def __post_init__(self) -> None:
        check_band(self.beta, self.clip, published="10")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair of steps by the odds that the chosen one wins."""
        return clipped_verdict(pairs, self.beta, self.clip)

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
