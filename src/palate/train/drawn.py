"""Opening a rollout: prompts and a scorer where other runs have pairs.

Without pairs, the health checks ask about pictures the reference draws for held-out prompts: two
for each, of which the scorer says which is better.

Read next: `rollout.py`, the batches; `health.py`, what the checks ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.sample import Sampler, sample, starting_noise, usual
from palate.backbones.steps import Grid
from palate.core.files import digest_json
from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.loader import Order
from palate.scorers import StepScorer
from palate.train.batch import Batch
from palate.train.cache import Cache, prompt_name
from palate.train.health import Asked
from palate.train.log import Event
from palate.train.pen import Judge, Pen
from palate.train.prompts import apart
from palate.train.rollout import RolloutFeed
from palate.train.run import Run
from palate.train.scoring import check_step_scorer, open_step_scorer
from palate.train.session import Tell
from palate.train.sources import RolloutSettings
from palate.train.taken import Retraced

# How the reference draws for the health checks.
_EVALUATIONS, _AT_ONCE = 10, 16


def check_rollout(run: Run, rollout: RolloutSettings) -> None:
    """Refuse prompts and scorers that cannot be used, before any weight is loaded.

    Raises:
        DataError, SettingError: as reading the prompts and naming the scorer do, and for a
            setting that a rollout would not see.
    """
    require(
        run.plan.caption_dropout == 0,
        got=f"plan.caption_dropout={run.plan.caption_dropout} with a rollout",
        need="0: guided steps ask about the empty prompt anyway",
        fix="Use plan.caption_dropout=0.",
    )
    apart(rollout.prompts, run.health.pairs)
    check_step_scorer(rollout.scorer)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Studio:
    """Everything a rollout holds open.

    Attributes:
        train: Prompts to draw for.
        held_out: Prompts of the health checks, where there are no pairs for them.
        pen: Draws.
        judge: Scores what is drawn.
        cache: Has the prompts' embeddings.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    pen: Pen
    judge: Judge
    cache: Cache

    def feed(self, run: Run) -> RolloutFeed:
        """The batches."""
        return RolloutFeed(
            prompts=self.train,
            told=self.told,
            order=Order(len(self.train), run.plan.batch, run.seed),
            pen=self.pen,
            judge=self.judge,
        )

    def told(self, prompts: Sequence[str]) -> Condition:
        """What the network knows of some prompts."""
        return _told(self.cache, prompts)

    def release(self) -> None:
        """Let go of the parts of the model that nothing asks any more."""
        decoder = () if self.judge.looks_ahead else ("vae",)
        self.pen.backbone.release("text_encoder", *decoder)

    def facts(self, run: Run) -> dict[str, Any]:
        """What the record says of it."""
        settings, scorer = self.pen.settings, self.judge.scorer
        prompts = digest_json([list(self.train), list(self.held_out)])
        trained = settings.steps - settings.skip_first - settings.skip_last
        many = {"final": settings.candidates, "steps": settings.candidates * trained}
        return {
            "digest": digest_json([prompts, scorer.identity]),
            "scorer": {"name": scorer.name, "identity": scorer.identity, "reads": scorer.reads},
            "prompts": {"digest": prompts, "train": len(self.train)},
            "judged_per_step": run.plan.batch * many[settings.labels],
        }


def open_studio(
    run: Run, rollout: RolloutSettings, backbone: Backbone, cache: Cache, tell: Tell
) -> Studio:
    """Read the prompts, embed them, and open the scorer.

    Raises:
        DataError: when no prompt can be used.
        SettingError, WeightsError: when the scorer cannot be.
    """
    train, held_out = apart(rollout.prompts, run.health.pairs)
    cache.fill_prompts(
        backbone,
        [*train, *held_out],
        lambda text: tell(Event(kind="cache", text=text)),
        lambda text: tell(Event(kind="warning", text=text)),
    )
    sound = [[text for text in side if _sound(cache, text)] for side in (train, held_out)]
    require(
        all(sound) and _sound(cache, ""),
        got=f"{len(train) - len(sound[0])} of {len(train)} prompts with broken embeddings",
        need="prompts on both sides, and the empty one, that the text encoder can read",
        fix="Is the text encoder sound?",
        kind=DataError,
    )
    side = run.pictures.resolution or backbone.resolution
    pen = Pen(
        backbone=backbone,
        settings=rollout,
        grid=Grid.leading(backbone.path.levels, rollout.steps),
        empty=_told(cache, [""]),
        shape=backbone.latent_shape(side, side),
        streams=Streams(run.seed),
    )
    scorer = open_step_scorer(rollout.scorer, device=str(backbone.device))
    return Studio(
        train=tuple(sound[0]),
        held_out=tuple(sound[1]),
        pen=pen,
        judge=Judge(scorer=scorer, pen=pen),
        cache=cache,
    )


def open_retraced(run: Run, backbone: Backbone, cache: Cache) -> Retraced:
    """The source of a rollout's run."""
    assert run.rollout is not None  # it is what makes the evidence steps
    return Retraced(path=backbone.path, empty=_told(cache, [""]), settings=run.rollout)


@torch.no_grad()
def ask_reference(run: Run, studio: Studio, tell: Tell) -> Asked:
    """Two pictures of the reference for each held-out prompt, the better one chosen.

    Drawn anew at every opening, to the same bits; prompts whose pictures score alike are left out.

    Raises:
        DataError: when the scorer tells no two of them apart.
    """
    backbone = studio.pen.backbone
    side = run.pictures.resolution or backbone.resolution
    prompts = studio.held_out
    tell(Event(kind="open", text=f"Drawing {2 * len(prompts)} pictures for the health checks."))
    shown = [text for text in prompts for _ in range(2)]
    names = [("health", text, i % 2) for i, text in enumerate(shown)]
    sampler = Sampler(
        steps=_EVALUATIONS,
        guidance=studio.pen.settings.guidance,
        scheduler=usual(backbone.scheduler_config),
    )
    noise = starting_noise(backbone, names, run.seed, (side, side))
    at_once = studio.pen.settings.at_once or _AT_ONCE
    with backbone.as_reference():
        drawn = sample(backbone, shown, noise, sampler, at_once)
    encoded = [backbone.encode(part)[0].cpu() for part in drawn.split(at_once)]
    latents = torch.cat(encoded)
    scores = _scores(studio.judge.scorer, drawn, latents, shown)
    apart = np.flatnonzero(np.isfinite(scores).all(1) & (np.ptp(scores, axis=1) > 0))
    require(
        len(apart) > 0,
        got=f"{len(prompts)} held-out prompts whose two pictures score alike",
        need="at least one pair that the scorer tells apart, to check the run's health",
        fix="Raise health.pairs, add prompts, or ask another rollout.scorer.",
        kind=DataError,
    )
    better = torch.from_numpy(2 * apart + scores[apart].argmax(1))
    worse = torch.from_numpy(2 * apart + scores[apart].argmin(1))
    texts = tuple(prompts[i] for i in apart)
    told = studio.told(texts)
    batch = Batch(
        ids=tuple(f"health {text}" for text in texts),
        visits=(0,) * len(texts),
        chosen=latents[better],
        rejected=latents[worse],
        conditions=(told, told),
        agreement=torch.ones(len(texts)),
    )
    return Asked(batch=batch, prompts=texts)


def _scores(
    scorer: StepScorer, drawn: torch.Tensor, latents: torch.Tensor, prompts: Sequence[str]
) -> np.ndarray:
    """Scores of finished pictures, two for each prompt, [prompts, 2]."""
    seen = {"pictures": [picture.numpy() for picture in drawn], "latents": latents}
    return scorer.score_steps(seen[scorer.reads], prompts, [0] * len(prompts)).reshape(-1, 2)


def _told(cache: Cache, prompts: Sequence[str]) -> Condition:
    return Condition(cache.prompts.rows([prompt_name(text) for text in prompts]))


def _sound(cache: Cache, text: str) -> bool:
    return prompt_name(text) not in cache.prompts.refused
