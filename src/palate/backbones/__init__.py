"""Models that denoise. `load` opens a folder or a Hub id as a `Backbone`, whatever its family.

Importing this room is cheap: diffusers and transformers are imported when a model is loaded.

Read next: `backbone.py`, what can be asked of a model.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from palate.backbones.backbone import (
    PRECISIONS,
    Adapter,
    Backbone,
    Condition,
    Personal,
    Precision,
    Sizes,
)
from palate.backbones.mixture import Mixture
from palate.core.problems import WeightsError, nearest, require, unknown

__all__ = [
    "FAMILIES",
    "Adapter",
    "Backbone",
    "Condition",
    "Mixture",
    "Personal",
    "Precision",
    "Sizes",
    "load",
    "model_digests",
    "scheduler_of",
    "shipped",
    "takes_adapters",
]

SHIPPED = Path(__file__).parent / "shipped"


def _stable_diffusion() -> Any:
    from palate.backbones.sd import FAMILY

    return FAMILY


def _stable_diffusion_xl() -> Any:
    from palate.backbones.sdxl import FAMILY

    return FAMILY


def _stable_diffusion_3() -> Any:
    from palate.backbones.sd3 import FAMILY

    return FAMILY


def _stable_cascade() -> Any:
    from palate.backbones.cascade import PRIOR

    return PRIOR


def _stable_cascade_combined() -> Any:
    from palate.backbones.cascade import COMBINED

    return COMBINED


FAMILIES: Mapping[str, Callable[[], Any]] = {
    "StableDiffusionPipeline": _stable_diffusion,
    "StableDiffusionXLPipeline": _stable_diffusion_xl,
    "StableDiffusion3Pipeline": _stable_diffusion_3,
    "StableCascadePriorPipeline": _stable_cascade,
    "StableCascadeCombinedPipeline": _stable_cascade_combined,
}


def load(
    model: str | Path,
    *,
    adapter: Adapter | None = None,
    train: bool = False,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    gradient_checkpointing: bool = False,
    weights: str | Path | Mixture | None = None,
    personal: Personal | None = None,
) -> Backbone:
    """Load a model for sampling, or with `train` for training.

    Args:
        model: A pipeline folder, a Hub id (`owner/name`, `owner/name@revision`), or `shipped`.
        adapter: Train low-rank adapters; None trains the whole denoising network.
        train: Let gradients flow into the adapters or the network.
        device: Where the networks live.
        precision: What the denoising network computes in. Autoencoder and text encoders: float32.
        gradient_checkpointing: Recompute activations in the backward pass, to save memory.
        weights: A result to put on the model: a LoRA file, the folder of an export, or a mixture
            of several. A mixture is drawn from, or exported whole.
        personal: Train attention to users, beside a network that stays as it is.

    Raises:
        SettingError: for settings that do not exist or contradict each other.
        WeightsError: when the folder cannot be used; it names what is missing or refused.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    from palate.backbones.latent import LatentDiffusion

    family, folder = _found(model)
    return LatentDiffusion.load(
        family,
        folder,
        adapter=adapter,
        train=train,
        device=torch.device(device),
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
        weights=Path(weights) if isinstance(weights, str) else weights,
        personal=personal,
    )


def takes_adapters(model: str | Path) -> bool:
    """Whether plain diffusers could read low-rank adapters for a model; without opening it.

    Raises:
        WeightsError: when the folder cannot be used.
    """
    from palate.backbones.lora import FORMATS

    family, _ = _found(model)
    return family.network_class() in FORMATS


def model_digests(model: str | Path) -> Mapping[str, str]:
    """SHA-256 of each part of a model, as `Backbone.digests` has them, without opening it.

    Raises:
        WeightsError: when the folder cannot be used.
    """
    from palate.backbones.latent import digests_of

    family, folder = _found(model)
    return digests_of(family, folder, folder.parts(family.parts))


def scheduler_of(model: str | Path) -> Mapping[str, object]:
    """A model's scheduler settings, as `Backbone.scheduler_config` has them, without opening it.

    Raises:
        WeightsError: when the folder cannot be used.
    """
    family, folder = _found(model)
    part = folder.parts(family.parts)[family.scheduler]
    return {**part.settings, "_class_name": part.class_name}


def _found(model: str | Path) -> tuple[Any, Any]:
    """The family and the folder of a model, which may have to be fetched."""
    from palate.backbones.folder import Folder

    folder = Folder.open(shipped() if str(model) == "shipped" else model)
    guess = nearest(folder.family, FAMILIES)
    require(
        folder.family in FAMILIES,
        got=f"{model}: a pipeline of class {folder.family}",
        need=f"one of {', '.join(FAMILIES)}",
        fix=f"Use a folder of a {guess}." if guess else "Use a model of a family palate knows.",
        kind=WeightsError,
    )
    return FAMILIES[folder.family](), folder


def shipped() -> Path:
    """The folder of the model that ships with the package.

    Raises:
        WeightsError: when the package was installed without it.
    """
    require(
        (SHIPPED / "model_index.json").is_file(),
        got=f"no model_index.json in {SHIPPED}",
        need="the small pipeline that ships with palate",
        fix="Install the package again, or make the folder with `palate world pretrain`",
        kind=WeightsError,
    )
    return SHIPPED
