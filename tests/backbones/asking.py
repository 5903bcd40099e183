"""One fixed question to a backbone, and a few steps of training on it."""

import json
from pathlib import Path

import torch
from torch import Tensor

from palate.backbones import Backbone

LEVELS = torch.tensor([20, 400, 980])
WORDS = ["a red ball", "", "a blue box on green"]


def ask(backbone: Backbone, side: int = 64) -> Tensor:
    """What the backbone predicts for three fixed noisy latents of pictures of this side."""
    noisy = torch.randn((3, *backbone.latent_shape(side, side)), generator=generator())
    return backbone.predict(noisy, LEVELS, backbone.embed(WORDS))


def ask_reference(backbone: Backbone, side: int = 64) -> Tensor:
    """The reference's answer to the same question."""
    with backbone.as_reference():
        return ask(backbone, side)


def train_a_little(backbone: Backbone, steps: int = 3, rate: float = 0.05, side: int = 64) -> None:
    """A few steps of plain gradient descent towards an arbitrary target."""
    for _ in range(steps):
        ask_reference(backbone, side)
        answer = ask(backbone, side)
        (answer - torch.ones_like(answer)).square().mean().backward()
        with torch.no_grad():
            for weight in backbone.trainable().values():
                weight -= rate * weight.grad
                weight.grad = None


def generator() -> torch.Generator:
    """The generator of every fixed draw here."""
    return torch.Generator().manual_seed(11)


def rewrite(path: Path, **changes: object) -> None:
    """Change some entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
