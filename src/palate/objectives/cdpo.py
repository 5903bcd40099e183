r"""Conservative DPO: every label may be wrong with a small probability.

$$\ell = (1-\varepsilon)\,\ell_\text{DPO}(m) + \varepsilon\,\ell_\text{DPO}(-m),
\qquad m = \tfrac{\beta}{2}\,\text{margin}$$

Label smoothing: the policy aims at the logit log((1 − ε)/ε) instead of at ever larger ones.

Read next: `rdpo.py`, which corrects for wrong labels instead of allowing for them.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive, within
from palate.objectives.logistic import soft_label_loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CDPO(Objective):
    """Conservative DPO (Mitchell's 2023 note; smoothing in the DPO authors' released code).

    Attributes:
        beta: How tightly the reference holds the policy, as in DPO.
        epsilon: Probability that a label is wrong, in [0, 0.5). The note has no value for
            pictures; 0.1 is ours.
    """

    beta: float = 2000.0
    epsilon: float = 0.1

    name: ClassVar[str] = "cdpo"
    title: ClassVar[str] = "Conservative DPO"
    paper: ClassVar[str] = "arXiv:2305.18290"
    year: ClassVar[int] = 2023
    needs: ClassVar[Needs] = Needs(reference=True, evidence=("noised", "inverted", "steps"))

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000 for SD 1.5 or 5000 for SDXL.")
        within("epsilon", self.epsilon, 0.0, 0.5, "Use the share of wrong labels, such as 0.1.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds of a label that may be turned round."""
        logit = 0.5 * self.beta * pairs.margin
        smoothed = pairs.agreement * (1 - self.epsilon) + (1 - pairs.agreement) * self.epsilon
        return Verdict(soft_label_loss(logit, smoothed), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)
