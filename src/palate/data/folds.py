"""Prompts as they are told apart, and dealing them into folds.

Pairs of one prompt share pictures and taste: what is learned from some of them says too much of
the others. So everything here is dealt by prompt, never by pair.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from palate.core.streams import Streams


def folded(text: str) -> str:
    """A prompt as it is compared: case and spacing make no difference."""
    return " ".join(text.casefold().split())


def deal(
    prompts: Sequence[str], folds: int, seed: int, *, purpose: str = "fold"
) -> Int[np.ndarray, " n"]:
    """The fold of each pair, [n]: one for all pairs of a prompt, whatever order they come in.

    Prompts are put in an order drawn by seed and dealt out one by one, so that folds hold equally
    many of them; with fewer prompts than folds, the last folds are empty.

    Args:
        prompts: The prompt of each pair.
        folds: How many.
        seed: Which prompt is in which.
        purpose: What the folds are for; different purposes deal independently.
    """
    names = [folded(prompt) for prompt in prompts]
    streams = Streams(seed)
    order = sorted(set(names), key=lambda name: streams(purpose, name).seed)
    fold = {name: place % folds for place, name in enumerate(order)}
    return np.array([fold[name] for name in names], dtype=np.int64)
