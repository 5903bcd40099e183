"""Users and models whose worth is known, without drawing anything.

A picture is four numbers: three that tastes disagree about, and its quality, which everybody
likes. A model may move pictures towards whoever they are drawn for, towards quality, or nowhere.
"""

import numpy as np

from palate.core.stats import cluster_mean, cluster_share
from palate.core.streams import Streams
from palate.evaluate.crossed import Crossed
from palate.evaluate.following import Following
from palate.evaluate.identify import Identified
from palate.evaluate.ordering import Ordering
from palate.evaluate.slide import Slide


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


def planted_slide(heights: list[float], pictures: int = 24, luck: float = 0.5) -> Slide:
    """User b's reward is on average as high as told at each share, a's as low."""
    chance = Streams(len(heights))("slide", pictures).numpy()
    shape = (len(heights), pictures)
    told = np.array(heights)[:, None] + chance.normal(size=pictures)
    return Slide(
        names=("a", "b"),
        shares=tuple(np.linspace(0, 1, len(heights)).tolist()),
        prompts=tuple(f"prompt {number}" for number in range(pictures)),
        reward_a=-told + luck * chance.normal(size=shape),
        reward_b=told + luck * chance.normal(size=shape),
        pictures=chance.integers(0, 256, (len(heights), 2, 16, 16, 3), dtype=np.uint8),
    )


def following(*, follows: float = 1.0, trainings: int = 2) -> Following:
    """A whole result with known numbers: two groups, a slide, an identification, an ordering."""
    users = np.repeat(np.arange(12), 5)
    own, others = (np.arange(60) % 5 < many for many in (4, 2))
    many = {"seen": 12, "unseen": 6}
    return Following(
        groups={
            name: tuple(planted(count, 6, follows=follows, better=0.5, seed=seed)
                        for seed in range(trainings))
            for name, count in many.items()
        },
        slides=(planted_slide([0.0, 1.0, 2.0]),),
        identified=(
            Identified(how="nearest", users=12, found={1: cluster_share(own[::5], range(12))}),
        ),
        ordering=Ordering(
            own=cluster_share(own, users.tolist()),
            shuffled=cluster_share(others, users.tolist()),
            own_minus_shuffled=cluster_mean(1.0 * own - others, users.tolist()),
            pooled=None,
            own_minus_pooled=None,
            pairs=60,
            left_out=0,
        ),
        facts={"seed": 3, "sampler": {"steps": 10}},
    )  # fmt: skip
