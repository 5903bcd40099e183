"""Weights for the picture encoder that are the same on every machine, and loud enough to matter."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from palate.backbones.effnet import FILE, PictureEncoder
from palate.core.streams import Streams


def tensors() -> dict[str, Tensor]:
    """Every tensor of the published file by its name, drawn by that name."""
    with torch.device("meta"):
        shapes = {name: tuple(w.shape) for name, w in PictureEncoder().state_dict().items()}
    return {name: _drawn(name, shape) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    normal = Streams(0)("effnet", name).normal(shape)
    if name.endswith("running_var"):
        return 1 + 0.5 * normal.abs()
    if len(shape) == 4:
        return normal * math.sqrt(2 / math.prod(shape[1:]))
    return 0.1 * normal + name.endswith("weight")


def write(folder: Path) -> Path:
    """The file, as it lies in a folder."""
    save_file(tensors(), folder / FILE)
    return folder / FILE
