r"""Diffusion-KTO: each picture is good or bad by itself, and losses weigh more than gains.

$$\ell = \sum_{y} w_y\,\lambda_y\,\bigl(1 - \sigma\bigl(\pm\tfrac{\beta}{2}\,(g_y - Q)\bigr)\bigr),
\qquad Q = \max\bigl(0,\ \overline{g}\bigr)$$

With plus for a desirable picture and minus for another. Q, the mean gain over all pictures of the
optimizer step, is what the model has got used to; it carries no gradient.

Read next: `dpo.py`, which compares the two pictures with each other.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import one_of, positive, within

# What a picture costs, by how much better than expected it is explained, in units of 2/β.
COSTS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "kahneman-tversky": lambda value: torch.sigmoid(-value),
        "loss-averse": lambda value: -logsigmoid(value),
        "risk-seeking": lambda value: logsigmoid(-value),
    }
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KTO(Objective):
    """Diffusion-KTO (Li et al., 2024), as in the released code, on both pictures of a pair.

    Attributes:
        beta: How steep the utility is. The released code uses 1000 without the factor ½, which
            is 2000 here.
        desirable: How much a desirable picture counts: λ, 1 as released.
        undesirable: How much an undesirable one counts: 1 as released.
        positives: Weight of a desirable picture against an undesirable one, in (0, 1): ½ is the
            mean over pictures. The released code draws 0.8 of its pictures from the desirable
            ones; 0.8 gives them that weight here, in the loss and in Q.
        utility: `kahneman-tversky` as published; `loss-averse` and `risk-seeking` bend one way.
    """

    beta: float = 2000.0
    desirable: float = 1.0
    undesirable: float = 1.0
    positives: float = 0.5
    utility: Literal["kahneman-tversky", "loss-averse", "risk-seeking"] = "kahneman-tversky"

    name: ClassVar[str] = "kto"
    title: ClassVar[str] = "Diffusion-KTO"
    paper: ClassVar[str] = "arXiv:2404.04465"
    year: ClassVar[int] = 2024
    needs: ClassVar[Needs] = Needs(
        reference=True,
        labels="which picture won, or how probably, and which losers won elsewhere",
        evidence=("noised", "inverted"),
        facts=("redeemed",),
        whole_batch=True,
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000, which is 1000 without the factor ½.")
        positive("desirable", self.desirable, "Use 1.")
        positive("undesirable", self.undesirable, "Use 1.")
        within("positives", self.positives, 1e-6, 1.0, "Use 0.5, which weighs both alike.")
        one_of("utility", self.utility, COSTS)

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by what its two pictures are worth, each by itself."""
        turned = pairs.swap()
        gains = torch.stack([pairs.chosen.gain, turned.chosen.gain])
        good = torch.stack([pairs.agreement, self._second_chance(pairs)])
        share = self.positives * good + (1 - self.positives) * (1 - good)
        share = share / share.sum(0)
        usual = pairs.mean((share * gains).sum(0).detach()).clamp(min=0.0)
        value = 0.5 * self.beta * (gains - usual)
        cost = COSTS[self.utility]
        paid = self.desirable * good * cost(value)
        paid = paid + self.undesirable * (1 - good) * cost(-value)
        logit = 0.5 * self.beta * pairs.margin.detach()
        return Verdict((share * paid).sum(0), {"logit": logit})

    def at_init(self) -> float | None:
        """The cost of what is usual; with two weights, it depends on who counts as desirable."""
        start = float(COSTS[self.utility](torch.zeros(1, dtype=torch.float64)))
        same = math.isclose(self.desirable, self.undesirable, rel_tol=0, abs_tol=0)
        return self.desirable * start if same else None

    def _second_chance(self, pairs: Contrast) -> Float[Tensor, " b"]:
        """Probability that the other picture is desirable: it won here, or elsewhere, [b].

        Pairs that come without `redeemed` are taken as all there is: no loser won elsewhere.
        """
        lost = pairs.agreement
        redeemed = pairs.fact("redeemed") if "redeemed" in pairs.facts else torch.zeros_like(lost)
        return 1 - lost * (1 - redeemed)
