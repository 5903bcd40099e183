r"""LPO: the same steps as SPO, judged in the latent space where they are taken.

$$\ell = -\log \sigma\Bigl(\beta\,\bigl(\log \mathrm{clip}(\rho_\text{chosen})
- \log \mathrm{clip}(\rho_\text{rejected})\bigr)\Bigr),
\qquad \rho = \frac{p_\theta(x_p \mid x_t)}{p_\text{ref}(x_p \mid x_t)}$$

The scorer is built from the diffusion model's own layers and reads noisy latents, so that no step
is skipped and no picture decoded. How sure it must be grows with the noise.

Read next: `spo.py`, whose loss this is.
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
class LPO(Objective):
    """Latent preference optimisation (Zhang et al., 2025; arithmetic of the released code).

    Attributes:
        beta: Multiplies the difference of log-ratios, which are averaged over elements and not
            summed. The released code uses 500: inside the band, a nearly hard margin.
        clip: Ratios stay within 1 ± clip. The released code uses 0.1.
    """

    beta: float = 500.0
    clip: float = 0.1

    name: ClassVar[str] = "lpo"
    title: ClassVar[str] = "LPO"
    paper: ClassVar[str] = "arXiv:2502.01051"
    year: ClassVar[int] = 2025
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
                "rollout.skip_first": 0,
                "rollout.threshold": 0.35,
                "rollout.threshold_high": 0.5,
            }
        ),
    )

    def __post_init__(self) -> None:
        check_band(self.beta, self.clip, published="500")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair of steps by the odds that the chosen one wins."""
        return clipped_verdict(pairs, self.beta, self.clip)

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
