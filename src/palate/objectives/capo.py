r"""CaPO: the margin should equal a gap in calibrated rewards, not grow for ever.

$$\ell = \bigl(\Delta - \tfrac{\beta}{2}\,w_t\,\text{margin}\bigr)^2,
\qquad w_t = \sigma(b - \log\text{SNR}_t)$$

A calibrated reward is a picture's expected win rate against the other pictures of its prompt,
averaged over scorers; Δ is the chosen picture's minus the rejected one's, in [−1, 1].

Read next: `ipo.py`, the case where every gap is the same.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Contrast, Verdict
from palate.core.problems import require
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive
from palate.objectives.weighting import noise_sigmoid


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CaPO(Objective):
    """Calibrated preference optimisation (Lee et al., 2025), from a reading note of the paper.

    Attributes:
        beta: What a margin is worth as a gap: (beta/2) · margin. No published value was found;
            2000 is ours.
        bias: Where the weight of a noise level is one half, as a log signal-to-noise ratio: b.
            No published value was found; 0 is ours.
    """

    beta: float = 2000.0
    bias: float = 0.0

    name: ClassVar[str] = "capo"
    title: ClassVar[str] = "CaPO"
    paper: ClassVar[str] = "arXiv:2502.02588"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        labels="calibrated rewards; without them, the label's own gap",
        evidence=("noised", "inverted"),
        facts=("reward_gap",),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000; smaller lets the policy move further.")
        require(
            abs(self.bias) < 100,
            got=f"bias={self.bias}",
            need="a bias between -100 and 100",
            fix="Use 0 for a weight of one half where picture and noise are equally strong.",
        )

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by how far its margin is from the gap in rewards."""
        worth = 0.5 * self.beta * self._weight(pairs) * pairs.margin
        gap = self._gap(pairs)
        return Verdict((gap - worth).square(), {"worth": worth.detach(), "target": gap.detach()})

    def at_init(self) -> None:
        """It depends on the gap: its square."""
        return None

    def _weight(self, pairs: Contrast) -> Float[Tensor, " b"]:
        """The weight of each pair's noise level, [b]; 1 where pairs come without a level."""
        if pairs.alpha is None:
            return torch.ones_like(pairs.agreement)
        return noise_sigmoid(pairs, self.bias)

    def _gap(self, pairs: Contrast) -> Float[Tensor, " b"]:
        """The gap in calibrated rewards, [b].

        Where nobody scored, the label is the only judge, and 2a − 1 is its calibrated gap.
        """
        known = "reward_gap" in pairs.facts
        return pairs.fact("reward_gap") if known else 2 * pairs.agreement - 1
