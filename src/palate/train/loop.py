"""The story of a training, top to bottom.

Claim the folder, open the model and the pairs, go back to where the last attempt stopped, and
then, step by step: learn, look after the health, save. At the end, write what diffusers loads.

Read next: `denoise.py`, where a batch becomes evidence.
"""

from collections.abc import Callable
from pathlib import Path

from palate.backbones import load
from palate.backbones.backbone import Backbone
from palate.core.problems import HealthStop
from palate.data.pairs import PreferencePairs
from palate.train.book import Book
from palate.train.cache import Cache
from palate.train.changes import settled
from palate.train.device import choose_device
from palate.train.drawn import check_rollout
from palate.train.ending import Result, finish, leave
from palate.train.examples import open_book
from palate.train.export import begin_record
from palate.train.labels import open_pairs
from palate.train.log import Event
from palate.train.opening import check_pairs, open_session
from palate.train.place import Place, as_event, claim
from palate.train.run import Run
from palate.train.selfplay import play
from palate.train.session import Session, Tell
from palate.train.signals import Interrupted, Signals
from palate.train.users import check_encoder

__all__ = ["Interrupted", "Result", "train"]


def train(
    run: Run,
    out: Path,
    *,
    resume: bool = False,
    on_event: Callable[[Event], None] | None = None,
    cache: Path | None = None,
) -> Result:
    """Learn from pairs until the plan is done, resuming where the last attempt stopped.

    Args:
        run: Everything that decides the result.
        out: The run's folder.
        resume: Go on with a run that is already there.
        on_event: Hears what happens; training itself never prints.
        cache: Where latents and embeddings are kept; as before, or beside the run, if not given.

    Raises:
        SettingError, DataError, WeightsError: before anything was trained.
        StateError: when the folder is taken, held by another process, or does not match.
        HealthStop: when a guard stopped the run; the last checkpoint is whole.
        Interrupted: after SIGTERM or SIGINT; the run can be resumed.
    """
    tell, run = on_event or _nobody, settled(run)
    if run.plays:
        return play(run, out, resume=resume, tell=tell, cache=cache, train=train)
    device = choose_device(run)
    pairs = None if run.data is None else open_pairs(run)
    if pairs is not None:
        check_pairs(run, pairs)
    if run.rollout is not None:
        check_rollout(run, run.rollout)
    if run.personal is not None:
        check_encoder(run.personal.users)
    with claim(run, out, resume=resume, cache=cache) as place:
        # Before the model: whoever makes embeddings may be as large, and is let go again.
        book = open_book(
            run, pairs, place.cache, device=device,
            tell=lambda text: tell(Event(kind="cache", text=text)),
        )  # fmt: skip
        backbone = load(
            run.model,
            adapter=run.build_adapter(),
            train=True,
            device=device,
            precision=run.plan.precision,
            gradient_checkpointing=run.plan.gradient_checkpointing,
            personal=None if book is None else book.personal,
        )
        return learn(run, place, backbone, pairs, tell, book)


def learn(
    run: Run,
    place: Place,
    backbone: Backbone,
    pairs: PreferencePairs | None,
    tell: Tell,
    book: Book | None = None,
) -> Result:
    """Train an open model on open pairs, or on what it draws itself; see `train`."""
    what = "no pairs" if pairs is None else f"{len(pairs)} pairs"
    tell(Event(kind="open", text=f"{what}, {run.model} on {backbone.device}."))
    if (changed := as_event(place)) is not None:
        tell(changed)
    kept = Cache(place.cache, backbone, run.pictures.resolution or backbone.resolution)
    session = open_session(run, place, backbone, pairs, kept, tell, book)
    done = 0
    try:
        done = session.restore()
        if done == 0:
            session.begin()
        begin_record(place, run, session.facts, done)
        done = walk(session, done)
        return finish(session, done)
    except HealthStop as stop:
        leave(session, "stopped", str(stop))
        raise
    except Interrupted as stop:
        leave(session, "interrupted", str(stop))
        raise
    finally:
        session.close()


def walk(session: Session, done: int) -> int:
    """Every step from here to the end of the plan; returns the steps done.

    Raises:
        HealthStop: when a guard stops the run.
        Interrupted: when a signal asked for it; everything is saved.
    """
    plan = session.run.plan

    def noticed(name: str) -> None:
        session.say("warning", f"{name}: finishing this step and saving. Again to leave at once.")

    with Signals(noticed) as signals:
        if done == 0:
            session.check(0)
        left = f"Training from step {done + 1} to {plan.steps}."
        session.say("start", left if done < plan.steps else "Every step is done already.", done)
        while done < plan.steps:
            session.learn(done)
            done += 1
            last = done == plan.steps
            if last or done % plan.health_every == 0:
                session.check(done)
            if last or done % plan.save_every == 0 or signals.asked:
                session.save(done)
            if signals.asked and not last:
                raise Interrupted(
                    got=f"{signals.asked} during step {done}",
                    need="nothing: the step was finished and saved",
                    fix=f"Go on with: palate resume {session.place.out}",
                )
    return done


def _nobody(_event: Event) -> None:
    """Nobody listens."""
