"""Where a step-aware scorer learns and is measured: pairs, split by prompt, and the model.

Read next: `step_scorer.py`, what happens there; `step_accuracy.py`, the measurement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from palate.backbones import load
from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.pairs import PreferencePairs
from palate.recipes.step_accuracy import Showing
from palate.train.batch import Batches
from palate.train.cache import Cache
from palate.train.groups import Pictures, Plan

Tell = Callable[[str], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """How a scorer is taught.

    Attributes:
        steps: Optimizer steps. SPO takes 8000 (SDXL: 7000), LPO 4000.
        batch: Pairs a step. SPO takes 64, LPO 128, over all devices.
        learning_rate: Peak step size. SPO takes 3e-6 (SDXL: 1e-6), LPO 1e-5; weights that start
            from chance need about 5e-4.
        warmup_steps: Steps of linear warm-up, SPO's 500; then it falls as a cosine (ours).
        weight_decay: AdamW's; SPO takes 0.3.
        guidance: Of the predicted picture; SPO takes 5.
        held_out: Share of prompts that the accuracy is measured on.
        seed: Decides split, order, levels, noise and first weights.
    """

    steps: int = 4000
    batch: int = 16
    learning_rate: float = 1e-5
    warmup_steps: int = 0
    weight_decay: float = 0.3
    guidance: float = 5.0
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            0 < self.held_out < 1,
            got=f"held_out={self.held_out}",
            need="a share above 0 and below 1",
            fix="0.1 measures the scorer on a tenth of the prompts.",
        )
        require(
            self.guidance >= 1,
            got=f"guidance {self.guidance}",
            need="1 (without) or more",
            fix="Use 5, or what the pictures are drawn with.",
        )

    @property
    def plan(self) -> Plan:
        """The same as a trainer's plan, which checks the numbers.

        Raises:
            SettingError: when one of them makes no sense.
        """
        return Plan(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            schedule="cosine",
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Studio:
    """Pairs, split and ready to be shown.

    Attributes:
        showing: Shows them.
        pairs: All of them.
        train: To learn from, ties included.
        held_out: Of other prompts, to measure with.
    """

    showing: Showing
    pairs: PreferencePairs
    train: PreferencePairs
    held_out: PreferencePairs

    def facts(self) -> dict[str, Any]:
        """What was learned from, for the record."""
        return {
            "digest": self.pairs.digest,
            "train": len(self.train),
            "held_out": len(self.held_out),
        }


def open_studio(
    data: Path | str,
    model: str,
    lesson: Lesson,
    *,
    device: str = "cpu",
    cache: Path,
    tell: Tell | None = None,
) -> Studio:
    """Open pairs and model, split the pairs by prompt, and compute latents and embeddings once.

    Pairs whose latents or embeddings are broken are left out, and counted aloud.

    Raises:
        DataError: when there is nothing to learn from, or nothing to measure with.
    """
    tell = tell or _silence
    pairs = PreferencePairs.open(data, ties="half")
    backbone = load(model, device=device)
    pictures = Pictures()
    rows = Cache(cache, backbone, backbone.resolution)
    rows.fill(backbone, pairs, pictures, pairs.image, tell)
    sound = pairs.filter(lambda pair: rows.refusal(pair, pictures) is None)
    if len(sound) < len(pairs):
        tell(f"{len(pairs) - len(sound)} pairs left out: broken latents or embeddings")
    train, held_out = sound.split(by="prompt", held_out=lesson.held_out, seed=lesson.seed)
    judged = sum(pair.agreement > 0.5 for pair in held_out)
    require(
        len(train) > 0 and judged > 0,
        got=f"{len(train)} pairs to learn from and {judged} held out with a preferred picture",
        need="at least one of each",
        fix="Add pairs of other prompts, or hold out another share.",
        kind=DataError,
    )
    showing = Showing(
        backbone=backbone,
        batches=Batches(cache=rows, pictures=pictures, streams=Streams(lesson.seed)),
        empty=backbone.embed([""]),
        guidance=lesson.guidance,
    )
    return Studio(showing=showing, pairs=pairs, train=train, held_out=held_out)


def _silence(text: str) -> None:
    """Tell nobody."""
