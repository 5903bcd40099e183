r"""SPIN-Diffusion: the model plays against pictures of the model it was a round before.

$$\ell = -\log \sigma\bigl(\tfrac{\beta}{2}\,(g_\text{data} - g_\text{opponent})\bigr),
\qquad g = \lVert\epsilon-\epsilon_k\rVert^2 - \lVert\epsilon-\epsilon_\theta\rVert^2$$

One good picture per prompt is enough: the loser is drawn by the previous round's model, which is
also the reference. Nobody labels anything, so the label is not read: the data wins.

Read next: `dpo.py`, which has the same logit and asks people instead.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, final

from torch.nn.functional import logsigmoid

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SPIN(Objective):
    """SPIN-Diffusion (Yuan et al., 2024, eq. 4.9 in the form of eq. C.6).

    The constant weight and the factor ½ are RECONSTRUCTED: the paper's own weight would make its
    published betas meaningless, and its code was not available.

    Attributes:
        beta: How tightly the previous round's model holds the policy: the logit is
            (beta/2) · margin, as in `dpo`. The paper uses 2000 in the first round and 5000 in
            the second and third; `selfplay.betas` gives one per round.
    """

    beta: float = 2000.0

    name: ClassVar[str] = "spin"
    title: ClassVar[str] = "SPIN-Diffusion"
    paper: ClassVar[str] = "arXiv:2402.10210"
    year: ClassVar[int] = 2024
    needs: ClassVar[Needs] = Needs(
        reference=True,
        labels="none: the data wins over the previous model",
        generation=True,
        settings=MappingProxyType(
            {
                "selfplay.iterations": 3,
                "selfplay.opponent": "renoised",
                "selfplay.guidance": 7.5,
                "selfplay.sampling_steps": 50,
            }
        ),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "The paper uses 2000 in the first round and 5000 afterwards.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that the data wins over the previous model."""
        logit = 0.5 * self.beta * pairs.margin
        return Verdict(-logsigmoid(logit), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin: at the start of a round nobody is ahead."""
        return math.log(2)
