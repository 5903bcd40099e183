"""Scorers whose taste can be computed by hand, and a plan for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.backbones.sample import Sampler
from palate.evaluate.plan import Plan
from palate.world.scenes import prompts


@dataclass(frozen=True)
class Channel:
    """Likes one colour channel."""

    name: str
    channel: int
    identity: str = "channel 1"

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        assert len(images) == len(prompts)
        return np.array([image[..., self.channel].mean(dtype=np.float64) for image in images])


@dataclass(frozen=True)
class Opposite(Channel):
    """Dislikes one colour channel, and so likes black pictures best."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        return -Channel.score(self, images, prompts)


RED, GREEN = Channel("red", 0), Channel("green", 1)


def small_plan() -> Plan:
    return Plan(
        prompts=tuple(prompts("held-out", 5, 1)),
        primary="red",
        held_out=True,
        secondary=("green",),
        seed=3,
        variety_prompts=2,
        variety_pictures=3,
        sampler=Sampler(steps=2, guidance=1.0),
    )
