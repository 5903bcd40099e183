"""The story of a training, top to bottom.

Claim the folder, open the model and the pairs, go back to where the last attempt stopped, and
then, step by step: learn, look after the health, save. At the end, write what diffusers loads.

Read next: `denoise.py`, where a batch becomes evidence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from palate.backbones import load
from palate.backbones.backbone import Backbone
from palate.core.problems import HealthStop, require
from palate.data.pairs import PreferencePairs
from palate.train.cache import Cache
from palate.train.export import export, write_record
from palate.train.log import Event, read_rows
from palate.train.place import HEALTH, LOG, Place, as_event, claim
from palate.train.run import Run
from palate.train.session import Session, Tell, open_session
from palate.train.signals import Interrupted, Signals

__all__ = ["Interrupted", "Result", "train"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came out of a run.

    Attributes:
        run: Its settings.
        out: Its folder.
        steps: Steps done.
        seconds: Time spent, earlier attempts included.
        history: The log, one row a step.
        health: The health checks.
        status: `healthy`, `watch` or `stopped`.
        sentence: What the last check said.
        export: The folder that diffusers loads.
    """

    run: Run
    out: Path
    steps: int
    seconds: float
    history: tuple[Mapping[str, Any], ...]
    health: tuple[Mapping[str, Any], ...]
    status: str
    sentence: str
    export: Path


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
        cache: Where latents and embeddings are kept; beside the run if not given.

    Raises:
        SettingError, DataError, WeightsError: before anything was trained.
        StateError: when the folder is taken, held by another process, or does not match.
        HealthStop: when a guard stopped the run; the last checkpoint is whole.
        Interrupted: after SIGTERM or SIGINT; the run can be resumed.
    """
    tell = on_event or _nobody
    device = choose_device(run)
    pairs = PreferencePairs.open(Path(run.data))
    with claim(run, out, resume=resume) as place:
        backbone = load(
            run.model,
            adapter=run.build_adapter(),
            train=True,
            device=device,
            precision=run.plan.precision,
            gradient_checkpointing=run.plan.gradient_checkpointing,
        )
        return learn(run, place, backbone, pairs, cache or out.parent / "cache", tell)


def learn(
    run: Run, place: Place, backbone: Backbone, pairs: PreferencePairs, cache: Path, tell: Tell
) -> Result:
    """Train an open model on open pairs; see `train`."""
    tell(Event(kind="open", text=f"{len(pairs)} pairs, {run.model} on {backbone.device}."))
    if (changed := as_event(place)) is not None:
        tell(changed)
    kept = Cache(cache, backbone, run.pictures.resolution or backbone.resolution)
    session = open_session(run, place, backbone, pairs, kept, tell)
    done = 0
    try:
        done = session.restore()
        if done == 0:
            session.begin()
        write_record(place.out, run, {**session.facts, "status": "running", "steps": done})
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
        session.say("start", f"Training from step {done + 1} to {plan.steps}.", done)
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


def finish(session: Session, done: int) -> Result:
    """Write the record and the model, and say how it went."""
    out, check = session.place.out, session.monitor.rows[-1]
    facts = {**ending(session), "status": "finished", "steps": done}
    record = write_record(out, session.run, facts)
    folder = export(out, session.learner.backbone, record)
    session.say("done", f"Done after {done} steps. {check['sentence']}", done)
    return Result(
        run=session.run,
        out=out,
        steps=done,
        seconds=session.elapsed(),
        history=tuple(read_rows(out / LOG)),
        health=tuple(read_rows(out / HEALTH)),
        status=check["status"],
        sentence=check["sentence"],
        export=folder,
    )


def leave(session: Session, status: str, sentence: str) -> None:
    """Write down why the run ended early."""
    facts = {**ending(session), "status": status, "sentence": sentence}
    write_record(session.place.out, session.run, facts)
    session.say("stop", sentence)


def ending(session: Session) -> dict[str, Any]:
    """What is known at the end, however it came."""
    rows = session.monitor.rows
    last = rows[-1] if rows else {}
    return {
        **session.facts,
        "health_status": last.get("status"),
        "sentence": last.get("sentence"),
        "last_check": last or None,
        "reference_probe": session.monitor.probe,
        "pairs_seen": session.pairs_seen,
        "quarantine": len(session.guard.quarantine),
        "seconds": round(session.elapsed(), 2),
    }


def choose_device(run: Run) -> str:
    """The device a run asks for; `auto` takes a GPU where there is one.

    Raises:
        SettingError: when it is not there, or cannot do the precision asked for.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wished = run.plan.device
    device = ("cuda" if found["cuda"] else "cpu") if wished == "auto" else wished
    require(
        found.get(device, True),
        got=f"plan.device={device}, which this machine does not have",
        need="a device that is there",
        fix="Use plan.device=auto.",
    )
    require(
        run.plan.precision != "fp16" or device == "cuda",
        got=f"plan.precision=fp16 on {device}",
        need="fp32 or bf16 there",
        fix="Use plan.precision=fp32.",
    )
    return device


def _nobody(_event: Event) -> None:
    """Nobody listens."""
