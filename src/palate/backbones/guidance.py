"""Classifier-free guidance: what the prompt adds to a prediction, made stronger.

The network is asked twice, without the prompt and with it, and the answer goes on in the
direction from the one to the other: without + guidance · (given − without) (Ho & Salimans, 2022,
arXiv:2207.12598, in the form in which 1 is no guidance). Sampling, inversion and the losses on
transitions all ask here, so the same strength means the same thing everywhere.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.core.problems import require


def guided(
    backbone: Backbone,
    noisy: Float[Tensor, " b c y x"],
    level: Shaped[Tensor, " b"],
    condition: Condition,
    empty: Condition | None,
    guidance: float,
) -> Float[Tensor, " b c y x"]:
    """The guided prediction, in one call of the network.

    Speaks with the backbone's present voice. As the policy it carries the gradient of both
    halves: the unconditional one with the factor 1 − guidance.

    Args:
        backbone: The model.
        noisy: Noisy latents.
        level: Noise level of each row.
        condition: What each row is conditioned on.
        empty: What the empty prompt says: one row for all, or one per row. What only the
            condition says, such as the sizes of pictures, holds for both halves; but not whom it
            is for, which goes with the prompt. None asks without guidance, whatever its strength.
        guidance: The strength. At 1 the empty prompt is not asked at all.

    Raises:
        SettingError: when `empty` has neither one row nor as many as the batch.
    """
    if empty is None or guidance == 1.0:
        return backbone.predict(noisy, level, condition)
    both = backbone.predict(
        torch.cat([noisy, noisy]), torch.cat([level, level]), _unconditional_first(condition, empty)
    )
    without, given = both.chunk(2)
    return without + guidance * (given - without)


def _unconditional_first(condition: Condition, empty: Condition) -> Condition:
    """The rows of the empty prompt, then the rows of the condition."""
    rows = len(condition)
    require(
        len(empty) in (1, rows),
        got=f"an empty prompt of {len(empty)} rows for a batch of {rows}",
        need="one row, or one per row of the batch",
        fix='Give `backbone.embed([""])`.',
    )
    alike = empty.rows([0] * rows) if len(empty) == 1 else empty
    without = Condition({**condition.tensors, **alike.tensors})
    if condition.user is not None and empty.user is None:
        without = without.with_user(torch.zeros_like(condition.user))
    return Condition.concatenate([without, condition])
