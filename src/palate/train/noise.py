"""Which noise, and how much of it: one draw per pair, shared by both pictures.

A noise source is a value: it is given a batch and answers with noise and levels. Sources that
invert pictures or follow trajectories are other values of the same kind.

Read next: `denoise.py`, what policy and reference make of it.
"""

from dataclasses import dataclass
from typing import Protocol, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.core.streams import Streams
from palate.train.batch import Batch
from palate.train.groups import NoiseSettings


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Noised:
    """What is added to a batch, and at which level.

    Attributes:
        chosen: Noise for the chosen pictures, [b, c, h, w].
        rejected: Noise for the rejected pictures, [b, c, h, w].
        level: Index into the model's noise levels, one per pair, [b].
    """

    chosen: Float[Tensor, " b c h w"]
    rejected: Float[Tensor, " b c h w"]
    level: Int[Tensor, " b"]


class NoiseSource(Protocol):
    """Answers with noise and levels for a batch, as a function of its ids and visits only."""

    def __call__(self, batch: Batch) -> Noised:
        """Noise and levels for these pairs."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One noise and one uniform level per pair and visit, the same for both pictures.

    Attributes:
        streams: The run's random streams.
        levels: How many noise levels the model has.
        settings: The part of them to use.
    """

    streams: Streams
    levels: int
    settings: NoiseSettings

    def __call__(self, batch: Batch) -> Noised:
        """Draw for each pair by its name and visit."""
        low = min(int(self.settings.lowest * self.levels), self.levels - 1)
        high = max(int(self.settings.highest * self.levels), low + 1)
        keys = list(zip(batch.visits, batch.ids, strict=True))
        level = [self.streams("level", *key).integer(low, high) for key in keys]
        shape = tuple(batch.chosen.shape[1:])
        noise = torch.stack([self.streams("noise", *key).normal(shape) for key in keys])
        # One noise for both pictures: the margin then compares pictures, not luck.
        noise = noise.to(batch.chosen)
        return Noised(chosen=noise, rejected=noise, level=torch.tensor(level))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Noise for health checks: the same at every check, spread evenly over the levels.

    Attributes:
        streams: The run's random streams.
        levels: How many noise levels the model has.
        settings: The part of them to use.
        draw: Which of the fixed draws this is.
        draws: How many there are; each covers its own band of levels.
    """

    streams: Streams
    levels: int
    settings: NoiseSettings
    draw: int
    draws: int

    def __call__(self, batch: Batch) -> Noised:
        """The fixed draw of each pair."""
        low, high = self.settings.lowest, self.settings.highest
        width = (high - low) / self.draws
        start = low + self.draw * width
        level: list[int] = []
        for name in batch.ids:
            share = start + width * self.streams("health level", self.draw, name).uniform()
            level.append(min(int(share * self.levels), self.levels - 1))
        shape = tuple(batch.chosen.shape[1:])
        noise = torch.stack(
            [self.streams("health noise", self.draw, name).normal(shape) for name in batch.ids]
        ).to(batch.chosen)
        return Noised(chosen=noise, rejected=noise, level=torch.tensor(level))
