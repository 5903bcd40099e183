r"""Diffusion-IPO: aim at a margin, and come back when it is passed.

$$\ell = \Bigl(\text{margin} - \frac{2a-1}{2\beta}\Bigr)^2$$

The margin is the raw one, in mean squared errors per element, and a is the agreement: 1 for a
hard label. A tie asks for a margin of zero.

Read next: `capo.py`, where a scorer says how large the gap should be.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class IPO(Objective):
    """Identity preference optimisation (Azar et al., 2023, eq. 17) on denoising errors.

    A soft label sets the target, as the expectation over labels in the paper does.

    Attributes:
        beta: The target margin is 1 / (2·beta), in mean squared errors per element. This β has
            nothing to do with DPO's. Adaptive-DPO's released code uses 100 for SD 1.5, a target
            of 0.005.
    """

    beta: float = 100.0

    name: ClassVar[str] = "ipo"
    title: ClassVar[str] = "Diffusion-IPO"
    paper: ClassVar[str] = "arXiv:2310.12036"
    year: ClassVar[int] = 2023
    needs: ClassVar[Needs] = Needs(reference=True, evidence=("noised", "inverted", "steps"))

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 100 for a target margin of 0.005; larger aims lower.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by its squared distance from the margin its label asks for."""
        target = (2 * pairs.agreement - 1) / (2 * self.beta)
        return Verdict((pairs.margin - target).square(), {"target": target.detach()})

    def at_init(self) -> None:
        """It depends on the label: the square of the target margin."""
        return None
