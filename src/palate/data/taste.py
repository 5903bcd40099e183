"""By what pairs are chosen: what a margin, a good prompt and diversity count.

Read next: `select.py`, which chooses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np

from palate.core.problems import require
from palate.data.machine import Machine
from palate.data.spread import WORDS, Array, Texts

# Prompts of this many words are neither cut by CLIP's 77 tokens nor a bare noun: ours.
FEWEST_WORDS, MOST_WORDS = 5, 40


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What each component counts. FiFA's own weights were not found; equal ones are ours.

    Attributes:
        margin: Of one standard deviation of the margin, over all pairs.
        quality: Of one standard deviation of the prompt's quality.
        diversity: Of the logarithm of the distance to the third nearest prompt already taken.
    """

    margin: float = 1.0
    quality: float = 1.0
    diversity: float = 1.0

    def __post_init__(self) -> None:
        values = (self.margin, self.quality, self.diversity)
        require(
            all(np.isfinite(value) and value >= 0 for value in values) and any(values),
            got=f"weights {self}",
            need="finite numbers of at least 0, not all 0",
            fix="For instance margin=1,quality=0.5,diversity=1.",
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good a prompt is.

    Attributes:
        name: What the record calls it.
        of: Prompts → a number each, higher is better; NaN where it does not know.
    """

    name: str
    of: Callable[[Sequence[str]], Array]


def length(prompts: Sequence[str]) -> Array:
    """1 from 5 to 40 words, less in proportion below, and falling to 0 at 80.

    It says nothing of what a prompt means: only that one word, or a wall of them, is a poor one.
    """
    words = np.array([len(prompt.split()) for prompt in prompts], np.float64)
    return np.clip(np.minimum(words / FEWEST_WORDS, 2 - words / MOST_WORDS), 0.0, 1.0)


LENGTH: Final = Quality(name="length in words", of=length)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """By what pairs are chosen.

    Attributes:
        machine: Whose scores give the margin; None takes it from the labels.
        quality: How good a prompt is.
        weights: What each component counts.
        texts: How prompts become vectors.
    """

    machine: Machine | None = None
    quality: Quality = LENGTH
    weights: Weights = field(default_factory=Weights)
    texts: Texts = WORDS
