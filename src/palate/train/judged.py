"""What is drawn for some prompts, judged: whole pictures, or every step on the way to one.

Both ways end in pairs of steps, a better and a worse one from the same level. They differ in what
the scorer is shown, and in whether the two steps left the same state.

Read next: `rollout.py`, which makes them the batch of an optimizer step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from palate.backbones.backbone import Condition
from palate.backbones.steps import deviation
from palate.train.pen import Judge, Pen


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Round:
    """What one optimizer step draws for.

    Attributes:
        prompts: The prompts.
        visits: How often each has come up before.
        told: What the network knows of them, one row each.
    """

    prompts: tuple[str, ...]
    visits: tuple[int, ...]
    told: Condition

    @property
    def keys(self) -> list[tuple[int, str]]:
        """What names the draws of each prompt."""
        return list(zip(self.visits, self.prompts, strict=True))

    @property
    def names(self) -> list[str]:
        """The same in one word each."""
        return [f"{visit}:{prompt}" for visit, prompt in self.keys]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdicts:
    """Which candidate of each prompt is the best, which the worst, and whether it is clear.

    Attributes:
        scores: Of all candidates, [prompts, candidates].
        best: Number of the best candidate, [prompts].
        worst: Number of the worst, [prompts].
        clear: Whether the judgement is kept, [prompts].
        finite: Whether all scores are finite, [prompts].
    """

    scores: Float64[np.ndarray, " p k"]
    best: Tensor
    worst: Tensor
    clear: np.ndarray
    finite: np.ndarray


def compare(scores: Float64[np.ndarray, " n"], count: int, threshold: float) -> Verdicts:
    """Best against worst of each prompt's `count` candidates, which stand together.

    A judgement is kept where the two probabilities of being better, a softmax over the two
    scores, differ by more than the threshold. At a threshold of 0 only ties are left out.
    """
    table = scores.reshape(-1, count)
    finite = np.asarray(np.isfinite(table).all(1))
    sound = np.where(finite[:, None], table, 0.0)
    # 2 σ(d) − 1 = tanh(d / 2): the difference of the two probabilities.
    certain = np.tanh((sound.max(1) - sound.min(1)) / 2)
    return Verdicts(
        scores=table,
        best=torch.from_numpy(sound.argmax(1)),
        worst=torch.from_numpy(sound.argmin(1)),
        clear=finite & (certain > threshold),
        finite=finite,
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """Pairs of steps of one number, before they are joined to a batch.

    Attributes:
        number: Which step on the way, counted from 0.
        prompts: Numbers of the prompts that have a pair.
        noisy: The states left, one tensor or one for each side.
        taken: The states landed on, one for each side.
    """

    number: int
    prompts: tuple[int, ...]
    noisy: tuple[Tensor, ...]
    taken: tuple[Tensor, Tensor]


def judge_finished(pen: Pen, judge: Judge, this: Round) -> tuple[list[Found], list[Verdicts]]:
    """Pictures from one starting noise, judged when finished; their steps inherit the label.

    A step of the best is set against the step of the worst from the same level, though the two
    left different states (D3PO, arXiv:2311.13231).
    """
    count = pen.settings.candidates
    which = [i for i in range(len(this.prompts)) for _ in range(count)]
    told = this.told.rows(which)
    keys = [(*this.keys[i], row % count) for row, i in enumerate(which)]
    ways = [pen.noise("rollout start", this.keys)[which]]
    for number, level in enumerate(pen.grid.levels):
        predicted = pen.predict(ways[-1], level, told)
        ways.append(pen.step(ways[-1], predicted, number, keys))
    scores = judge(ways[-1], None, 0, [this.prompts[i] for i in which])
    verdicts = compare(scores, count, pen.settings.threshold)
    kept = np.flatnonzero(verdicts.clear)
    better = torch.from_numpy(kept) * count + verdicts.best[kept]
    worse = torch.from_numpy(kept) * count + verdicts.worst[kept]
    found = [
        Found(
            number=number,
            prompts=tuple(kept.tolist()),
            noisy=(left[better], left[worse]),
            taken=(landed[better], landed[worse]),
        )
        for number, (left, landed) in enumerate(pairwise(ways))
        if number in trained_steps(pen)
    ]
    return found, [verdicts]


def judge_steps(pen: Pen, judge: Judge, this: Round) -> tuple[list[Found], list[Verdicts]]:
    """Next states from one state, judged at the level they landed on, at every trained step.

    The drawing goes on from a random candidate, not from the best one, so that a later pair does
    not inherit the earlier decision (SPO, arXiv:2406.04314).
    """
    thresholds, trained = _thresholds(pen), trained_steps(pen)
    states = pen.noise("rollout start", this.keys)
    predicted = pen.predict(states, pen.grid.levels[0], this.told)
    found: list[Found] = []
    every: list[Verdicts] = []
    for number in range(trained.stop):
        count = pen.settings.candidates if number in trained else 1
        which = [i for i in range(len(states)) for _ in range(count)]
        keys = [(*this.keys[i], row % count) for row, i in enumerate(which)]
        landed = pen.step(states[which], predicted[which], number, keys)
        goes_on = _goes_on(pen, this, number, count)
        level, told = pen.grid.previous[number], this.told.rows(which)
        unfinished = number + 1 < len(pen.grid)
        ahead = None
        if number in trained:
            if judge.looks_ahead and unfinished:
                ahead = pen.predict(landed, level, told)
            scores = judge(landed, ahead, level, [this.prompts[i] for i in which])
            verdicts = compare(scores, count, thresholds[number])
            found.append(_branches(number, states, landed, verdicts))
            every.append(verdicts)
        states = landed[goes_on]
        if unfinished:
            predicted = pen.predict(states, level, this.told) if ahead is None else ahead[goes_on]
    return found, every


def _branches(number: int, states: Tensor, landed: Tensor, verdicts: Verdicts) -> Found:
    """The best and the worst next state of each prompt whose judgement is clear."""
    kept = np.flatnonzero(verdicts.clear)
    first = torch.from_numpy(kept) * verdicts.scores.shape[1]
    return Found(
        number=number,
        prompts=tuple(kept.tolist()),
        noisy=(states[kept],),
        taken=(landed[first + verdicts.best[kept]], landed[first + verdicts.worst[kept]]),
    )


def _goes_on(pen: Pen, this: Round, number: int, count: int) -> list[int]:
    """The row of the candidate that each prompt's drawing goes on from."""
    return [
        i * count + pen.streams("rollout branch", number, *key).integer(0, count)
        for i, key in enumerate(this.keys)
    ]


def trained_steps(pen: Pen) -> range:
    """Numbers of the steps that are trained."""
    return range(pen.settings.skip_first, len(pen.grid) - pen.settings.skip_last)


def _thresholds(pen: Pen) -> list[float]:
    """What each step's judgement must exceed: linear in the step's width, if it varies at all.

    The wider the step, the further apart the candidates are, and the higher the threshold may be
    (LPO, arXiv:2502.01051, whose σ we read as this width).
    """
    low, high = pen.settings.threshold, pen.settings.threshold_high
    if high is None:
        return [low] * len(pen.grid)
    levels = torch.tensor(pen.grid.levels), torch.tensor(pen.grid.previous)
    width = deviation(pen.backbone.path, *levels, pen.settings.eta)
    share = (width - width.min()) / (width.max() - width.min())
    return (low + (high - low) * share).tolist()


# By `rollout.labels`: how pictures are drawn and judged.
LABELS: Mapping[str, Callable[[Pen, Judge, Round], tuple[list[Found], list[Verdicts]]]] = (
    MappingProxyType({"final": judge_finished, "steps": judge_steps})
)
