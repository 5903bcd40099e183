"""The file of a network's attention to users, and plain diffusers pipelines that listen.

One safetensors file holds all that was trained, and in its header what kind of network it belongs
to, the sizes, and who makes the embeddings.

Read next: `user_attention.py`, the layers; `listening.py`, a model that draws for somebody.
"""

from pathlib import Path
from typing import Any

from torch import nn

from palate.backbones.backbone import Personal
from palate.backbones.user_attention import UserAttention, attach, layers_of
from palate.core.files import load_weights, read_about, save_weights
from palate.core.problems import SettingError, WeightsError, require

WEIGHTS = "palate_user_attention.safetensors"
_FORMAT = 1


def save(network: nn.Module, folder: Path) -> None:
    """Write the new layers into a folder, with their sizes and who makes the embeddings.

    Raises:
        StateError: when the disk refuses.
    """
    layers = layers_of(network)
    settings = layers.settings
    about = {
        "format": _FORMAT,
        "network": type(network).__name__,
        "user_width": settings.user_width,
        "tokens": settings.tokens,
        "width": settings.width,
        "about": dict(settings.about),
    }
    save_weights(folder / WEIGHTS, layers.state_dict(), about)


def settings_of(file: Path) -> Personal:
    """The settings in the header of a file that `save` wrote.

    Raises:
        WeightsError: when it is no such file.
    """
    told = read_about(file)
    numbers = {name: told.get(name) for name in ("user_width", "tokens", "width")}
    about = told.get("about", {})
    require(
        told.get("format") == _FORMAT
        and all(type(number) is int and number > 0 for number in numbers.values())
        and isinstance(about, dict),
        got=f"{file}, which does not say what its layers are",
        need=f"attention to users as palate writes it, format {_FORMAT}",
        fix="Give the export folder of a personal run.",
        kind=WeightsError,
    )
    return Personal(**numbers, about=about)  # pyright: ignore[reportArgumentType]


def load(network: nn.Module, file: Path) -> UserAttention:
    """Put a file's layers on a network.

    Raises:
        WeightsError: when the file cannot be read, or is not for this network.
    """
    settings, tensors = settings_of(file), load_weights(file)
    made, kind = read_about(file).get("network"), type(network).__name__
    require(
        made == kind,
        got=f"{file}, trained on a {made}",
        need=f"attention to users of a {kind}",
        fix="Give the base model that the file was trained from.",
        kind=WeightsError,
    )
    layers = attach(network, settings)
    mine = {name: tuple(value.shape) for name, value in layers.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
    require(
        not wrong,
        got=f"{file}: {len(wrong)} weights that do not fit, such as {', '.join(wrong[:3])}",
        need="the layers of this network",
        fix="Give the base model that the file was trained from.",
        kind=WeightsError,
    )
    layers.load_state_dict(tensors)
    return layers


def listen(pipeline: Any, file: str | Path) -> UserAttention:
    """Put attention to users on a plain diffusers pipeline.

    `listen(pipeline, folder).draw_for(user[None])` makes every following call of the pipeline
    draw for that user; `draw_for(None)` makes it the base pipeline again.

    Args:
        pipeline: A pipeline of Stable Diffusion 1.x, 2.x, XL or 3.x, or Stable Cascade's prior.
        file: The exported folder, or the file in it.

    Raises:
        SettingError: for a pipeline without a network of these families.
        WeightsError: when the file is not for this network.
    """
    path = Path(file)
    path = path / WEIGHTS if path.is_dir() else path
    parts = [getattr(pipeline, name, None) for name in ("unet", "transformer", "prior")]
    networks = [part for part in parts if isinstance(part, nn.Module)]
    require(
        len(networks) == 1,
        got=f"a {type(pipeline).__name__} with {len(networks)} denoising networks",
        need="a pipeline with one unet, transformer or prior",
        fix="Give the text-to-image pipeline itself.",
        kind=SettingError,
    )
    layers = load(networks[0], path).requires_grad_(False)
    layers.within(pipeline)
    return layers.to(next(networks[0].parameters()).dtype)
