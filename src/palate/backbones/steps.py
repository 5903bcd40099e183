"""One step of the sampler as a Gaussian: what it is, how probable a step was, and drawing one.

A diffusion sampler goes from x at one noise level to x at a lower one. DDIM (Song et al., 2020,
arXiv:2010.02502, eqs. 12 and 16) makes that move a Gaussian whose width is `eta` times that of
DDPM's posterior: at 0 the step is deterministic, at 1 it is DDPM's. Methods that learn from
sampled steps (D3PO, SPO, LPO) compare the probabilities that two models give to one step taken.

Read next: `inversion.py`, the way back up.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from palate.core.path import Path
from palate.core.problems import require


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The noise levels a sampler visits, and where it lands from each.

    Attributes:
        levels: The levels visited, from the noisiest down.
        previous: Where the step from each of them lands; the last may land on level 0 only.
    """

    levels: tuple[int, ...]
    previous: tuple[int, ...]

    def __post_init__(self) -> None:
        require(
            len(self.levels) == len(self.previous) > 0
            and self.levels[1:] == self.previous[:-1]
            and all(
                0 <= low <= high and (low < high or high == 0)
                for high, low in zip(self.levels, self.previous, strict=True)
            ),
            got=f"levels {self.levels} and landings {self.previous}",
            need="descending levels, each step landing where the next one starts",
            fix="Use `Grid.leading`.",
        )

    @classmethod
    def leading(cls, levels: int, steps: int, offset: int = 1) -> "Grid":
        """Evenly spaced levels that end at `offset`, as diffusers' `leading` spacing has them.

        Twenty steps over a thousand levels: 951, 901, …, 51, 1. The last step lands on level 0,
        never beyond the table, so its width is not zero.

        Args:
            levels: How many levels the path has.
            steps: How many to visit.
            offset: The lowest level visited. At 0 the last step stands still.

        Raises:
            SettingError: when so many steps do not fit.
        """
        visited = tuple(reversed(spaced(levels, steps, offset)))
        landings = tuple(max(level - levels // steps, 0) for level in visited)
        return cls(levels=visited, previous=landings)

    def __len__(self) -> int:
        return len(self.levels)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """The Gaussian of x at the level landed on, given x at the level left.

    Attributes:
        mean: Where the step is aimed, [b, c, y, x]. Carries the gradient of the prediction.
        sigma: Its standard deviation per element, [b]; 0 for a deterministic step.
    """

    mean: Float[Tensor, " b c y x"]
    sigma: Float[Tensor, " b"]


def transition(
    path: Path,
    noisy: Float[Tensor, " b c y x"],
    predicted: Float[Tensor, " b c y x"],
    level: Int[Tensor, " b"],
    previous: Int[Tensor, " b"],
    eta: float = 1.0,
) -> Step:
    """The step from one level to a lower one that a prediction implies.

    The mean is α' x̂₀ + √(σ'² − s²) ε̂, with α', σ' of the level landed on and s the width; it
    keeps x at the noise level the path says, for any path and any kind of prediction. Computed
    in float32 or wider.

    Args:
        path: Noise levels and kind of prediction.
        noisy: The latents the step starts from.
        predicted: What the network said of them.
        level: The level of each row.
        previous: Where each row lands; not below 0 and not above `level`.
        eta: Share of DDPM's width, 0 to 1.

    Raises:
        SettingError: for a level or an eta out of range.
    """
    wide = _wide(noisy, predicted)
    noisy, predicted = noisy.to(wide), predicted.to(wide)
    # In float64: two nearly equal squares are subtracted.
    sigma = deviation(path, level, previous, eta)
    below = previous.to(path.alpha.device)
    lasting = (path.sigma[below].square() - sigma.square()).clamp_min(0).sqrt()
    clean, noise = path.to_clean_and_noise(predicted, noisy, level)
    mean = _per_row(path.alpha[below], noisy) * clean + _per_row(lasting, noisy) * noise
    return Step(mean=mean, sigma=sigma.to(noisy))


def deviation(
    path: Path, level: Int[Tensor, " b"], previous: Int[Tensor, " b"], eta: float = 1.0
) -> Float64[Tensor, " b"]:
    """Standard deviation of each step, float64, on the path's device.

    With ᾱ = α² and α² + σ² = 1 this is eta · √((1−ᾱ')/(1−ᾱ) · (1−ᾱ/ᾱ')); the form used here
    needs no such sum, so it also holds on the straight path of rectified flow.

    Raises:
        SettingError: for a level or an eta out of range.
    """
    require(
        0.0 <= eta <= 1.0,
        got=f"eta {eta}",
        need="0 (deterministic) to 1 (DDPM)",
        fix="Use 1 where steps are learned from, 0 for DDIM.",
    )
    above, below = level.to(path.alpha.device), previous.to(path.alpha.device)
    require(
        bool(((below >= 0) & (below <= above) & (above < path.levels)).all()),
        got=f"steps from {above.tolist()} to {below.tolist()}",
        need=f"levels of 0 to {path.levels - 1}, never upwards",
        fix="Clamp the level landed on at 0, as `Grid.leading` does.",
    )
    ratio = path.alpha[above] / path.alpha[below]
    added = path.sigma[above].square() - (ratio * path.sigma[below]).square()
    return eta * (path.sigma[below] / path.sigma[above]) * added.clamp_min(0).sqrt()


def log_probability(step: Step, taken: Float[Tensor, " b c y x"]) -> Float[Tensor, " b"]:
    """How probable a step was, as the mean of its elements' log-densities.

    The mean, not the sum, over channels, height and width, as D3PO's and SPO's released code
    has it; the normaliser is included. No gradient flows into the step taken. Computed in
    float32 or wider.

    Raises:
        SettingError: for a deterministic step, which has no density.
    """
    require(
        bool((step.sigma > 0).all()),
        got=f"steps of width {step.sigma.tolist()}",
        need="a width above 0 in every row",
        fix="Sample with eta 1, and on a grid whose last level is not 0.",
    )
    wide = _wide(step.mean, taken)
    mean, sigma = step.mean.to(wide), step.sigma.to(wide)
    error = (taken.detach().to(mean) - mean) / _per_row(sigma, mean)
    return -0.5 * error.square().flatten(1).mean(1) - sigma.log() - 0.5 * math.log(2 * math.pi)


def draw(step: Step, noise: Float[Tensor, " b c y x"]) -> Float[Tensor, " b c y x"]:
    """Take a step: its mean, and standard normal noise in its width."""
    return step.mean + _per_row(step.sigma, step.mean) * noise.to(step.mean)


def spaced(levels: int, steps: int, offset: int) -> tuple[int, ...]:
    """Evenly spaced levels from `offset` upwards, levels // steps apart.

    Raises:
        SettingError: when so many steps do not fit.
    """
    spacing = levels // max(steps, 1)
    require(
        1 <= steps <= levels and offset >= 0 and (steps - 1) * spacing + offset < levels,
        got=f"{steps} steps from level {offset} in a path of {levels} levels",
        need=f"1 to {levels} steps that end below level {levels}",
        fix="Take fewer steps, or offset 0.",
    )
    return tuple(number * spacing + offset for number in range(steps))


def _wide(*tensors: Tensor) -> torch.dtype:
    """The widest of float32 and the tensors' own types."""
    wide = torch.float32
    for tensor in tensors:
        wide = torch.promote_types(wide, tensor.dtype)
    return wide


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """One value per row, shaped to multiply `like`, in its device and type."""
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))
