"""Users and models whose worth is known, without drawing anything.

A picture is four numbers: three that tastes disagree about, and its quality, which everybody
likes. A model may move pictures towards whoever they are drawn for, towards quality, or nowhere.
"""

import numpy as np

from palate.core.streams import Streams
from palate.evaluate.crossed import Crossed


def tastes(users: int, seed: int = 0) -> np.ndarray:
    """Directions on a sphere, [u, 3]: some agree, some are opposed."""
    drawn = Streams(seed)("tastes", users).numpy().normal(size=(users, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def planted(
    users: int = 20,
    prompts: int = 12,
    *,
    follows: float = 0.0,
    better: float = 0.0,
    luck: float = 1.0,
    by_prompt: float = 0.0,
    seed: int = 0,
) -> Crossed:
    """What a model gives that goes `follows` towards the user and is `better` for everybody.

    Args:
        users: How many users there are.
        prompts: How many prompts, one picture each.
        follows: How far pictures move along the taste of whom they are drawn for.
        better: How much their quality rises.
        luck: Standard deviation of what a picture gains or loses by chance.
        by_prompt: Standard deviation of how much better one prompt gets than another.
        seed: Another world.
    """
    liked = tastes(users, seed)
    chance = Streams(seed)("planted", users, prompts).numpy()
    base = chance.normal(size=(prompts, 3))
    moved = base + follows * liked[:, None] + luck * chance.normal(size=(users, prompts, 3))
    quality = better + by_prompt * chance.normal(size=prompts)
    quality = quality + luck * chance.normal(size=(users, prompts))
    return Crossed(
        users=tuple(f"user {number}" for number in range(users)),
        prompts=tuple(f"prompt {number}" for number in range(prompts)),
        personal=np.einsum("uk,vpk->uvp", liked, moved) + quality,
        base=liked @ base.T,
        pooled=liked @ base.T + better,
    )
