r"""MaPO: no reference; denoise the chosen image, and better than the rejected one.

$$\ell = e_\text{chosen} - b\,\log\sigma\bigl(T\,(f(e_\text{chosen}) - f(e_\text{rejected}))\bigr),
\qquad f(e) = \frac{a\,e}{\exp(a\,e) - 1}$$

The loss is the plain one on the chosen image plus a margin between the two, squashed by f, which
falls from 1 at a perfect prediction towards 0.

Read next: `sft.py`, the first term alone.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive
from palate.objectives.logistic import soft_label_loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MaPO(Objective):
    """Margin-aware preference optimisation (Hong et al., 2024), as in the released code.

    A soft label averages the loss over both outcomes; the released code drops ties.

    Attributes:
        weight: How much the margin counts beside the plain loss: b, 0.1 as released.
        squash: How fast f falls with the error: a, 0.5 as released.
        scale: What the margin is multiplied by: T, the number of training levels, 1000.
    """

    weight: float = 0.1
    squash: float = 0.5
    scale: float = 1000.0

    name: ClassVar[str] = "mapo"
    title: ClassVar[str] = "MaPO"
    paper: ClassVar[str] = "arXiv:2406.06424"
    year: ClassVar[int] = 2024
    needs: ClassVar[Needs] = Needs(reference=False, evidence=("noised", "inverted"))

    def __post_init__(self) -> None:
        positive("weight", self.weight, "Use 0.1; objective=sft is the loss without a margin.")
        positive("squash", self.squash, "Use 0.5.")
        positive("scale", self.scale, "Use 1000, the number of training levels.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by its chosen error, and by the odds that it is the smaller one."""
        turned = pairs.swap()  # refuses pairs without a rejected image
        chosen, rejected = pairs.chosen.error, turned.chosen.error
        logit = self.scale * (squashed(self.squash * chosen) - squashed(self.squash * rejected))
        plain = pairs.agreement * chosen + turned.agreement * rejected
        loss = plain + self.weight * soft_label_loss(logit, pairs.agreement)
        return Verdict(loss, {"logit": logit.detach()})

    def at_init(self) -> None:
        """Whatever the model's errors are."""
        return None


def squashed(error: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The function x / (eˣ − 1), which is 1 at x = 0, [b]."""
    # Around 0 both parts vanish: there the first terms of the series are exact to 1e-17.
    small = error < 1e-4
    safe = torch.where(small, torch.ones_like(error), error)
    return torch.where(
        small, 1 - error / 2 + error.square() / 12, safe * torch.exp(-safe) / -torch.expm1(-safe)
    )
