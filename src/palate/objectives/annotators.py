r"""Which pairs look like minority judgements, told by three copies of the model itself.

The policy and two running averages of it judge the same noised pictures. Their margins $h_m$,
each divided by its root mean square over the optimizer step and multiplied by ρ, are logits:

$$u = \Bigl(1 - \tfrac13\sum_m \sigma(s_m)\Bigr)\cdot\min\bigl(\mathrm{std}_m(s_m), 1\bigr),
\qquad s_m = \rho\,h_m / \mathrm{rms}(h_m)$$

A pair is suspect where the copies doubt its label and disagree about it. Where all agree that a
label is wrong, u is 0: a blind spot of the product.

Read next: `adaptive_dpo.py`, which pays suspect pairs less.
"""

import math
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Contrast
from palate.core.problems import require
from palate.objectives.base import Objective
from palate.objectives.limits import one_of, positive, within

Shape = Literal["linear", "quadratic", "exponential", "square-root"]
Bonus = Literal["quadratic", "linear", "none"]
Units = Literal["raw", "logit"]
GROWTH: MappingProxyType[str, Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        "linear": lambda u, steepness: steepness * u,
        "quadratic": lambda u, steepness: steepness * u.square(),
        "exponential": lambda u, steepness: (steepness * u).exp(),
        "square-root": lambda u, steepness: (steepness * u.sqrt()).exp(),
    }
)
# Smaller than any margin that a float32 error can show.
LEAST_MARGIN = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated(Objective, ABC):
    """What Adaptive-DPO and Adaptive-IPO share: the annotators, the weight and the margin.

    Nothing here carries a gradient. The arithmetic is the released code's.

    Attributes:
        slow: Decay of the slow average, per optimizer step. The released code uses 0.9999.
        fast: Decay of the fast one. The released code uses 0.5.
        sharpness: ρ, which turns margins into logits. 3.75 is the released 15 at its micro-batch
            of 16, because it divides by a norm where we divide by a root mean square; with
            `normalise` off, its argument's default is about 1e4.
        normalise: Divide margins by their root mean square over the whole optimizer step.
        weight: How the weight falls with the minority metric u: 1 / (k·u + c), 1 / (k·u² + c),
            1 / (exp(k·u) + c) or 1 / (exp(k·√u) + c). Released: linear.
        steepness: k, 10 as released.
        offset: c, 1 as released: linear weights then lie in [1/11, 1].
        balanced: Divide weights by their mean over the optimizer step (ours, for controls).
        margin: How the margin falls with u: by u², by u, or no margin at all. Released: quadratic.
        margin_units: What the margin is measured in: `raw` as released, where it is too small
            to matter, or `logit`, which is RECONSTRUCTED from what it seems meant to be.
        margin_scale: How far the margin falls from u = 0 to 1; none means 2/beta in raw units,
            as released, and 1 in logit units.
        warm_up: Optimizer steps in which no pair is suspect. The released code has 2.
    """

    slow: float = 0.9999
    fast: float = 0.5
    sharpness: float = 3.75
    normalise: bool = True
    weight: Shape = "linear"
    steepness: float = 10.0
    offset: float = 1.0
    balanced: bool = False
    margin: Bonus = "quadratic"
    margin_units: Units = "raw"
    margin_scale: float | None = None
    warm_up: int = 2

    def minority(self, pairs: Contrast) -> Float[Tensor, " b"]:
        """How much each label looks like a minority's: the metric u, [b], in [0, 1]."""
        margins = (pairs.margin.detach(), *pairs.averages)
        require(
            len(margins) == 3,
            got=f"{len(pairs.averages)} averaged margins",
            need="two: those of the slow and the fast average of the policy",
            fix="Give averages=(slow, fast); a training keeps them by itself.",
        )
        logits = torch.stack([self.sharpness * self._scaled(pairs, each) for each in margins])
        doubt = 1 - logits.sigmoid().mean(0)
        spread = logits.std(0, correction=1).clamp(max=1)
        return doubt * spread * float(pairs.step >= self.warm_up)

    def weights(self, pairs: Contrast, minority: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """How much each pair counts, [b]: less where its label is suspect."""
        weights = 1 / (GROWTH[self.weight](minority, self.steepness) + self.offset)
        return weights / pairs.mean(weights) if self.balanced else weights

    def bonus(
        self, pairs: Contrast, minority: Float[Tensor, " b"], beta: float
    ) -> Float[Tensor, " b"]:
        """What the logit of each pair has to clear, [b]: more where its label is not suspect."""
        unit = {"raw": 1.0, "logit": beta / 2}[self.margin_units]
        default = {"raw": 2 / beta, "logit": 1.0}[self.margin_units]
        scale = default if self.margin_scale is None else self.margin_scale
        # Asked in every case, so that each part of a step asks as often.
        level = unit * pairs.mean(pairs.margin.detach())
        falls: dict[str, Callable[[], Tensor]] = {
            "quadratic": lambda: level - scale * minority.square(),
            "linear": lambda: level - scale * minority,
            "none": lambda: torch.zeros_like(minority),
        }
        return falls[self.margin]()

    def first_weight(self) -> float:
        """The weight of a pair that is not suspect, before balancing."""
        nothing = torch.zeros((), dtype=torch.float64)
        return 1 / (float(GROWTH[self.weight](nothing, self.steepness)) + self.offset)

    def _scaled(self, pairs: Contrast, margin: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Margins over their root mean square: one number means the same in every step."""
        if not self.normalise:
            return margin
        return margin / pairs.mean(margin.square()).sqrt().clamp_min(LEAST_MARGIN)


def check_annotators(settings: Annotated) -> None:
    """Refuse settings of the shared part that cannot be used.

    Raises:
        SettingError: with the setting, its limits and a value that works.
    """
    one_of("weight", settings.weight, get_args(Shape))
    one_of("margin", settings.margin, get_args(Bonus))
    one_of("margin_units", settings.margin_units, get_args(Units))
    within("slow", settings.slow, 0, 1, "The released code uses 0.9999.")
    within("fast", settings.fast, 0, 1, "The released code uses 0.5.")
    positive("sharpness", settings.sharpness, "Use 3.75; without normalise, about 10000.")
    positive("offset", settings.offset, "The released code uses 1.")
    within("steepness", settings.steepness, 0, math.inf, "The released code uses 10.")
    within("warm_up", settings.warm_up, 0, math.inf, "The released code uses 2.")
    if settings.margin_scale is not None:
        within("margin_scale", settings.margin_scale, 0, math.inf, "Leave it out, or use 1.")
