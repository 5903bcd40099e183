"""The way back: from a picture's latents up to the noise that a deterministic sampler needs.

DDIM without noise is a differential equation followed in steps (Song et al., 2020,
arXiv:2010.02502, eq. 13), and can be followed in the other direction. Going up, the noise in x
at the higher level is not known yet; the usual answer is to ask the network about the x at hand
under the label of the level it is going to. Inversion-DPO learns on such a way as a whole, InPO
and SmPO at its end.

Read next: `steps.py`, the way down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.guidance import guided
from palate.backbones.steps import deviation, spaced
from palate.core.path import Path
from palate.core.problems import DataError, require

# InPO's released code; the share of the sampler's own noise that is added to every state.
NOISE_SHARE = 0.1


def inversion_grid(levels: int, steps: int, offset: int = 0) -> tuple[int, ...]:
    """Evenly spaced levels from `offset` upwards: 80 steps over a thousand are 0, 12, …, 948.

    Inversion-DPO's code starts at 0; InPO's, with ten steps, at 1: 1, 101, …, 901.

    Raises:
        SettingError: when so many steps do not fit.
    """
    return spaced(levels, steps, offset)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inversion:
    """The way from pictures up to noise.

    Attributes:
        states: The latents along the way, [b, n + 1, c, y, x]: first the clean ones, then those
            after each move, at that move's level. A row that has stopped repeats its last state.
        predicted: The noise each move was made with, [b, n, c, y, x], whatever the network
            predicts. Zero where a row no longer moved.
        levels: The level each of the n moves went to. The clean latents count as level 0.
    """

    states: Float[Tensor, " b states c y x"]
    predicted: Float[Tensor, " b moves c y x"]
    levels: tuple[int, ...]

    @property
    def last(self) -> Float[Tensor, " b c y x"]:
        """Where each row ended."""
        return self.states[:, -1]


@torch.no_grad()
def invert(
    backbone: Backbone,
    clean: Float[Tensor, " b c y x"],
    condition: Condition,
    empty: Condition | None,
    grid: Sequence[int],
    *,
    guidance: float = 1.0,
    renoise: bool = False,
    noise: Callable[[int], Tensor] | None = None,
    upto: Int[Tensor, " b"] | None = None,
) -> Inversion:
    """Follow the deterministic sampler backwards, from clean latents up the grid.

    Move k starts at level grid[k − 1] (the first at level 0), asks the network about that state
    under the label grid[k], and goes to level grid[k]. A grid that starts at 0 therefore begins
    with a move that changes nothing, as in Inversion-DPO's code. The network's answer is read as
    noise at the level of the label, so that networks which predict noise, velocity or pictures
    and mean the same go the same way.

    Speaks with the backbone's present voice, without gradient. Rows that have stopped are not
    asked about any more.

    Args:
        backbone: The model.
        clean: Latents of pictures, as the network sees them.
        condition: What each picture is conditioned on.
        empty: What the empty prompt says, one row or one per picture; None for no guidance.
        grid: Levels in ascending order, from `inversion_grid`.
        guidance: Strength of classifier-free guidance.
        renoise: Make each move with the mean of two predictions: at the state it starts from
            and at the state a first attempt leads to, both under the same label. This is one
            correction of ReNoise (arXiv:2403.14602), as in SmPO's code.
        noise: Standard normal numbers for move k, [b, c, y, x], of which `NOISE_SHARE` times
            the sampler's own width at that level is added after the move, as in InPO's code.
            Such a state is no longer where `predicted` alone leads.
        upto: How many moves each row makes; None is all of them.

    Raises:
        SettingError: for a grid that does not ascend or leaves the path.
        DataError: when rows differ in number, or `upto` asks for other numbers of moves.
    """
    moves = torch.full((len(clean),), len(grid)) if upto is None else upto.cpu()
    _check(backbone.path, clean, condition, grid, moves)
    state = clean.to(backbone.device, torch.promote_types(clean.dtype, torch.float32))
    states, predicted = [state], [torch.zeros_like(state) for _ in grid]
    widths = _widths(backbone.path, grid)
    for move, (start, label) in enumerate(zip((0, *grid), grid, strict=False)):
        rows = (moves > move).nonzero().squeeze(1)
        state = state.clone()
        if len(rows) > 0:
            ask = _Question(
                backbone=backbone,
                condition=condition.rows(rows),
                empty=empty if empty is None or len(empty) == 1 else empty.rows(rows),
                guidance=guidance,
                label=label,
            )
            reached, used = _moved(ask, state[rows], start, renoise)
            if noise is not None:
                reached = reached + widths[move] * noise(move).to(reached)[rows]
            state[rows], predicted[move][rows] = reached, used
        states.append(state)
    return Inversion(
        states=torch.stack(states, 1), predicted=torch.stack(predicted, 1), levels=tuple(grid)
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Question:
    """What is asked during one move, for the rows that still move."""

    backbone: Backbone
    condition: Condition
    empty: Condition | None
    guidance: float
    label: int

    def __call__(self, noisy: Tensor) -> Tensor:
        """The noise in these latents, if they are at the level of the label."""
        level = _alike(self.label, noisy)
        answer = guided(self.backbone, noisy, level, self.condition, self.empty, self.guidance)
        return self.backbone.path.to_clean_and_noise(answer.to(noisy), noisy, level)[1]


def _moved(
    ask: _Question, noisy: Tensor, start: int, renoise: bool
) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
    """The state at the level of the question's label, and the noise that led there."""
    path = ask.backbone.path
    low, high = _alike(start, noisy), _alike(ask.label, noisy)

    def follow(noise: Tensor) -> Tensor:
        clean, _ = path.to_clean_and_noise(noise, noisy, low, "epsilon")
        return path.noisy(clean, noise, high)

    noise = ask(noisy)
    if renoise:
        noise = 0.5 * (noise + ask(follow(noise)))
    return follow(noise), noise


def _widths(path: Path, grid: Sequence[int]) -> list[float]:
    """How much noise may be added after each move: a share of the step down onto its level.

    The step comes from the next level of the grid. Above the last one the released code looks
    one spacing further, beyond the table; here that level is the table's last.
    """
    spacing = grid[-1] - grid[-2] if len(grid) > 1 else path.levels
    above = [*grid[1:], min(grid[-1] + spacing, path.levels - 1)]
    widths = deviation(path, torch.tensor(above), torch.tensor(list(grid)))
    return (NOISE_SHARE * widths).tolist()


def _alike(level: int, noisy: Tensor) -> Int[Tensor, " b"]:
    """The same level for every row."""
    return torch.full((len(noisy),), level, device=noisy.device)


def _check(
    path: Path, clean: Tensor, condition: Condition, grid: Sequence[int], moves: Tensor
) -> None:
    """Refuse what cannot be followed."""
    ascending = all(low < high for low, high in zip((-1, *grid), grid, strict=False))
    require(
        len(grid) > 0 and ascending and grid[-1] < path.levels,
        got=f"a grid of levels {tuple(grid)}",
        need=f"one or more ascending levels of 0 to {path.levels - 1}",
        fix="Use `inversion_grid`.",
    )
    require(
        len(clean) == len(condition) == len(moves) > 0,
        got=f"{len(clean)} latents, {len(condition)} conditions, moves for {len(moves)} rows",
        need="one of each per picture, and at least one picture",
        fix="Repeat the condition for each of its pictures.",
        kind=DataError,
    )
    require(
        bool(((moves >= 0) & (moves <= len(grid))).all()),
        got=f"moves {moves.tolist()}",
        need=f"0 to {len(grid)} moves in each row",
        fix="Count the levels of the grid below each row's own.",
        kind=DataError,
    )
