"""What a network should say on the way to noise, and how much each level counts.

Two tables of small functions: an aim is a function of a state, of the noise it was reached with
and of the clean picture; a weight is a function of the grid.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from palate.backbones.steps import transition
from palate.core.path import Path


def _used(path: Path, noisy: Tensor, used: Tensor, _clean: Tensor, level: Tensor) -> Tensor:
    """The noise the move was made with."""
    return path.convert(used, noisy, level, source="epsilon", to=path.prediction)


def _between(path: Path, noisy: Tensor, _used: Tensor, clean: Tensor, level: Tensor) -> Tensor:
    """The noise that stands between the state and the clean picture: (x − α·x₀) / σ."""
    alpha, sigma = path.coefficients(level, noisy)
    return path.target(clean, (noisy - alpha * clean) / sigma, level)


def _believed(
    _path: Path, _noisy: Tensor, _used: Tensor, _clean: Tensor, _level: Tensor
) -> Tensor | None:
    """Whatever the reference is going to say."""
    return None


TARGETS: dict[str, Callable[[Path, Tensor, Tensor, Tensor, Tensor], Tensor | None]] = {
    "trajectory": _used,
    "clean": _between,
    "reference": _believed,
}


def _alike(_path: Path, grid: Sequence[int]) -> Float[Tensor, " n"]:
    """Every level counts the same, in the network's own kind of prediction."""
    return torch.ones(len(grid), dtype=torch.float64)


def _inv_alpha(path: Path, grid: Sequence[int]) -> Float[Tensor, " n"]:
    """1/(2 ᾱ) on errors of noise, as Inversion-DPO's released script has it."""
    level = torch.tensor(grid)
    ones = torch.ones(len(grid), dtype=torch.float64)
    # How far the noise moves when the network's own kind of prediction moves by one.
    slope = path.to_clean_and_noise(ones, torch.zeros_like(ones), level)[1]
    return slope.square() / (2 * path.alpha[level].square())


def _ddim(path: Path, grid: Sequence[int]) -> Float[Tensor, " n"]:
    """k²/(2 s²): the error's weight in the log-density of the step down to the level before.

    k is how far the mean of the sampler's step with eta 1 moves when the prediction moves by
    one, and s is that step's width. A step that stays where it is says nothing and counts 0.
    """
    above, below = torch.tensor(grid), torch.tensor([0, *grid[:-1]])
    ones = torch.ones(len(grid), 1, 1, 1, dtype=torch.float64)
    step = transition(path, torch.zeros_like(ones), ones, above, below)
    moved, width = step.mean.flatten().square(), step.sigma.square()
    return torch.where(width > 0, moved / (2 * width), torch.zeros_like(moved))


WEIGHTS: dict[str, Callable[[Path, Sequence[int]], Float[Tensor, " n"]]] = {
    "uniform": _alike,
    "inv_alpha": _inv_alpha,
    "ddim": _ddim,
}
