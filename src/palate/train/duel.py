"""The exact form of self-play: the opponent is judged on the way it draws, not on its picture.

The data's picture is noised as ever. The opponent's side is a state of its own sampler, and what
is to be predicted there is what the opponent itself predicts, so its error is exactly zero
(SPIN-Diffusion, arXiv:2402.10210, eq. C.5). The practical form (eq. C.6) noises the opponent's
finished picture instead and needs nothing of this file.

Read next: `opponents.py`, which draws the finished pictures.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.guidance import guided
from palate.backbones.steps import Grid, transition
from palate.core.contrast import Branch, Denoised
from palate.core.problems import SettingError, require
from palate.core.streams import Streams
from palate.train.batch import Batch
from palate.train.cache import Cache, empty_prompt
from palate.train.noise import Noised
from palate.train.run import Run
from palate.train.sources import SelfPlaySettings


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Duelled:
    """The data's picture with noise, and a state on the opponent's way to one of its own.

    Attributes:
        noised: What is asked of both. What it calls the rejected target is not read.
    """

    noised: Noised

    @property
    def level(self) -> Tensor:
        """The level of both sides, [b]."""
        return self.noised.level

    def ask(self, backbone: Backbone, sides: int) -> Tensor:
        """Predictions, [sides · b, c, h, w], in one batch."""
        return self.noised.ask(backbone, sides)

    def branches(self, answers: Tensor, believed: Tensor | None) -> list[Branch]:
        """The data's side as ever; on the opponent's, its own answer is the target.

        Raises:
            SettingError: where nobody asked the opponent, who is the reference.
        """
        plain = self.noised.branches(answers, believed)
        if len(plain) == 1:
            return plain
        if believed is None:
            raise SettingError(
                got="selfplay.opponent=trajectory and an objective without a reference",
                need="the opponent's own answer, which is the reference's",
                fix="Use selfplay.opponent=renoised.",
            )
        count = len(self.level)
        theirs = believed[count:].detach()
        return [
            plain[0],
            Denoised(prediction=answers[count:], target=theirs, reference=theirs),
        ]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """Follows the opponent from noise to one of its sampler's levels, anew at each visit.

    Attributes:
        streams: The run's random streams.
        backbone: The model; the opponent is its reference.
        settings: How the opponent draws.
        grid: The levels of its sampler.
        levels: Those of them that may be judged.
        shared: Whether the data's picture gets the noise that the opponent starts from.
        empty: What the empty prompt says; None where there is no guidance.
    """

    streams: Streams
    backbone: Backbone
    settings: SelfPlaySettings
    grid: Grid
    levels: tuple[int, ...]
    shared: bool
    empty: Condition | None

    def __call__(self, batch: Batch) -> Duelled:
        """A level for each pair, the data's picture at it, and the opponent on its way there."""
        keys = list(zip(batch.visits, batch.ids, strict=True))
        shape, path = tuple(batch.chosen.shape[1:]), self.backbone.path
        drawn = [self.streams("duel level", *key).integer(0, len(self.levels)) for key in keys]
        level = torch.tensor([self.levels[each] for each in drawn])
        start = [self.streams("duel", *key).normal(shape) for key in keys]
        ours = start if self.shared else [self.streams("noise", *k).normal(shape) for k in keys]
        noise = torch.stack(ours).to(batch.chosen)
        way = self._follow(torch.stack(start).to(batch.chosen), level, batch.conditions[1])
        return Duelled(
            noised=Noised(
                noisy=(path.noisy(batch.chosen, noise, level), way),
                target=(path.target(batch.chosen, noise, level), way),
                conditions=batch.conditions,
                level=level,
            )
        )

    @torch.no_grad()
    def _follow(self, start: Tensor, level: Tensor, condition: Condition) -> Tensor:
        """Where the opponent's sampler arrives at each row's level, in the type of the start."""
        state, device = start.clone(), self.backbone.device
        with self.backbone.as_reference():
            for above, below in zip(self.grid.levels, self.grid.previous, strict=True):
                going = (level < above).nonzero().squeeze(1)
                if not len(going):
                    break
                noisy = state[going].to(device)
                here = torch.full((len(going),), above, device=device)
                there = torch.full_like(here, below)
                told = condition.rows(going.tolist()).to(device)
                empty = None if self.empty is None else self.empty.to(device)
                said = guided(self.backbone, noisy, here, told, empty, self.settings.guidance)
                step = transition(self.backbone.path, noisy, said, here, there, eta=0.0)
                state[going] = step.mean.to(state)
        return state


def open_duel(run: Run, backbone: Backbone, cache: Cache) -> Duel:
    """The source of a round in the exact form.

    Args:
        run: The round's settings.
        backbone: The model of the round before, as the reference.
        cache: Has the embedding of the empty prompt.

    Raises:
        SettingError: when the opponent's sampler visits no level that may be judged.
        HealthStop: when guidance is asked for and the empty prompt has no sound embedding.
    """
    settings = run.selfplay or SelfPlaySettings()
    path = backbone.path
    grid = Grid.leading(path.levels, settings.sampling_steps)
    low, high = run.noise.lowest * path.levels, run.noise.highest * path.levels
    levels = tuple(level for level in grid.levels if low <= level < high)
    require(
        bool(levels),
        got=f"noise.lowest={run.noise.lowest} and noise.highest={run.noise.highest}",
        need=f"one of the {len(grid)} levels the opponent's sampler visits in between",
        fix="Use more selfplay.sampling_steps, or a wider part of the noise.",
    )
    return Duel(
        streams=Streams(run.seed),
        backbone=backbone,
        settings=settings,
        grid=grid,
        levels=levels,
        shared=run.noise.shared,
        empty=empty_prompt(cache, "selfplay.guidance") if settings.guidance > 1 else None,
    )
