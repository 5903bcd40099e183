"""Opening a run: split the pairs, fill the cache, set broken pairs aside, check the start.

Read next: `session.py`, what is open afterwards.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from palate.backbones.backbone import Backbone
from palate.core.problems import DataError, HealthStop, require
from palate.core.streams import Streams
from palate.data.loader import Order
from palate.data.pairs import Pair, PreferencePairs
from palate.train.batch import Batches
from palate.train.book import Book
from palate.train.cache import Cache
from palate.train.drawn import ask_reference, open_retraced, open_studio
from palate.train.duel import open_duel
from palate.train.facts import label_pairs
from palate.train.feed import PairFeed
from palate.train.guard import FEWEST, Guard
from palate.train.health import Monitor, ask_of
from palate.train.inverted import open_inverted
from palate.train.labels import Scores, own_labels
from palate.train.log import Event
from palate.train.noise import Fresh
from palate.train.place import Place
from palate.train.run import Run
from palate.train.session import Session, Tell
from palate.train.step import Learner, Source


def open_fresh(run: Run, backbone: Backbone, _cache: Cache) -> Fresh:
    """The source of a run that noises its pictures anew at each visit."""
    return Fresh(streams=Streams(run.seed), path=backbone.path, settings=run.noise)


# By the opponent of a round of self-play; everything else noises whatever pictures it has.
OPPONENTS: dict[str, Callable[[Run, Backbone, Cache], Source]] = {
    "renoised": open_fresh,
    "trajectory": open_duel,
}


def open_noised(
    run: Run, backbone: Backbone, cache: Cache, _folder: Path, _pairs: int, _tell: Tell
) -> Source:
    """The source of a run that noises pictures."""
    opponent = "renoised" if run.selfplay is None else run.selfplay.opponent
    return OPPONENTS[opponent](run, backbone, cache)


def open_steps(
    run: Run, backbone: Backbone, cache: Cache, _folder: Path, _pairs: int, _tell: Tell
) -> Source:
    """The source of a run whose policy draws."""
    return open_retraced(run, backbone, cache)


# By the evidence of a run: how its source is opened, from its settings, the model, the caches and
# their folder, and the number of its training pairs.
SOURCES: dict[str, Callable[[Run, Backbone, Cache, Path, int, Tell], Source]] = {
    "noised": open_noised,
    "inverted": open_inverted,
    "steps": open_steps,
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
    _, others = pairs.split(by=other, held_out=run.split.held_out, seed=run.seed)
    require(
        len(held_out) > 0,
        got=f"{len(pairs)} pairs, all with the same {run.split.by}",
        need=f"at least two {run.split.by}s: one is held out for the health checks",
        fix=f"Add pairs with other {run.split.by}s"
        + (f", or use split.by={other}." if len(others) else f"; they all have one {other} too."),
        kind=DataError,
    )


def open_session(
    run: Run,
    place: Place,
    backbone: Backbone,
    pairs: PreferencePairs | None,
    cache: Cache,
    tell: Tell,
    book: Book | None = None,
) -> Session:
    """Split the pairs, fill the cache, set broken pairs aside, and put everything together.

    Args:
        run: The settings.
        place: The run's folder.
        backbone: The model.
        pairs: The pairs; None where the policy draws all there is.
        cache: Latents and embeddings.
        tell: Hears events.
        book: Whose embedding each pair is learned with; None for a run without people.

    Raises:
        DataError: when no pair is left on one side of the split.
        HealthStop: when too many latents or embeddings are broken.
    """
    if pairs is None:
        return open_drawn(run, place, backbone, cache, tell)
    scores = Scores(
        folder=place.cache,
        device=str(backbone.device),
        tell=lambda text: tell(Event(kind="cache", text=text)),
    )
    known = label_pairs(run, pairs, scores)
    pairs = known.pairs
    check_pairs(run, pairs)
    train, held_out = pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    used: Sequence[Pair] = tuple(pairs)
    if book is not None:
        train, held_out = book.trained(train), book.asked(held_out)
        said = book.sentence(train, held_out)
        tell(Event(kind="open", text=f"For everybody's own taste: {said}"))
        for note in book.notes:
            tell(Event(kind="warning", text=note))
        used = (*train, *held_out)
    cache.fill(
        backbone,
        used,
        run.pictures,
        pairs.image,
        lambda text: tell(Event(kind="cache", text=text)),
        lambda text: tell(Event(kind="warning", text=text)),
    )
    studio = None
    if run.rollout is not None:
        studio = open_studio(run, run.rollout, backbone, cache, tell)
        studio.release()
    else:
        # The picture side of the model has done its work.
        backbone.release("vae", "text_encoder")
    guard = Guard(place.out, run.health.nan_budget)
    refused = {p.id: why for p in used if (why := cache.refusal(p, run.pictures)) is not None}
    guard.set_aside(0, refused)
    require(
        len(refused) < FEWEST or len(refused) <= run.health.nan_budget * len(used),
        got=f"{len(refused)} of {len(used)} pairs with broken latents or embeddings",
        need=f"at most {100 * run.health.nan_budget:g} %",
        fix="Is the autoencoder sound, and in fp32? quarantine.jsonl in the run folder has names.",
        kind=HealthStop,
    )
    streams = Streams(run.seed)
    source = SOURCES[run.evidence](run, backbone, cache, place.cache, len(train), tell)
    own = own_labels(run, streams, backbone.path)
    learner = Learner(backbone, run.build_objective(), source, run.plan, own)
    batches = Batches(
        cache=cache,
        pictures=run.pictures,
        streams=streams,
        caption_dropout=run.plan.caption_dropout,
        book=book,
        facts=known.facts,
    )
    feed = PairFeed(
        pairs=train,
        order=Order(len(train), run.plan.batch, run.seed)
        if book is None
        else book.order(train, run.plan.batch),
        batches=batches,
        guard=guard,
    )
    checked = [pair for pair in held_out if pair.id not in guard.quarantine]
    return Session(
        run=run,
        place=place,
        learner=learner,
        monitor=Monitor(run, learner, ask_of(run, batches, checked)),
        guard=guard,
        feed=feed if studio is None else studio.feed(run),
        tell=tell,
        book=book,
        facts={
            "model": {"name": run.model, "digests": dict(backbone.digests)},
            "data": {
                "digest": pairs.digest,
                **({"facts": known.digest} if known.facts else {}),
                "pairs": len(pairs),
                "train": len(train),
                "held_out": len(held_out),
                "summary": pairs.summary(),
            },
            **({} if studio is None else {"rollout": studio.facts(run)}),
            **({} if book is None else {"personal": book.facts(train, held_out)}),
            "labels": dict(known.about),
            "cache": {"folder": str(place.cache), **cache.facts()},
            "device": str(backbone.device),
        },
    )


def open_drawn(run: Run, place: Place, backbone: Backbone, cache: Cache, tell: Tell) -> Session:
    """A run without pairs: prompts, a scorer, and what the policy draws.

    Raises:
        DataError: when no prompt can be used, or the scorer tells nothing apart.
        SettingError, WeightsError: when the scorer cannot be opened.
    """
    assert run.rollout is not None  # a run without data and rollout is refused
    studio = open_studio(run, run.rollout, backbone, cache, tell)
    asked = ask_reference(run, studio, tell)
    studio.release()
    source = SOURCES[run.evidence](run, backbone, cache, place.cache, 0, tell)
    learner = Learner(backbone, run.build_objective(), source, run.plan)
    facts = studio.facts(run)
    return Session(
        run=run,
        place=place,
        learner=learner,
        monitor=Monitor(run, learner, asked),
        guard=Guard(place.out, run.health.nan_budget),
        feed=studio.feed(run),
        tell=tell,
        facts={
            "model": {"name": run.model, "digests": dict(backbone.digests)},
            "data": {
                "digest": facts["digest"],
                "prompts": len(studio.train),
                "held_out": len(asked.prompts),
            },
            "rollout": facts,
            "cache": {"folder": str(place.cache), **cache.facts()},
            "device": str(backbone.device),
        },
    )
