"""A denoiser that can be written down: the best one for pictures that are Gaussian noise.

Where every element of x₀ is normal with mean 0 and standard deviation s, the best guess of ε in
x is σx / (α²s² + σ²). The condition is s, so that a prompt has something to change.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from palate.backbones import Condition
from palate.core.path import Path, Prediction


def stable_diffusion(prediction: Prediction = "epsilon") -> Path:
    """Stable Diffusion's scaled-linear schedule."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return Path.from_alphas_cumprod((1 - beta).cumprod(0), prediction)


def spread(values: Sequence[float]) -> Condition:
    """The condition of pictures with these standard deviations."""
    return Condition({"spread": torch.tensor(values, dtype=torch.float64)})


class Gaussian:
    """The best denoiser of Gaussian pictures, in any kind of prediction."""

    device = torch.device("cpu")

    def __init__(self, prediction: Prediction = "epsilon") -> None:
        self.path = stable_diffusion(prediction)
        self.asked: list[tuple[list[int], Tensor]] = []

    def predict(self, noisy: Tensor, level: Tensor, condition: Condition) -> Tensor:
        """The best guess, and a note of what was asked."""
        self.asked.append((level.tolist(), noisy))
        alpha, sigma = self.path.coefficients(level, noisy)
        width = condition.tensors["spread"].reshape(-1, 1, 1, 1)
        noise = sigma * noisy / ((alpha * width).square() + sigma.square())
        to = self.path.prediction
        return self.path.convert(noise, noisy, level, source="epsilon", to=to)

    def as_reference(self) -> nullcontext[None]:
        """It has one voice."""
        return nullcontext()


def latents(rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers in the shape of small latents."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 2, 3, 4, generator=generator, dtype=torch.float64).to(dtype)
