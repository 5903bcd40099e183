"""The noise levels that a folder's scheduler configuration describes.

Read next: `palate/core/path.py`, which does the arithmetic with them.
"""

from typing import Any

from diffusers import DDPMScheduler

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
