"""Opening a run: split the pairs, fill the cache, set broken pairs aside, check the start.

Read next: `session.py`, what is open afterwards.
"""

from collections.abc import Callable
from pathlib import Path

from palate.backbones.backbone import Backbone
from palate.core.problems import DataError, HealthStop, require
from palate.core.streams import Streams
from palate.data.loader import Order
from palate.data.pairs import PreferencePairs
from palate.train.batch import Batches
from palate.train.cache import Cache
from palate.train.facts import collect_facts
from palate.train.feed import PairFeed
from palate.train.guard import FEWEST, Guard
from palate.train.health import Monitor, ask_of
from palate.train.inverted import open_inverted
from palate.train.log import Event
from palate.train.noise import Fresh
from palate.train.place import Place
from palate.train.run import Run
from palate.train.session import Session, Tell
from palate.train.step import Learner, Source


def open_noised(
    run: Run, backbone: Backbone, _cache: Cache, _folder: Path, _pairs: int, _tell: Tell
) -> Source:
    """The source of a run that noises its pictures anew at each visit."""
    return Fresh(streams=Streams(run.seed), path=backbone.path, settings=run.noise)


# By the evidence of a run: how its source is opened, from its settings, the model, the caches and
# their folder, and the number of its training pairs.
SOURCES: dict[str, Callable[[Run, Backbone, Cache, Path, int, Tell], Source]] = {
    "noised": open_noised,
    "inverted": open_inverted,
}


def check_pairs(run: Run, pairs: PreferencePairs) -> None:
    """Refuse data that cannot teach or cannot be checked, before any weight is loaded.

    Raises:
        DataError: with the cause: no winner anywhere, or nothing to hold out.
    """
    ties = pairs.summary()["ties_left_out"]
    require(
        len(pairs) > 0,
        got=f"{ties} comparisons, all ties" if ties else f"{run.data} without a judged pair",
        need="comparisons in which one picture won",
        fix="A tie prefers nothing. Freeze a snapshot with judged pairs; "
        "`palate data show` counts them.",
        kind=DataError,
    )
    _, held_out = pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    other = "judge" if run.split.by == "prompt" else "prompt"
    require(
        len(held_out) > 0,
        got=f"{len(pairs)} pairs, all with the same {run.split.by}",
        need=f"at least two {run.split.by}s: one is held out for the health checks",
        fix=f"Add pairs with other {run.split.by}s, or use split.by={other}.",
        kind=DataError,
    )


def open_session(
    run: Run,
    place: Place,
    backbone: Backbone,
    pairs: PreferencePairs | None,
    cache: Cache,
    tell: Tell,
) -> Session:
    """Split the pairs, fill the cache, set broken pairs aside, and put everything together.

    Raises:
        DataError: when no pair is left on one side of the split.
        HealthStop: when too many latents or embeddings are broken.
    """
    if pairs is None:
        raise NotImplementedError("a rollout opens without pairs")
    train, held_out = pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    cache.fill(
        backbone,
        pairs,
        run.pictures,
        pairs.image,
        lambda text: tell(Event(kind="cache", text=text)),
        lambda text: tell(Event(kind="warning", text=text)),
    )
    # The picture side of the model has done its work.
    backbone.release("vae", "text_encoder")
    guard = Guard(place.out, run.health.nan_budget)
    refused = {p.id: why for p in pairs if (why := cache.refusal(p, run.pictures)) is not None}
    guard.set_aside(0, refused)
    require(
        len(refused) < FEWEST or len(refused) <= run.health.nan_budget * len(pairs),
        got=f"{len(refused)} of {len(pairs)} pairs with broken latents or embeddings",
        need=f"at most {100 * run.health.nan_budget:g} %",
        fix="Is the autoencoder sound, and in fp32? quarantine.jsonl in the run folder has names.",
        kind=HealthStop,
    )
    streams = Streams(run.seed)
    source = SOURCES[run.evidence](run, backbone, cache, place.cache, len(train), tell)
    learner = Learner(backbone, run.build_objective(), source, run.plan)
    batches = Batches(
        cache=cache,
        pictures=run.pictures,
        streams=streams,
        caption_dropout=run.plan.caption_dropout,
        facts=collect_facts(run, pairs),
    )
    checked = [pair for pair in held_out if pair.id not in guard.quarantine]
    return Session(
        run=run,
        place=place,
        learner=learner,
        monitor=Monitor(run, learner, ask_of(run, batches, checked)),
        guard=guard,
        feed=PairFeed(
            pairs=train,
            order=Order(len(train), run.plan.batch, run.seed),
            batches=batches,
            guard=guard,
        ),
        tell=tell,
        facts={
            "model": {"name": run.model, "digests": dict(backbone.digests)},
            "data": {
                "digest": pairs.digest,
                "pairs": len(pairs),
                "train": len(train),
                "held_out": len(held_out),
                "summary": pairs.summary(),
            },
            "cache": {"folder": str(place.cache), **cache.facts()},
            "device": str(backbone.device),
        },
    )
