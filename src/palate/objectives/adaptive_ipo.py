r"""Adaptive-IPO: a target margin, aimed at less where a label looks like a minority's.

$$\ell = W\,\Bigl(h + \frac{\Gamma}{\beta/2} - \frac{1}{2\beta_\text{IPO}}\Bigr)^2$$

h is the margin of errors itself. The sign of Γ is the released code's: there it lowers what h has
to reach, the opposite of Adaptive-DPO; `margin_sign` turns it round.

Read next: `annotators.py`, which tells the minority metric behind W and Γ.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.annotators import Annotated, check_annotators
from palate.objectives.base import Needs
from palate.objectives.limits import one_of, positive

SIGNS = {"code": 1.0, "consistent": -1.0}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveIPO(Annotated):
    """Adaptive-IPO (Zhang et al., 2025; arithmetic of the released code).

    Attributes:
        beta: IPO's own: the target margin is 1 / (2·beta), in units of mean squared error. The
            released code uses 100, a target of 0.005.
        logit_beta: The beta that Γ is divided by, in Adaptive-DPO's sense and with our half: 2000
            here is 1000 there.
        margin_sign: `code`: Γ lowers the margin that is needed; `consistent`: it raises it, as
            in Adaptive-DPO.
    """

    beta: float = 100.0
    logit_beta: float = 2000.0
    margin_sign: Literal["code", "consistent"] = "code"

    name: ClassVar[str] = "adaptive-ipo"
    title: ClassVar[str] = "Adaptive-IPO"
    paper: ClassVar[str] = "arXiv:2503.16921"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True,
        labels="hard, some of them wrong",
        averages=("slow", "fast"),
        whole_batch=True,
        kept=("minority",),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "The released code uses 100: a target of 0.005.")
        positive("logit_beta", self.logit_beta, "Use 2000: the released 1000 has no half.")
        one_of("margin_sign", self.margin_sign, SIGNS)
        check_annotators(self)

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by how far its margin is from the target, as far as it is trusted."""
        minority = self.minority(pairs)
        weight = self.weights(pairs, minority)
        bonus = self.bonus(pairs, minority, self.logit_beta) / (self.logit_beta / 2)
        raised = pairs.margin + SIGNS[self.margin_sign] * bonus
        win, lose = (raised - self._target).square(), (raised + self._target).square()
        loss = weight * (pairs.agreement * win + (1 - pairs.agreement) * lose)
        return Verdict(loss, {"minority": minority, "weight": weight})

    def at_init(self) -> float:
        """The square of the target, times the weight of a pair that is not suspect."""
        return self._target**2 * (1.0 if self.balanced else self.first_weight())

    @property
    def _target(self) -> float:
        """The margin to reach."""
        return 1 / (2 * self.beta)
