"""How often a step-aware scorer is right, by how noisy what it sees still is.

Both pictures of a held-out pair get the same noise at the same level, the scorer is shown what it
reads of them, and is right when the preferred picture scores higher (a tie is half right). Levels
are counted in bands: step-aware scorers are known to be unreliable near pure noise, and which of
a method's steps may be trained depends on it.

Read next: `step_scorer.py`, which teaches the scorers that are measured here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.guidance import guided
from palate.core.problems import DataError, require
from palate.core.stats import Estimate, cluster_share, outcomes
from palate.data.pairs import Pair
from palate.scorers.stepwise import Latents, Pictures, Reads, StepScorer
from palate.train.batch import Batch, Batches

BANDS = 5
FINISHED = "finished"
Progress = Callable[[int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Showing:
    """What scorers are shown of a pair part of the way through denoising.

    Attributes:
        backbone: The model whose reference predicts, and whose noise path it is.
        batches: Makes latents and embeddings of pairs.
        empty: What the empty prompt says, one row.
        guidance: Strength of guidance of the predicted picture; SPO uses 5.
    """

    backbone: Backbone
    batches: Batches
    empty: Condition
    guidance: float

    def noise(self, purpose: str, pair: Pair, *keys: int) -> Float[Tensor, " c h w"]:
        """The noise that both pictures of a pair get."""
        side = self.batches.cache.side
        shape = self.backbone.latent_shape(side, side)
        return self.batches.streams(f"{purpose} noise", *keys, pair.id).normal(shape)

    @torch.no_grad()
    def show(
        self,
        reads: Reads,
        batch: Batch,
        level: Int[Tensor, " b"],
        noise: Float[Tensor, " b c h w"] | None,
    ) -> Pictures | Latents:
        """All chosen ones, then all rejected ones, as a scorer that `reads` them wants them.

        Without noise the finished latents or pictures are shown.
        """
        device = self.backbone.device
        clean = torch.cat([batch.chosen, batch.rejected]).to(device)
        twice = torch.cat([level, level]).to(device)
        path = self.backbone.path
        noisy = clean
        if noise is not None:
            noisy = path.noisy(clean, torch.cat([noise, noise]).to(device), twice)

        def predicted() -> Tensor:
            condition = Condition.concatenate(batch.conditions).to(device)
            with self.backbone.as_reference():
                answer = guided(
                    self.backbone, noisy, twice, condition, self.empty.to(device), self.guidance
                )
            return path.to_clean_and_noise(answer, noisy, twice)[0]

        def decoded() -> Pictures:
            finished = noisy if noise is None else predicted()
            return list(self.backbone.decode(finished).cpu().numpy())

        table: Mapping[Reads, Callable[[], Pictures | Latents]] = {
            "latents": lambda: noisy,
            "pictures": decoded,
        }
        return table[reads]()


def bands(levels: int) -> dict[str, tuple[int, int]]:
    """Fifths of the noise levels, from clean to noisy: name → first level, level after the last."""
    ends = [round(levels * part / BANDS) for part in range(BANDS + 1)]
    return {f"{a}-{b - 1}": (a, b) for a, b in pairwise(ends)}


def step_accuracy(
    scorer: StepScorer,
    showing: Showing,
    pairs: Sequence[Pair],
    *,
    batch: int = 32,
    progress: Progress | None = None,
) -> dict[str, Estimate]:
    """The share of pairs a scorer puts in the judges' order, finished and by band of noise.

    Every pair is asked about once in every band, at a level and with a noise of its own. Prompts
    are the independent units of the intervals (Wilson's, see `core.stats`).

    Raises:
        DataError: when no pair has a preferred picture.
    """
    judged = [pair for pair in pairs if pair.agreement > 0.5]
    require(
        bool(judged),
        got=f"{len(pairs)} pairs, none with a preferred picture",
        need="pairs in which one picture won",
        fix="A tie cannot be told right from wrong; use other pairs.",
        kind=DataError,
    )
    prompts = [pair.prompt for pair in judged]
    parts = {FINISHED: (0, 0), **bands(showing.backbone.path.levels)}
    found: dict[str, Estimate] = {}
    for place, (name, (low, high)) in enumerate(parts.items()):
        right: list[np.ndarray] = []
        for chunk in _chunks(judged, batch):
            right.append(_right(scorer, showing, chunk, low, high))
            if progress is not None:
                done = place * len(judged) + sum(map(len, right))
                progress(done, len(parts) * len(judged))
        found[name] = cluster_share(np.concatenate(right), prompts)
    return found


def _right(
    scorer: StepScorer, showing: Showing, pairs: Sequence[Pair], low: int, high: int
) -> np.ndarray:
    """1 where the preferred picture scores higher, ½ where both score alike, [b]."""
    streams = showing.batches.streams
    level = [
        streams("accuracy level", low, pair.id).integer(low, high) if high else 0 for pair in pairs
    ]
    noise = torch.stack([showing.noise("accuracy", pair, low) for pair in pairs]) if high else None
    seen = showing.show(scorer.reads, showing.batches.plain(pairs), torch.tensor(level), noise)
    scores = scorer.score_steps(seen, [pair.prompt for pair in pairs] * 2, level * 2)
    return outcomes(scores[: len(pairs)], scores[len(pairs) :])


def _chunks(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))
