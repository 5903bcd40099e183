"""The noise levels that a folder's scheduler configuration describes.

Read next: `palate/core/path.py`, which does the arithmetic with them.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from palate.backbones.folder import Part
from palate.backbones.parts import refusing
from palate.core.path import PREDICTIONS, Path
from palate.core.problems import WeightsError, require

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)
COSINE_SCHEDULERS = ("DDPMWuerstchenScheduler",)
# Of Stable Cascade, whose scheduler has no number of levels: a network's time is from 0 to 1.
COSINE_LEVELS = 1000


def noise_path(part: Part) -> Path:
    """Noise levels and kind of prediction of a scheduler's configuration.

    Raises:
        WeightsError: when the configuration does not describe such a path.
    """
    prediction = part.settings.get("prediction_type", "epsilon")
    require(
        prediction in PREDICTIONS,
        got=f"{part.folder}: prediction_type {prediction!r}",
        need=f"one of {', '.join(PREDICTIONS)}",
        fix="Correct the scheduler's configuration.",
        kind=WeightsError,
    )
    with refusing(part):
        scheduler: Any = DDPMScheduler.from_config(dict(part.settings))
        return Path.from_alphas_cumprod(scheduler.alphas_cumprod, prediction)


def flow_path(part: Part) -> Path:
    """Noise levels of a model on the straight path, the scheduler's `shift` included.

    Level i is at t = (i + 1) / levels and has the noise σ = shift · t / (1 + (shift − 1) · t),
    with α = 1 − σ (Esser et al., 2024, arXiv:2403.03206). The network predicts the flow ε − x₀.

    Raises:
        WeightsError: when the configuration does not describe one such path for all pictures.
    """
    sigma = _flow_sigmas(part).double()
    return Path(alpha=1 - sigma, sigma=sigma, prediction="flow")


def flow_times(part: Part) -> Float[Tensor, " levels"]:
    """What a network on the straight path is told of each level: σ in the scheduler's steps.

    Raises:
        WeightsError: as `flow_path`.
    """
    sigma = _flow_sigmas(part)
    return sigma * len(sigma)


def _flow_sigmas(part: Part) -> Float[Tensor, " levels"]:
    """The noise of each level, least first, float32 as the scheduler has it."""
    require(
        not part.settings.get("use_dynamic_shifting"),
        got=f"{part.folder}: use_dynamic_shifting, with which levels depend on a picture's size",
        need="one table of noise levels, as training needs it for pictures of every size",
        fix="Set use_dynamic_shifting to false and shift to the value for your size, such as 3.",
        kind=WeightsError,
    )
    require(
        not part.settings.get("invert_sigmas"),
        got=f"{part.folder}: invert_sigmas, with which the path begins at the picture",
        need="a path that begins at the noise",
        fix="Use a model of a family palate knows.",
        kind=WeightsError,
    )
    with refusing(part):
        scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(dict(part.settings))
        sigma: Tensor = scheduler.sigmas.flip(0)
    require(
        bool((sigma > 0).all() and (sigma <= 1).all() and (torch.diff(sigma) > 0).all()),
        got=f"{part.folder}: shift {part.settings.get('shift')!r}",
        need="noise levels that rise from above 0 to 1",
        fix="Correct the scheduler's configuration; a shift of 1 to 10 is usual.",
        kind=WeightsError,
    )
    return sigma


def cosine_path(part: Part) -> Path:
    """Noise levels of a cosine path: level i is at t = (i + 1) / 1000.

    ᾱ(t) = cos²((t + s) / (1 + s) · π/2) / cos²(s / (1 + s) · π/2), from 0.0001 to 0.9999 (Nichol &
    Dhariwal, 2021, arXiv:2102.09672, eq. 17), with s and, where it is not 1, the bend of t from
    the scheduler's configuration. The network predicts ε.

    Raises:
        WeightsError: when the configuration is not of such a path.
    """
    offset, bend = part.settings.get("s", 0.008), part.settings.get("scaler", 1.0)
    require(
        all(isinstance(number, int | float) for number in (offset, bend))
        and 0 <= offset < 1
        and 0 < bend < float("inf"),
        got=f"{part.folder}: s {offset!r} and scaler {bend!r}",
        need="an offset from 0 to 1 and a scaler above 0",
        fix="Correct the scheduler's configuration; 0.008 and 1 are usual.",
        kind=WeightsError,
    )
    time = torch.arange(1, COSINE_LEVELS + 1, dtype=torch.float64) / COSINE_LEVELS
    # The two forms of the bend are the scheduler's: above 1 it acts on what is left of the way.
    time = 1 - (1 - time) ** bend if bend > 1 else time**bend
    kept = torch.cos((time + offset) / (1 + offset) * math.pi / 2).square()
    kept = kept / math.cos(offset / (1 + offset) * math.pi / 2) ** 2
    return Path.from_alphas_cumprod(kept.clamp(0.0001, 0.9999), "epsilon")


def cosine_times(part: Part) -> Callable[[Tensor], Tensor]:
    """What a network on a cosine path is told of levels: t, from above 0 to 1, float32."""
    del part
    return lambda level: (level.float() + 1) / COSINE_LEVELS
