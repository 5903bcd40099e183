"""What the shipped model can do: pictures for held-out prompts, and their true rewards.

Read next: `pretrain.py`, which trains the model that is measured here.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from palate.backbones.tiny import Pipeline, draw
from palate.world import FIDELITY_PARTS, MAJORITY, TASTE_PARTS, parts, prompts, weigh

STEPS, GUIDANCE = 8, 2.0


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Pictures and what they are worth.

    Attributes:
        prompts: The prompts, p of them.
        pictures: uint8 [p, k, 64, 64, 3], k pictures per prompt.
        parts: Name of a part to float64 [p, k].
        rewards: The majority's rewards, float64 [p, k].
        seconds_per_picture: Sampling alone.
    """

    prompts: tuple[str, ...]
    pictures: np.ndarray
    parts: dict[str, np.ndarray]
    rewards: np.ndarray
    seconds_per_picture: float

    def summary(self) -> dict[str, float]:
        """Means and deviations, and how far the best of a prompt's pictures is from the worst."""
        numbers = {"reward mean": self.rewards.mean(), "reward deviation": self.rewards.std()}
        within = self.rewards.var(axis=1, ddof=1).mean() ** 0.5
        numbers["reward deviation within a prompt"] = within
        for name in ("fidelity", *FIDELITY_PARTS, *TASTE_PARTS):
            value = self.parts[name]
            numbers[f"{name} mean"] = value.mean()
            numbers[f"{name} deviation"] = value.std()
        ranked = np.sort(self.rewards, axis=1)
        gap = np.abs(self.rewards[:, :, None] - self.rewards[:, None, :])
        pairs = np.triu_indices(self.rewards.shape[1], 1)
        agreement = 1.0 / (1.0 + np.exp(-gap[:, pairs[0], pairs[1]]))
        numbers["best minus worst"] = (ranked[:, -1] - ranked[:, 0]).mean()
        numbers["agreement of a judge with the truth"] = agreement.mean()
        numbers["seconds per picture"] = self.seconds_per_picture
        return {name: round(float(value), 4) for name, value in numbers.items()}


def measure(
    pipeline: Pipeline,
    *,
    count: int = 100,
    each: int = 4,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> Measured:
    """Draw `each` pictures for `count` held-out prompts and find their rewards."""
    chosen = prompts("held-out", count, seed)
    texts = [text for text in chosen for _ in range(each)]
    started = time.monotonic()
    pictures = draw(pipeline, texts, seed=seed, steps=steps, guidance=guidance)
    seconds = (time.monotonic() - started) / len(texts)
    found = [parts(picture, text) for picture, text in zip(pictures, texts, strict=True)]
    worth = np.array([weigh(one, MAJORITY) for one in found]).reshape(count, each)
    return Measured(
        prompts=tuple(chosen),
        pictures=pictures.reshape(count, each, *pictures.shape[1:]),
        parts={
            name: np.array([one[name] for one in found]).reshape(count, each) for name in found[0]
        },
        rewards=worth,
        seconds_per_picture=seconds,
    )


def save_grid(measured: Measured, path: Path, *, rows: int = 12, enlarge: int = 1) -> None:
    """Write the first prompts' pictures as a PNG, one prompt a row, two prompts side by side."""
    half = [np.concatenate(list(row), axis=1) for row in measured.pictures[: 2 * rows]]
    lines = [np.concatenate(half[at : at + 2], axis=1) for at in range(0, len(half) - 1, 2)]
    picture = Image.fromarray(np.concatenate(lines))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * enlarge, picture.height * enlarge)).save(path, optimize=True)
