"""Which noise, and how much of it: what policy and reference are asked about a batch of pairs.

A source is a value: it is given a batch and answers with a question. Sources that add noise are
here; `inverted.py` leads pictures back to noise, and `rollout.py` follows the policy drawing.

Read next: `denoise.py`, what policy and reference answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.core.contrast import Branch, Denoised
from palate.core.path import Path
from palate.core.streams import Streams
from palate.train.batch import Batch
from palate.train.groups import NoiseSettings


class Question(Protocol):
    """What policy and reference are asked about a batch, and what their answers are worth."""

    @property
    def level(self) -> Int[Tensor, " b"]:
        """Index into the model's noise levels, one per pair."""
        ...

    def ask(self, backbone: Backbone, sides: int) -> Tensor:
        """The present speaker's answers, chosen pictures first; two sides or only the first."""
        ...

    def branches(self, answers: Tensor, believed: Tensor | None) -> list[Branch]:
        """One branch per side asked, from the answers of policy and, if asked, reference."""
        ...


class NoiseSource(Protocol):
    """Answers with a question for a batch, as a function of its ids and visits only."""

    def __call__(self, batch: Batch) -> Question:
        """What to ask about these pairs."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Noised:
    """Pictures with noise, and what a perfect network would say of them.

    Attributes:
        noisy: Noised latents of each side, [b, c, h, w].
        target: What to predict, of the same shapes, in the network's kind of prediction.
        conditions: Prompts and sizes of each side.
        level: Index into the model's noise levels, [b].
    """

    noisy: tuple[Float[Tensor, " b c h w"], Float[Tensor, " b c h w"]]
    target: tuple[Float[Tensor, " b c h w"], Float[Tensor, " b c h w"]]
    conditions: tuple[Condition, Condition]
    level: Int[Tensor, " b"]

    def ask(self, backbone: Backbone, sides: int) -> Tensor:
        """Predictions, [sides · b, c, h, w], in one batch."""
        return backbone.predict(
            torch.cat(self.noisy[:sides]).to(backbone.device),
            self.level.repeat(sides).to(backbone.device),
            Condition.concatenate(self.conditions[:sides]).to(backbone.device),
        )

    def branches(self, answers: Tensor, believed: Tensor | None) -> list[Branch]:
        """The errors of both, picture by picture."""
        count = len(self.level)
        sides = range(len(answers) // count)
        references = [None for _ in sides] if believed is None else believed.split(count)
        return [
            Denoised(
                prediction=prediction,
                target=self.target[side].to(prediction.device),
                reference=references[side],
            )
            for side, prediction in zip(sides, answers.split(count), strict=True)
        ]


def add_noise(
    path: Path,
    batch: Batch,
    chosen: Float[Tensor, " b c h w"],
    rejected: Float[Tensor, " b c h w"],
    level: Int[Tensor, " b"],
) -> Noised:
    """The pictures of a batch with these noises at these levels."""
    clean, noise = (batch.chosen, batch.rejected), (chosen, rejected)
    return Noised(
        noisy=(path.noisy(clean[0], noise[0], level), path.noisy(clean[1], noise[1], level)),
        target=(path.target(clean[0], noise[0], level), path.target(clean[1], noise[1], level)),
        conditions=batch.conditions,
        level=level,
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """One level per pair and visit, and one noise, or one for each picture.

    Attributes:
        streams: The run's random streams.
        path: The model's noise levels.
        settings: The part of them to use, and how they are drawn.
        purpose: Names the draws; another purpose gives other noise for the same visit.
    """

    streams: Streams
    path: Path
    settings: NoiseSettings
    purpose: str = ""

    def __call__(self, batch: Batch) -> Noised:
        """Draw for each pair by its name and visit."""
        keys = list(zip(batch.visits, batch.ids, strict=True))
        level = torch.tensor([self._level(key) for key in keys], dtype=torch.long)
        chosen = self._noise("noise", keys, batch)
        # One noise for both pictures: the margin then compares pictures, not luck.
        rejected = chosen if self.settings.shared else self._noise("other noise", keys, batch)
        return add_noise(self.path, batch, chosen, rejected, level)

    def _noise(self, name: str, keys: Sequence[tuple[int, str]], batch: Batch) -> Tensor:
        shape = tuple(batch.chosen.shape[1:])
        drawn = [self.streams(self.purpose + name, *key).normal(shape) for key in keys]
        return torch.stack(drawn).to(batch.chosen)

    def _level(self, key: tuple[int, str]) -> int:
        levels, stream = self.path.levels, self.streams(self.purpose + "level", *key)
        low = min(int(self.settings.lowest * levels), levels - 1)
        high = max(int(self.settings.highest * levels), low + 1)
        draws = {
            "uniform": lambda: stream.integer(low, high),
            "logit-normal": lambda: _nearest(self.path, low, high, stream.normal((1,))),
        }
        return draws[self.settings.levels]()


def _nearest(path: Path, low: int, high: int, draw: Tensor) -> int:
    """The level whose place on the way is nearest to a logistic of a normal number."""
    place = _places(path)[low:high]
    return low + int((place - torch.sigmoid(draw.double())).abs().argmin())


def _places(path: Path) -> Float[Tensor, " levels"]:
    """How far along the way from picture to noise each level is, 0 to 1.

    Its share of noise σ/(α+σ), except where the network predicts the flow: there levels are
    evenly spaced, and the scheduler's shift says how much noise that is, as Stable Diffusion 3
    was trained (Esser et al., 2024, arXiv:2403.03206, resolution-dependent shifting).
    """
    if path.prediction == "flow":
        return torch.arange(1, path.levels + 1, dtype=torch.float64) / path.levels
    return path.sigma / (path.alpha + path.sigma)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Noise for health checks: the same at every check, spread evenly over the levels.

    Attributes:
        streams: The run's random streams.
        path: The model's noise levels.
        settings: The part of them to use.
        draw: Which of the fixed draws this is.
        draws: How many there are; each covers its own band of levels.
    """

    streams: Streams
    path: Path
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
            level.append(min(int(share * self.path.levels), self.path.levels - 1))
        shape = tuple(batch.chosen.shape[1:])
        noise = torch.stack(
            [self.streams("health noise", self.draw, name).normal(shape) for name in batch.ids]
        ).to(batch.chosen)
        return add_noise(self.path, batch, noise, noise, torch.tensor(level))
