r"""DSPO: fit the score of what people prefer, by a target that leans away from the reference.

$$\ell = \bigl\lVert (\epsilon_\theta - \epsilon) - \beta\,(1-s)\,(\epsilon_\theta -
\epsilon_\text{ref}) \bigr\rVert^2, \qquad s = \sigma\bigl(\tfrac{\beta}{2}\,\text{margin}\bigr)$$

On the chosen image, per element. The rejected image enters through s alone, and the gradient
flows through s as well.

Read next: `sft.py`, which it is at β = 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Contrast, Denoised, Verdict, mean_square
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import one_of, positive, predicted

Form = Callable[[Denoised, Tensor, float], Tensor]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DSPO(Objective):
    """Direct score preference optimisation (Zhu et al., ICLR 2025), as in the released code.

    A soft label averages the loss over both outcomes; the released code has hard ones only.

    Attributes:
        beta: How far the target leans, and the β of s. The released code uses 0.001 to 0.05
            for SD 1.5, so that s stays near one half, and 1000 to 5000 with `form` sdxl.
        form: `sd15`, the formula above, or `sdxl`, the other one in the released code, kept
            for reproduction only.
    """

    beta: float = 0.001
    form: Literal["sd15", "sdxl"] = "sd15"

    name: ClassVar[str] = "dspo"
    title: ClassVar[str] = "DSPO"
    paper: ClassVar[str] = "github:huaishengzhu/DSPO"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True, evidence=("noised", "inverted"), predictions=True
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 0.001, or 1000 with form=sdxl.")
        one_of("form", self.form, FORMS)

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the leaning target on the image its label prefers."""
        turned, form = pairs.swap(), FORMS[self.form]
        logit = 0.5 * self.beta * pairs.margin
        chosen = form(predicted(pairs.chosen), torch.sigmoid(-logit), self.beta)
        rejected = form(predicted(turned.chosen), torch.sigmoid(logit), self.beta)
        loss = pairs.agreement * chosen + turned.agreement * rejected
        return Verdict(loss, {"logit": logit.detach()})

    def at_init(self) -> None:
        """Whatever the model's error is."""
        return None


def leaning(side: Denoised, lean: Float[Tensor, " b"], beta: float) -> Float[Tensor, " b"]:
    """The squared distance from a target that leans away from the reference, [b]."""
    prediction, target, reference = _wide(side)
    lean = (beta * lean).reshape(-1, *[1] * (prediction.ndim - 1))
    return mean_square(prediction - target, lean * (prediction - reference))


def switching(side: Denoised, lean: Float[Tensor, " b"], _beta: float) -> Float[Tensor, " b"]:
    """The released SDXL branch: a distance from the reference once it is large, else none, [b].

    The code asks whether the mean over the batch is large; here every pair is asked alone.
    """
    prediction, _, reference = _wide(side)
    moved = mean_square(prediction, reference)
    return lean.square() * torch.where(moved.detach() >= 0.1, moved, torch.ones_like(moved))


FORMS: Mapping[str, Form] = MappingProxyType({"sd15": leaning, "sdxl": switching})


def _wide(side: Denoised) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, target and reference in float32 at least."""
    wide = torch.promote_types(side.target.dtype, torch.float32)
    assert side.reference is not None  # the margin has just read it
    return side.prediction.to(wide), side.target.to(wide), side.reference.to(wide)
