"""The network that is trained, with whatever was trained before, and the reference behind it.

The model alone, with adapters or with attention to users (new ones, or from a file), a wholly
trained network from a pipeline folder, or a mixture of trainings, which is drawn from only.

Read next: `denoiser.py`, which asks the two.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from palate.backbones.backbone import Adapter, Personal
from palate.backbones.denoiser import FrozenCopy, Reference, Untouched
from palate.backbones.folder import INDEX, Folder, Part
from palate.backbones.lora import (
    WEIGHTS,
    AdaptersOff,
    attach,
    fill_adapters,
    fold,
    format_of,
    load_adapters,
    save_adapters,
)
from palate.backbones.mixture import Mixture, mixed
from palate.backbones.parts import load_network
from palate.backbones.personal import WEIGHTS as USERS
from palate.backbones.personal import load as load_users
from palate.backbones.personal import save as save_users
from palate.backbones.user_attention import UsersSilent, layers_of
from palate.backbones.user_attention import attach as attach_users
from palate.core.files import MANIFEST, damage
from palate.core.problems import SettingError, WeightsError, require


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """A denoising network with its reference.

    Attributes:
        network: The network.
        reference: How the reference speaks.
        save: Writes what is trained of it into a folder; None where it is trained whole.
        personal: Its attention to users, if it has any.
    """

    network: Any
    reference: Reference
    save: Callable[[Any, Path], None] | None = None
    personal: Personal | None = None

    def recompute(self) -> None:
        """Forget activations and compute them again on the way back, to save memory."""
        if self.personal is None:
            self.network.enable_gradient_checkpointing()
        else:
            # On the way back the same users have to be heard again.
            self.network.enable_gradient_checkpointing(layers_of(self.network).recomputing)


def open_policy(
    kind: type[nn.Module],
    part: Part,
    *,
    adapter: Adapter | None,
    personal: Personal | None = None,
    train: bool,
    device: torch.device,
    weights: Path | Mixture | None,
) -> Policy:
    """The network to be trained or sampled, with whatever was trained before put on it."""
    if adapter is not None:
        # Asked before any weight is read: some networks have no adapters.
        format_of(kind)
    if isinstance(weights, Mixture):
        return _mixed(kind, part, weights, adapter=adapter, train=train, device=device)
    file = None if weights is None else _user_file(weights)
    if personal is not None or file is not None:
        return _for_users(kind, part, file, adapter, personal, weights, train, device)
    file = None if weights is None else _adapter_file(weights)
    if weights is not None and file is None:
        return _from_pipeline(kind, part, weights, adapter=adapter, train=train, device=device)
    network: Any = load_network(kind, part, device)
    if adapter is None and file is None:
        reference = FrozenCopy.of(network) if train else Untouched(network)
        return Policy(network=network.requires_grad_(train), reference=reference)
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
    return Policy(network=network, reference=AdaptersOff(network), save=save_adapters)


def _for_users(
    kind: type[nn.Module],
    part: Part,
    file: Path | None,
    adapter: Adapter | None,
    personal: Personal | None,
    weights: Path | None,
    train: bool,
    device: torch.device,
) -> Policy:
    """A frozen network with attention to users, new or from a file; the reference has none."""
    require(
        adapter is None and (file is not None or weights is None),
        got="attention to users together with "
        + ("an adapter" if adapter is not None else f"the weights in {weights}"),
        need="the base model and attention to users, of which only the latter is trained",
        fix="Leave the adapter out; give a wholly trained model as the model itself.",
        kind=SettingError,
    )
    network: Any = load_network(kind, part, device)
    if file is not None:
        layers = load_users(network, file)
    else:
        assert personal is not None  # without a file either, this would be the model alone
        layers = attach_users(network, personal)
    require(
        personal is None or layers.settings == replace(personal, seed=layers.settings.seed),
        got=f"{file} with other attention to users than asked for",
        need="the sizes and the encoder of the file",
        fix="Leave the settings out, or train from the base model.",
        kind=WeightsError,
    )
    layers.requires_grad_(train)
    return Policy(
        network=network,
        reference=UsersSilent(network),
        save=save_users,
        personal=layers.settings,
    )


def _from_pipeline(
    kind: type[nn.Module],
    base: Part,
    weights: Path,
    *,
    adapter: Adapter | None,
    train: bool,
    device: torch.device,
) -> Policy:
    """A fully trained network from its own pipeline folder; the reference is the base's."""
    require(
        adapter is None,
        got=f"an adapter on top of the whole model in {weights}",
        need="either an adapter, or a whole trained model",
        fix="Give that folder as the model.",
        kind=SettingError,
    )
    part = Folder.open(weights).parts({base.name: (base.class_name,)})[base.name]
    require(
        part.settings == base.settings,
        got=f"{weights} with a {base.name} of another shape than the model's",
        need="a model trained from this base",
        fix="Give the base it was trained from, or give this folder as the model.",
        kind=WeightsError,
    )
    network = load_network(kind, part, device).requires_grad_(train)
    reference = FrozenCopy(lambda: load_network(kind, base, device))
    return Policy(network=network, reference=reference)


def _mixed(
    kind: type[nn.Module],
    base: Part,
    mixture: Mixture,
    *,
    adapter: Adapter | None,
    train: bool,
    device: torch.device,
) -> Policy:
    """Trainings added up on their base, which is the reference."""
    require(
        adapter is None and not train,
        got="training of a mixture",
        need="a mixture to draw from",
        fix="Export it, and give that folder as the model.",
    )
    for path, _ in mixture.parts:
        require(
            _user_file(path) is None,
            got=f"{path}, attention to users, in a mixture of trainings",
            need="trainings of the network itself",
            fix="Mix users instead: --user alice:0.3,bob:0.7.",
        )
    network = load_network(kind, base, device)
    trained = [(_trained(kind, base, path, device), share) for path, share in mixture.parts]
    network.load_state_dict(mixed(network.state_dict(), trained))
    reference = FrozenCopy(lambda: load_network(kind, base, device))
    return Policy(network=network, reference=reference)


def _trained(
    kind: type[nn.Module], base: Part, weights: Path, device: torch.device
) -> dict[str, torch.Tensor]:
    """The weights of a training's network, with its adapters folded in."""
    policy = open_policy(kind, base, adapter=None, train=False, device=device, weights=weights)
    if policy.save is not None:
        fold(policy.network)
    return policy.network.state_dict()


def _user_file(weights: Path) -> Path | None:
    """The file of attention to users that `weights` means, or None when there is none.

    Raises:
        WeightsError: when it was damaged since it was exported.
    """
    file = weights / USERS if weights.is_dir() else weights
    if file.name != USERS or not file.is_file():
        return None
    _refuse_damaged(weights)
    return file


def _refuse_damaged(weights: Path) -> None:
    """Refuse an export that is not as it was written.

    Raises:
        WeightsError: naming what differs.
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


def _adapter_file(weights: Path) -> Path | None:
    """The adapter file that `weights` means, or None when it is a pipeline folder.

    Raises:
        WeightsError: when it is neither, or was damaged since it was exported.
    """
    _refuse_damaged(weights)
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
