"""What a step-aware scorer is: an opinion on what is seen part of the way through denoising.

Step-wise methods judge candidates before they are finished. Some scorers look at the picture the
network predicts from a noisy state (SPO's step-aware preference model), some at the noisy latents
themselves (LPO's latent reward model); both are told how noisy it still is. `reads` says which of
the two a scorer wants to be shown.

Read next: `stepclip.py`, which reads pictures; `latent.py`, which reads latents.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, final

import numpy as np
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from palate.core.files import digest_json
from palate.core.problems import DataError, require
from palate.scorers.scorer import Scorer

Reads = Literal["pictures", "latents"]
Pictures = Sequence[UInt8[np.ndarray, " _ _ 3"]]
Latents = Float[Tensor, " n c h w"]


class StepScorer(Protocol):
    """A deterministic opinion on unfinished pictures, each with its prompt and noise level."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def identity(self) -> str:
        """Digest of everything its numbers depend on: weights, settings, its own arithmetic."""
        ...

    @property
    def reads(self) -> Reads:
        """`pictures`: the decoded prediction of the finished one; `latents`: the noisy state."""
        ...

    def score_steps(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float64[np.ndarray, " n"]:
        """One number for each thing seen, with its prompt and its level; higher is better.

        Args:
            seen: Pictures, uint8 [height, width, 3], of the predicted finished pictures; or noisy
                latents [n, c, h, w] at the scale the network sees, as `reads` says.
            prompts: One prompt each.
            level: One noise level each; 0 is a finished picture.

        Raises:
            DataError: when the three differ in number, or what is seen has the wrong form.
        """
        ...


@final
class Timeless:
    """An ordinary scorer asked at every step: it judges the predicted picture as if finished."""

    reads: Reads = "pictures"

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.name = scorer.name
        self.identity = digest_json({"timeless": scorer.identity})

    def score_steps(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float64[np.ndarray, " n"]:
        """What the scorer says of each picture; the level is not looked at.

        Raises:
            DataError: when the three differ in number, or latents are shown.
        """
        return self._scorer.score(pictures(seen, prompts, level), prompts)


def pictures(seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]) -> Pictures:
    """What is seen, once it is sure that it is pictures, one for each prompt and level.

    Raises:
        DataError: for latents, for pictures of another form, or when the three differ in number.
    """
    if isinstance(seen, Tensor):
        raise _other(f"latents {list(seen.shape)}", "pictures, uint8 [height, width, 3]")
    for place, image in enumerate(seen):
        require(
            image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3,
            got=f"picture {place} of {image.dtype} {image.shape}",
            need="uint8 [height, width, 3]",
            fix="Give RGB values from 0 to 255.",
            kind=DataError,
        )
    _one_each(len(seen), prompts, level)
    return seen


def latents(seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]) -> Latents:
    """What is seen, once it is sure that it is latents, one for each prompt and level.

    Raises:
        DataError: for pictures, for latents of another shape, or when the three differ in number.
    """
    if not isinstance(seen, Tensor):
        raise _other(f"{len(seen)} pictures", "latents, a tensor [n, channels, height, width]")
    require(
        seen.ndim == 4,
        got=f"latents of shape {list(seen.shape)}",
        need="[n, channels, height, width]",
        fix="Stack the latents, one for each prompt.",
        kind=DataError,
    )
    _one_each(len(seen), prompts, level)
    return seen


def _other(got: str, need: str) -> DataError:
    return DataError(
        got=got, need=need, fix="Ask the scorer's `reads` which of the two it wants to be shown."
    )


def _one_each(count: int, prompts: Sequence[str], level: Sequence[int]) -> None:
    require(
        count == len(prompts) == len(level),
        got=f"{count} things seen, {len(prompts)} prompts and {len(level)} levels",
        need="one prompt and one level for each",
        fix="Repeat a prompt for each of its candidates, and the level for each of its prompts.",
        kind=DataError,
    )
    require(
        all(one >= 0 for one in level),
        got=f"level {min(level, default=0)}",
        need="levels of 0 and more",
        fix="Give the level of the network's noise schedule; 0 is a finished picture.",
        kind=DataError,
    )
