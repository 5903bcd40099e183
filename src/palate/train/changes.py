"""What may change when a run goes on, and what would make it another run.

Compared is with the settings a checkpoint was computed with, never with `run.yaml`: that file
belongs to the user, and an edit in it is a wish like a flag.
"""

import os
from pathlib import Path
from typing import Any

from palate.core.problems import StateError
from palate.train.run import Run

Changes = dict[str, tuple[Any, Any]]
# Saving, logging and limits touch no number that was or will be computed.
HARMLESS = (
    "plan.save_every",
    "plan.keep_last",
    "plan.log_every",
    "plan.health_every",
    "plan.tensorboard",
    "health.stop",
    "health.ignore",
    "health.winner_drift_warn",
    "health.winner_drift_stop",
    "health.checks_before_stop",
    "health.saturation_share",
    "health.accuracy_high",
    "health.learning_by",
    "health.nan_budget",
)
# The same mathematics in another order of additions.
INEXACT = ("plan.micro_batch", "plan.gradient_checkpointing", "plan.device", "rollout.at_once")
# A folder may lie elsewhere; that it is the same one is asked of its digests.
PLACES = ("model", "data", "rollout.prompts", "rollout.scorer", "personal.users")


def settled(run: Run) -> Run:
    """The run with its folders by their whole paths, so that it means the same everywhere."""
    model, told = Path(run.model).expanduser(), {}
    if run.data is not None:
        told["data"] = os.path.abspath(Path(run.data).expanduser())
    if run.rollout is not None:
        kind, _, folder = run.rollout.scorer.partition(":")
        told["rollout.prompts"] = _whole(run.rollout.prompts)
        told["rollout.scorer"] = f"{kind}:{_whole(folder)}" if folder else kind
    if run.personal is not None:
        kind, _, folder = run.personal.users.partition(":")
        told["personal.users"] = f"{kind}:{_whole(folder)}" if folder else kind
    folder = run.model != "shipped" and (model.is_dir() or run.model.startswith("~"))
    # Links stay as they were written: that is how a moved disk keeps its name.
    return run.with_values({"model": os.path.abspath(model) if folder else run.model, **told})


def _whole(words: str) -> str:
    """The whole path of what is a file or folder; other words as they are."""
    path = Path(words).expanduser()
    return os.path.abspath(path) if path.exists() else words


def changes(run: Run, started: Run) -> Changes:
    """Settings that differ from those a run was started with: name → (now, then).

    Raises:
        StateError: when one of them would make it another run.
    """
    found = run.differences(started)
    # A round of a self-play that is over was the beginning of the next one.
    longer = run.plan.schedule == "constant" and run.plan.steps > started.plan.steps
    longer = longer and not run.plays
    allowed = {*HARMLESS, *INEXACT, *PLACES, *(["plan.steps"] if longer else [])}
    refused = {name: pair for name, pair in found.items() if name not in allowed}
    if refused:
        listed = ", ".join(f"{name} {old!r} to {new!r}" for name, (new, old) in refused.items())
        raise StateError(
            got=f"changed settings: {listed}",
            need="the settings the run was started with",
            fix="Put them back, or start a new run in another folder. What may change: longer "
            "plan.steps (constant schedule), plan.micro_batch, saving, logging and health limits.",
        )
    return found


def sentences(found: Changes) -> list[str]:
    """What to say about changes, one sentence each, without its full stop."""
    said = [
        f"{name} is now {new} (was {old}); its digest must agree"
        if name in PLACES
        else f"{name} changed from {old!r} to {new!r}"
        for name, (new, old) in found.items()
    ]
    if any(name in INEXACT for name in found):
        said.append("From here the run is no longer bitwise: last digits may differ")
    return said
