r"""Flow-DPO: Diffusion-DPO with errors of the flow, for models on a straight path.

$$\ell = -\log\sigma\bigl(\tfrac{\beta}{2}\,w\,\text{margin}_u\bigr),
\qquad u = \epsilon - x_0, \quad s = \tfrac{\sigma}{\alpha+\sigma}$$

Errors of any other prediction are converted: an error of the noise is (1 − s) times an error of
the flow. With w = (1 − s)² the loss is Diffusion-DPO's on the noise, exactly.

Read next: `weighting.py`, which holds the conversions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import one_of, positive
from palate.objectives.logistic import soft_label_loss
from palate.objectives.weighting import clean_share, flow_units

WEIGHTS: Mapping[str, Callable[[Contrast], Tensor]] = MappingProxyType(
    {
        "constant": lambda pairs: torch.ones_like(pairs.agreement),
        "(1-s)^2": lambda pairs: clean_share(pairs).square(),
    }
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDPO(Objective):
    """Flow-DPO (Liu et al., 2025), as in the code the authors point to.

    Attributes:
        beta: How tightly the reference holds the policy: the logit is (beta/2) · margin, with
            errors of the flow averaged over elements. The released code uses 100.
        weight: `constant` as released; `(1-s)^2` is the exact translation of Diffusion-DPO.
    """

    beta: float = 100.0
    weight: Literal["constant", "(1-s)^2"] = "constant"

    name: ClassVar[str] = "flow-dpo"
    title: ClassVar[str] = "Flow-DPO"
    paper: ClassVar[str] = "arXiv:2501.13918"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True, settings=MappingProxyType({"noise.levels": "logit-normal"})
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 100 with a constant weight, or DPO's with (1-s)^2.")
        one_of("weight", self.weight, WEIGHTS)

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the odds that its chosen image wins, in errors of the flow."""
        logit = 0.5 * self.beta * WEIGHTS[self.weight](pairs) * self._flow_margin(pairs)
        return Verdict(soft_label_loss(logit, pairs.agreement), {"logit": logit.detach()})

    def at_init(self) -> float:
        """A fair coin, whatever the label."""
        return math.log(2)

    def _flow_margin(self, pairs: Contrast) -> Float[Tensor, " b"]:
        """The margin in errors of the flow, [b].

        Pairs without a noise level are numbers tried by hand: their errors are the flow's.
        """
        return pairs.margin if pairs.alpha is None else flow_units(pairs) * pairs.margin
