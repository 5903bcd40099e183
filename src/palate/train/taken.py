"""Steps of pictures the policy drew, in pairs, and what policy and reference think of them.

Where frozen pairs are asked "how well can you denoise this?", a step is asked "how probable was
it that you go there?": the log-probability of the state landed on, under the Gaussian that a
guided prediction implies (`backbones/steps.py`).

Read next: `rollout.py`, which draws the steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.guidance import guided
from palate.backbones.steps import Grid, log_probability, transition
from palate.core.contrast import Branch, Stepped
from palate.core.path import Path
from palate.core.problems import SettingError
from palate.train.sources import RolloutSettings

UNDECIDED = "no judgement was clear enough"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """A better and a worse step from the same level in each row, taken by the policy itself.

    Attributes:
        ids: The rows' names: the picture's, and which step it was.
        judged: The judgement that labels each row; one may label all steps of a picture.
        noisy: The states left, [b, c, h, w] of the better and the worse step; a single one where
            both left the same state.
        taken: The states landed on, [b, c, h, w] of the better and the worse step.
        level: The level left, [b].
        previous: The level landed on, [b].
        told: What the network knows of each prompt of this batch.
        prompt: Which of them each row belongs to.
        agreement: Probability that the better step is the better one, [b].
        weight: How much each row counts, [b]; None means alike.
        refused: Pictures without a finite score, and why.
    """

    ids: tuple[str, ...]
    judged: tuple[str, ...]
    noisy: tuple[Float[Tensor, " b c h w"], ...]
    taken: tuple[Float[Tensor, " b c h w"], Float[Tensor, " b c h w"]]
    level: Int[Tensor, " b"]
    previous: Int[Tensor, " b"]
    told: Condition
    prompt: tuple[int, ...]
    agreement: Float[Tensor, " b"]
    weight: Float[Tensor, " b"] | None = None
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def facts(self) -> Mapping[str, Tensor]:
        """None: steps come with nothing but their label."""
        return MappingProxyType({})

    @property
    def judgements(self) -> int:
        """How many judgements the rows rest on."""
        return len(set(self.judged))

    @property
    def nothing(self) -> str:
        """Why there is nothing to learn from, where there is no row."""
        return "no score was finite" if self.refused else UNDECIDED

    @property
    def condition(self) -> Condition:
        """What the network knows of each row's prompt."""
        return self.told.rows(self.prompt)

    def rows(self, index: Sequence[int]) -> "Steps":
        """The rows of the given numbers."""
        chosen = torch.tensor(list(index), dtype=torch.long)
        return Steps(
            ids=tuple(self.ids[i] for i in index),
            judged=tuple(self.judged[i] for i in index),
            noisy=tuple(states[chosen] for states in self.noisy),
            taken=(self.taken[0][chosen], self.taken[1][chosen]),
            level=self.level[chosen],
            previous=self.previous[chosen],
            told=self.told,
            prompt=tuple(self.prompt[i] for i in index),
            agreement=self.agreement[chosen],
            weight=None if self.weight is None else self.weight[chosen],
            refused=self.refused,
        )

    def parts(self, size: int) -> list["Steps"]:
        """The rows in pieces of at most `size`; the last may be smaller."""
        return [
            self.rows(range(start, min(start + size, len(self))))
            for start in range(0, len(self), size)
        ]

    def broken(self) -> dict[str, str]:
        """Pictures without a finite score, and rows with states that are not finite."""
        found = dict(self.refused)
        for i, name in enumerate(self.ids):
            if not all(bool(torch.isfinite(t[i]).all()) for t in (*self.noisy, *self.taken)):
                found[name] = "a state is not finite"
        return found


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """How probable each step was: one guided prediction per state left.

    Attributes:
        path: Noise levels and kind of prediction.
        steps: The steps taken.
        empty: What the network knows of the empty prompt, one row.
        guidance: Strength of guidance, in the loss as in the drawing.
        eta: Width of the steps, as a share of DDPM's.
    """

    path: Path
    steps: Steps
    empty: Condition
    guidance: float
    eta: float

    @property
    def level(self) -> Int[Tensor, " b"]:
        """The level each row left."""
        return self.steps.level

    def ask(self, backbone: Backbone, sides: int) -> Tensor:
        """Guided predictions, [states · b, c, h, w]: both sides, or the one state they share."""
        states = self.steps.noisy[:sides]
        return guided(
            backbone,
            torch.cat(states).to(backbone.device),
            self.level.repeat(len(states)).to(backbone.device),
            self.steps.condition.repeat(len(states)).to(backbone.device),
            self.empty.to(backbone.device),
            self.guidance,
        )

    def branches(self, answers: Tensor, believed: Tensor | None) -> list[Branch]:
        """The log-probabilities of both, step by step, in float32 or wider."""
        if believed is None:
            raise SettingError(
                got="an objective that judges steps without the reference",
                need="a ratio of policy to reference",
                fix="Declare the reference in the objective's `needs`.",
            )
        policy, reference = self._likely(answers), self._likely(believed)
        return [Stepped(policy=a, reference=b) for a, b in zip(policy, reference, strict=True)]

    def _likely(self, answers: Tensor) -> list[Float[Tensor, " b"]]:
        """Log-probabilities of the steps of each side."""
        level, previous = self.steps.level, self.steps.previous
        aimed = [
            transition(self.path, states.to(said), said, level, previous, self.eta)
            for states, said in zip(self.steps.noisy, answers.split(len(level)), strict=False)
        ]
        # Where both steps left one state, there is one Gaussian for both.
        both = aimed * 2 if len(self.steps.noisy) == 1 else aimed
        return [
            log_probability(step, taken.to(step.mean))
            for step, taken in zip(both, self.steps.taken, strict=False)
        ]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Retraced:
    """The source of a rollout: asks about the steps as they were taken.

    Attributes:
        path: Noise levels and kind of prediction.
        empty: What the network knows of the empty prompt, one row.
        settings: How the pictures are drawn.
    """

    path: Path
    empty: Condition
    settings: RolloutSettings

    def __call__(self, steps: Steps) -> Taken:
        """The question about these steps."""
        return Taken(
            path=self.path,
            steps=steps,
            empty=self.empty,
            guidance=self.settings.guidance,
            eta=self.settings.eta,
        )


def sensitivity(path: Path, grid: Grid, eta: float) -> Float64[Tensor, " n"]:
    """How strongly each step's log-probability reacts to the prediction: k² / 2s².

    Two predictions that differ by d in every element aim k · d apart, which changes the mean
    log-density of a step of width s by k² d² / 2s². On Stable Diffusion 1.5's twenty steps this
    is between 0.2 and 0.7, but 14.7 from level 51.
    """
    level, previous = torch.tensor(grid.levels), torch.tensor(grid.previous)
    nothing = torch.zeros(len(grid), 1, 1, 1, dtype=torch.float64)
    steps = [transition(path, nothing, nothing + said, level, previous, eta) for said in (0.0, 1.0)]
    apart = (steps[1].mean - steps[0].mean).flatten()
    return apart.square() / (2 * steps[0].sigma.square())
