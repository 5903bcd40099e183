r"""Hinge: push a pair until its logit reaches 1, then leave it alone.

$$\ell = \max\bigl(0,\ 1 - m\bigr), \qquad m = \tfrac{\beta}{2}\,\text{margin}$$

Read next: `ipo.py`, which also pulls back what went too far.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch.nn.functional import relu

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Hinge(Objective):
    """The hinge on a reference-relative margin (Liu et al., 2023, RSO) on denoising errors.

    A soft label averages the loss over both outcomes.

    Attributes:
        beta: A margin of 2 / beta is enough. The paper is about text and has no value for
            pictures; 2000 is DPO's.
    """

    beta: float = 2000.0

    name: ClassVar[str] = "hinge"
    title: ClassVar[str] = "Hinge"
    paper: ClassVar[str] = "arXiv:2309.06657"
    year: ClassVar[int] = 2023
    needs: ClassVar[Needs] = Needs(reference=True, evidence=("noised", "inverted", "steps"))

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000; larger is content with a smaller margin.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by what it lacks to a logit of 1."""
        logit = 0.5 * self.beta * pairs.margin
        loss = pairs.agreement * relu(1 - logit) + (1 - pairs.agreement) * relu(1 + logit)
        return Verdict(loss, {"logit": logit.detach()})

    def at_init(self) -> float:
        """The whole way to a logit of 1, whatever the label."""
        return 1.0
