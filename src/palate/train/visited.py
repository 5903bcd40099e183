"""States on the way to noise as a question: several levels of each pair, weighed and guided.

Read next: `inverted.py`, where the states come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.guidance import guided
from palate.core.contrast import Branch, Denoised
from palate.core.problems import SettingError

Sides = tuple[Float[Tensor, " b k c h w"], Float[Tensor, " b k c h w"]]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visited:
    """States on the way to noise, and what a network should have said of them.

    Attributes:
        noisy: Latents of each side at the levels visited, [b, k, c, h, w].
        target: What to predict, of the same shapes, in the network's kind of prediction; None
            for the reference's own answers.
        conditions: Prompts and sizes of each side, [b, …].
        levels: The levels visited, [b, k].
        weight: How much each of them counts, [b, k].
        guidance: Strength of guidance in what is asked.
        empty: What the empty prompt says, one row; None where there is no guidance.
    """

    noisy: Sides
    target: Sides | None
    conditions: tuple[Condition, Condition]
    levels: Int[Tensor, " b k"]
    weight: Float[Tensor, " b k"]
    guidance: float = 1.0
    empty: Condition | None = None

    @property
    def level(self) -> Int[Tensor, " b"]:
        """The mean level each pair was visited at, rounded."""
        return self.levels.double().mean(1).round().long()

    def ask(self, backbone: Backbone, sides: int) -> Tensor:
        """Guided predictions, [sides · b, k, c, h, w], in one batch."""
        noisy = torch.cat(self.noisy[:sides]).to(backbone.device)
        many, visits = noisy.shape[:2]
        each = torch.arange(many).repeat_interleave(visits)
        answers = guided(
            backbone,
            noisy.flatten(0, 1),
            self.levels.repeat(sides, 1).flatten().to(backbone.device),
            Condition.concatenate(self.conditions[:sides]).rows(each).to(backbone.device),
            None if self.empty is None else self.empty.to(backbone.device),
            self.guidance,
        )
        return answers.unflatten(0, (many, visits))

    def branches(self, answers: Tensor, believed: Tensor | None) -> list[Branch]:
        """The errors of both, weighted level by level, picture by picture.

        Everything is scaled by the root of its level's weight, so that a branch's mean squared
        error is the weighted mean over the levels.

        Raises:
            SettingError: where the reference is the target and nobody asked it.
        """
        count = len(self.levels)
        sides = range(len(answers) // count)
        references = None if believed is None else believed.split(count)
        wide = torch.promote_types(answers.dtype, torch.float32)
        root = self.weight.sqrt().to(answers.device, wide)[:, :, None, None, None]
        targets = _known(self.target or references)
        return [
            Denoised(
                prediction=root * prediction.to(wide),
                target=root * targets[side].to(prediction.device, wide),
                reference=None if references is None else root * references[side].to(wide),
            )
            for side, prediction in zip(sides, answers.split(count), strict=True)
        ]


def _known(targets: Sequence[Tensor] | None) -> Sequence[Tensor]:
    """The targets, or a refusal where only the reference could give them."""
    if targets is None:
        raise SettingError(
            got="inversion.target=reference and an objective without a reference",
            need="a target that does not depend on it",
            fix="Use inversion.target=trajectory or clean.",
        )
    return targets
