"""How a run ends: finished with a model folder, or left with the reason written down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from palate.train.export import export, write_record
from palate.train.log import read_rows
from palate.train.place import HEALTH, LOG
from palate.train.run import Run
from palate.train.session import Session


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


def finish(session: Session, done: int) -> Result:
    """Write the record and the model, and say how it went."""
    out, check = session.place.out, session.monitor.rows[-1]
    facts = {**ending(session), "status": "finished", "steps": done}
    record = write_record(out, session.run, facts)
    users = None if session.book is None else session.book.users()
    folder = export(out, session.learner.backbone, record, users)
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
