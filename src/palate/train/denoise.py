"""Batch → Contrast: what policy and reference each say of the same noised pictures.

This is the heart. Both pictures of every pair go through the policy in one batch with gradient,
and through the reference in the same layout without: equal inputs in an equal layout are what
makes the margin exactly zero before the first step.

Read next: `palate/core/contrast.py`, what is made of the answers.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.core.contrast import Contrast, Denoised
from palate.objectives import Needs
from palate.train.batch import Batch
from palate.train.noise import Noised


def denoise(
    backbone: Backbone, batch: Batch, noised: Noised, needs: Needs, progress: float = 0.0
) -> Contrast:
    """Ask the policy, and the reference if it is needed, about a batch of pairs.

    Args:
        backbone: The model with both voices.
        batch: The pairs.
        noised: Their noise and levels.
        needs: What the objective reads; nothing else is computed.
        progress: How much of the run is done, in [0, 1].
    """
    sides = 2 if needs.rejected else 1
    device = backbone.device
    clean = torch.cat([batch.chosen, batch.rejected][:sides]).to(device)
    noise = torch.cat([noised.chosen, noised.rejected][:sides]).to(device)
    level = noised.level.repeat(sides).to(device)
    condition = batch.condition.repeat(sides).to(device)
    noisy = backbone.path.noisy(clean, noise, level)
    target = backbone.path.target(clean, noise, level)

    predicted = backbone.predict(noisy, level, condition)
    believed = _reference(backbone, noisy, level, condition) if needs.reference else None

    count = len(batch)
    branches = [
        Denoised(
            prediction=predicted[side * count : (side + 1) * count],
            target=target[side * count : (side + 1) * count],
            reference=None if believed is None else believed[side * count : (side + 1) * count],
        )
        for side in range(sides)
    ]
    return Contrast(
        chosen=branches[0],
        rejected=branches[1] if needs.rejected else None,
        agreement=batch.agreement.to(device),
        level=noised.level,
        progress=progress,
    )


def _reference(
    backbone: Backbone,
    noisy: Float[Tensor, " b c h w"],
    level: Int[Tensor, " b"],
    condition: Condition,
) -> Float[Tensor, " b c h w"]:
    """The reference's answer, never part of a gradient."""
    with torch.no_grad(), backbone.as_reference():
        return backbone.predict(noisy, level, condition)
