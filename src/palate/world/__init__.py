"""A small world with a known taste: scenes, their pictures, the exact reward, and judges."""

from palate.world.judges import (
    SPREAD,
    Judge,
    Preference,
    diverse,
    likeness,
    population,
    varied,
)
from palate.world.render import PERFECT, Style, render, training_pictures
from palate.world.reward import (
    FIDELITY_PARTS,
    MAJORITY,
    OPPOSITE,
    TASTE_PARTS,
    Taste,
    parts,
    reward,
    rewards,
    weigh,
)
from palate.world.scenes import Scene, Thing, prompts, split_of
from palate.world.truth import RewardPart, TrueReward

__all__ = [
    "FIDELITY_PARTS",
    "MAJORITY",
    "OPPOSITE",
    "PERFECT",
    "SPREAD",
    "TASTE_PARTS",
    "Judge",
    "Preference",
    "RewardPart",
    "Scene",
    "Style",
    "Taste",
    "Thing",
    "TrueReward",
    "diverse",
    "likeness",
    "parts",
    "population",
    "prompts",
    "render",
    "reward",
    "rewards",
    "split_of",
    "training_pictures",
    "varied",
    "weigh",
]
