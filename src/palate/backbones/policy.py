"""The network that is trained, with whatever was trained before, and the reference behind it.

Five cases, and no sixth: the model alone, with new adapters, with adapters from a file, a wholly
trained network from a pipeline folder, or a mixture of trainings, which is drawn from only.

Read next: `denoiser.py`, which asks the two.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from diffusers import UNet2DConditionModel

from palate.backbones.backbone import Adapter
from palate.backbones.denoiser import FrozenCopy, Reference, Untouched
from palate.backbones.folder import INDEX, Folder, Part
from palate.backbones.lora import (
    WEIGHTS,
    AdaptersOff,
    attach,
    fill_adapters,
    fold,
    load_adapters,
)
from palate.backbones.mixture import Mixture, mixed
from palate.backbones.parts import load_network
from palate.core.files import MANIFEST, damage
from palate.core.problems import SettingError, WeightsError, require


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """A denoising network with its reference; `adapted` says that only adapters are trained."""

    network: UNet2DConditionModel
    reference: Reference
    adapted: bool


def open_policy(
    part: Part,
    *,
    adapter: Adapter | None,
    train: bool,
    device: torch.device,
    weights: Path | Mixture | None,
) -> Policy:
    """The network to be trained or sampled, with whatever was trained before put on it."""
    if isinstance(weights, Mixture):
        return _mixed(part, weights, adapter=adapter, train=train, device=device)
    file = None if weights is None else _adapter_file(weights)
    if weights is not None and file is None:
        return _from_pipeline(part, weights, adapter=adapter, train=train, device=device)
    network = load_network(UNet2DConditionModel, part, device)
    if adapter is None and file is None:
        reference = FrozenCopy.of(network) if train else Untouched(network)
        return Policy(network=network.requires_grad_(train), reference=reference, adapted=False)
    require(
        adapter is not None or not train,
        got=f"training from {weights} without an adapter",
        need="the adapter's settings, to go on training it",
        fix="Give the rank, alpha and targets it was trained with.",
    )
    if adapter is not None:
        attach(network, adapter)
    if file is not None:
        put = load_adapters if adapter is None else fill_adapters
        put(network, file)
    for name, weight in network.named_parameters():
        weight.requires_grad_(train and "lora_" in name)
    return Policy(network=network, reference=AdaptersOff(network), adapted=True)


def _from_pipeline(
    base: Part, weights: Path, *, adapter: Adapter | None, train: bool, device: torch.device
) -> Policy:
    """A fully trained network from its own pipeline folder; the reference is the base's."""
    require(
        adapter is None,
        got=f"an adapter on top of the whole model in {weights}",
        need="either an adapter, or a whole trained model",
        fix="Give that folder as the model.",
        kind=SettingError,
    )
    part = Folder.open(weights).parts({"unet": (base.class_name,)})["unet"]
    require(
        part.settings == base.settings,
        got=f"{weights} with a UNet of another shape than the model's",
        need="a model trained from this base",
        fix="Give the base it was trained from, or give this folder as the model.",
        kind=WeightsError,
    )
    network = load_network(UNet2DConditionModel, part, device).requires_grad_(train)
    reference = FrozenCopy(lambda: load_network(UNet2DConditionModel, base, device))
    return Policy(network=network, reference=reference, adapted=False)


def _mixed(
    base: Part, mixture: Mixture, *, adapter: Adapter | None, train: bool, device: torch.device
) -> Policy:
    """Trainings added up on their base, which is the reference."""
    require(
        adapter is None and not train,
        got="training of a mixture",
        need="a mixture to draw from",
        fix="Export it, and give that folder as the model.",
    )
    network = load_network(UNet2DConditionModel, base, device)
    trained = [(_trained(base, path, device), share) for path, share in mixture.parts]
    network.load_state_dict(mixed(network.state_dict(), trained))
    reference = FrozenCopy(lambda: load_network(UNet2DConditionModel, base, device))
    return Policy(network=network, reference=reference, adapted=False)


def _trained(base: Part, weights: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """The weights of a training's network, with its adapters folded in."""
    policy = open_policy(base, adapter=None, train=False, device=device, weights=weights)
    if policy.adapted:
        fold(policy.network)
    return policy.network.state_dict()


def _adapter_file(weights: Path) -> Path | None:
    """The adapter file that `weights` means, or None when it is a pipeline folder.

    Raises:
        WeightsError: when it is neither, or was damaged since it was exported.
    """
    if weights.is_dir() and (weights / MANIFEST).is_file():
        harm = damage(weights)
        require(
            harm is None,
            got=f"{weights}: {harm}",
            need="the export as it was written",
            fix="Export again from the run's last checkpoint.",
            kind=WeightsError,
        )
    if (weights / INDEX).is_file():
        return None
    file = weights / WEIGHTS if weights.is_dir() else weights
    require(
        file.is_file(),
        got=f"{weights} without {WEIGHTS} or {INDEX}",
        need="a LoRA file or folder, or a pipeline folder",
        fix="Give the export folder of a run.",
        kind=WeightsError,
    )
    return file
