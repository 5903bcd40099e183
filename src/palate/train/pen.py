"""The policy drawing: many pictures at once, step by step, with every draw named.

Read next: `judged.py`, what is drawn and how it is judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.guidance import guided
from palate.backbones.steps import Grid, draw, transition
from palate.core.streams import Key, Streams
from palate.scorers import StepScorer
from palate.train.sources import RolloutSettings


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pen:
    """Draws with the backbone's present voice, without gradient. States stay on the CPU.

    Attributes:
        backbone: Whose hand it is.
        settings: Guidance, width of the steps, and how many states there are in memory at once.
        grid: The levels on the way.
        empty: What the network knows of the empty prompt, one row.
        shape: Channels, height and width of the latents.
        streams: The run's random streams.
    """

    backbone: Backbone
    settings: RolloutSettings
    grid: Grid
    empty: Condition
    shape: tuple[int, int, int]
    streams: Streams

    def noise(self, purpose: str, keys: Sequence[tuple[Key, ...]]) -> Float[Tensor, " n c h w"]:
        """Standard normal noise, one picture's for each key."""
        return torch.stack([self.streams(purpose, *key).normal(self.shape) for key in keys])

    @torch.no_grad()
    def predict(
        self, states: Float[Tensor, " n c h w"], level: int, condition: Condition
    ) -> Float[Tensor, " n c h w"]:
        """What the network says of states at one level, guided as in the loss."""
        found: list[Tensor] = []
        for rows in self._parts(len(states)):
            noisy = states[rows].to(self.backbone.device)
            levels = torch.full((len(rows),), level, device=noisy.device)
            told = condition.rows(rows).to(noisy.device)
            empty = self.empty.to(noisy.device)
            guidance = self.settings.guidance
            found.append(guided(self.backbone, noisy, levels, told, empty, guidance).cpu())
        return torch.cat(found)

    def step(
        self,
        states: Float[Tensor, " n c h w"],
        predicted: Float[Tensor, " n c h w"],
        number: int,
        keys: Sequence[tuple[Key, ...]],
    ) -> Float[Tensor, " n c h w"]:
        """Where the step of this number, counted from 0, lands; one key for each state."""
        level, previous = self.grid.levels[number], self.grid.previous[number]
        aimed = transition(
            self.backbone.path,
            states,
            predicted,
            torch.full((len(states),), level),
            torch.full((len(states),), previous),
            self.settings.eta,
        )
        return draw(aimed, self.noise("rollout step", [(number, *key) for key in keys]))

    def clean(
        self, states: Float[Tensor, " n c h w"], predicted: Float[Tensor, " n c h w"], level: int
    ) -> Float[Tensor, " n c h w"]:
        """The finished pictures that predictions imply, as latents."""
        levels = torch.full((len(states),), level)
        return self.backbone.path.to_clean_and_noise(predicted, states, levels)[0]

    @torch.no_grad()
    def pictures(self, latents: Float[Tensor, " n c h w"]) -> list[NDArray[np.uint8]]:
        """Decoded pictures, uint8 [height, width, 3] each."""
        parts = [self.backbone.decode(latents[rows]).cpu() for rows in self._parts(len(latents))]
        return [picture.numpy() for part in parts for picture in part]

    def _parts(self, count: int) -> list[range]:
        most = self.settings.at_once or count
        return [range(start, min(start + most, count)) for start in range(0, count, most)]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judge:
    """A scorer, shown what it reads.

    Attributes:
        scorer: Who judges.
        pen: Decodes what is judged.
    """

    scorer: StepScorer
    pen: Pen

    @property
    def looks_ahead(self) -> bool:
        """Whether it needs to know what the network predicts of unfinished states."""
        return self.scorer.reads == "pictures"

    def __call__(
        self,
        states: Float[Tensor, " n c h w"],
        predicted: Float[Tensor, " n c h w"] | None,
        level: int,
        prompts: Sequence[str],
    ) -> Float64[np.ndarray, " n"]:
        """One score for each state; NaN where the state is not finite.

        Args:
            states: Latents at the level.
            predicted: What the network says of them; None for finished ones, and for scorers
                that read latents.
            level: Their noise level; 0 is finished.
            prompts: One prompt each.
        """
        finite = torch.isfinite(states).flatten(1).all(1)
        shown = states if predicted is None else self.pen.clean(states, predicted, level)
        shown = torch.where(finite.reshape(-1, 1, 1, 1), shown, 0.0)
        seen = self.pen.pictures(shown) if self.looks_ahead else shown
        scores = self.scorer.score_steps(seen, prompts, [level] * len(states))
        return np.where(finite.numpy(), scores, np.nan)
