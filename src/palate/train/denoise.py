"""Batch → Contrast: what policy and reference each say of the same pictures.

This is the heart. Both pictures of every pair go through the policy in one batch with gradient,
and through the reference in the same layout without: equal inputs in an equal layout are what
makes the margin exactly zero before the first step.

Read next: `palate/core/contrast.py`, what is made of the answers.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from palate.backbones.backbone import Backbone
from palate.core.contrast import Contrast
from palate.core.path import Path
from palate.objectives import Needs
from palate.train.batch import Rows
from palate.train.noise import Question


def denoise(
    backbone: Backbone,
    batch: Rows,
    question: Question,
    needs: Needs,
    *,
    step: int = 0,
    progress: float = 0.0,
    voices: Sequence[AbstractContextManager[None]] = (),
) -> Contrast:
    """Ask the policy, and the reference if it is needed, about a batch of pairs.

    Args:
        backbone: The model with both voices.
        batch: The pairs.
        question: What they are asked: noised pictures, inverted ones, or steps taken.
        needs: What the objective reads; nothing else is computed.
        step: Optimizer steps taken before.
        progress: How much of the run is done, in [0, 1].
        voices: Further voices, such as averages of the policy; inside each, the backbone speaks
            for it.
    """
    sides = 2 if needs.rejected else 1
    answers = question.ask(backbone, sides)
    believed = None
    if needs.reference:
        with torch.no_grad(), backbone.as_reference():
            believed = question.ask(backbone, sides)
    branches = question.branches(answers, believed)
    alpha, sigma = _mix(backbone.path, question.level)
    return Contrast(
        chosen=branches[0],
        rejected=branches[1] if needs.rejected else None,
        agreement=batch.agreement.to(backbone.device),
        level=question.level,
        alpha=alpha.to(answers.device),
        sigma=sigma.to(answers.device),
        prediction=backbone.path.prediction,
        averages=tuple(_margin(backbone, question, voice, believed) for voice in voices),
        facts={name: values.to(backbone.device) for name, values in batch.facts.items()},
        step=step,
        progress=progress,
    )


def _margin(
    backbone: Backbone,
    question: Question,
    voice: AbstractContextManager[None],
    believed: Tensor | None,
) -> Tensor:
    """Another voice's margin against the same reference, without gradient."""
    with torch.no_grad(), voice:
        answers = question.ask(backbone, 2)
    chosen, rejected = question.branches(answers, believed)
    return chosen.gain - rejected.gain


def _mix(path: Path, level: Tensor) -> tuple[Tensor, Tensor]:
    """How much picture and how much noise there is at each pair's level, float32 [b]."""
    index = level.to(path.alpha.device)
    return path.alpha[index].float(), path.sigma[index].float()
