r"""PPD: Diffusion-DPO in which the policy is told whose preference it is, and the reference is not.

$$\ell = -\log \sigma\bigl(\tfrac{\beta}{2}\,(g_\text{chosen} - g_\text{rejected})\bigr),
\qquad g = \lVert\epsilon-\epsilon_\text{ref}(x_t, c)\rVert^2
- \lVert\epsilon-\epsilon_\theta(x_t, c, u)\rVert^2$$

The logit is Diffusion-DPO's. What is the method's own is $u$, an embedding of the person who
judged the pair, made from a few of their other pairs: the run's group `personal` brings it, and
trains nothing but attention to it, beside a base model that stays.

Read next: `palate/train/book.py`, whose embedding each pair is shown.
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
class PPD(Objective):
    """Personalised preference fine-tuning (Dang et al., 2025, read in reading notes of others).

    Attributes:
        beta: How tightly the reference holds the policy: the logit is (beta/2) · margin, as in
            `dpo`. The paper's number was not found; 5000 is Diffusion-DPO's for a large model,
            and ours here.
    """

    beta: float = 5000.0

    name: ClassVar[str] = "ppd"
    title: ClassVar[str] = "PPD"
    paper: ClassVar[str] = "arXiv:2501.06655"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        evidence=("noised", "inverted"),
        users=True,
        # Four examples are the notes'; the rate of dropping was not found, and 0.1 is theirs.
        settings=MappingProxyType(
            {"personal.users": "looks", "personal.examples": 4, "personal.dropout": 0.1}
        ),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 5000 to begin with; smaller lets the policy move further.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its chosen image wins, with its judge's taste known."""
        logit = 0.5 * self.beta * pairs.margin
        return Verdict(soft_label_loss(logit, pairs.agreement), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
