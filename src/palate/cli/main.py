"""`palate`: the commands in the order of the work, and the one way out of all of them.

Commands are named here and imported when called, so that help is there at once.
"""

import os
import sys
from collections.abc import Sequence

import palate
from palate.cli.app import DATA, LOOK, OTHER, SEE, TRAIN, examples, new_app
from palate.cli.errors import leave

app = new_app(
    "palate",
    "Aligns text-to-image diffusion models with what people prefer, and measures if it helped.",
    examples(
        """
        palate demo                                  see all of it, in minutes
        palate data import pairs.parquet --store my-store --freeze my-pairs
        palate train --model shipped --data my-pairs --method dpo --out runs/first
        palate report runs/first
        """
    ),
)
app.version = palate.__version__
app["--version"].group = OTHER

_COMMANDS = (
    (SEE, "demo", "demo", "Align the small model with the shipped pairs, and open the result."),
    (SEE, "doctor", "doctor", "Check this machine and a model before any work is lost."),
    (SEE, "methods", "methods", "List the training methods, read one's page, convert a β."),
    (DATA, "data", "data", "Import, look at and freeze preference pairs."),
    (DATA, "label", "label", "Have a machine label a store's pairs: a scorer, a vision model, …"),
    (DATA, "audit", "audit", "Ask a snapshot what is wrong with its labels before training."),
    (DATA, "users", "users", "People: list, split and embed them, ask whom a model follows."),
    (DATA, "world", "world", "The small world: scenes, judged pairs, and the shipped model."),
    (TRAIN, "train", "train", "Train a model on a frozen snapshot of preference pairs."),
    (TRAIN, "resume", "runs", "Go on with an interrupted run, bit for bit."),
    (TRAIN, "runs", "runs", "List runs: ok, damaged or unfinished."),
    (TRAIN, "scorer", "scorer", "Teach or test a scorer of unfinished pictures."),
    (LOOK, "sample", "sample", "Draw pictures from a model."),
    (LOOK, "evaluate", "look", "Compare two models on the same prompts and the same noise."),
    (LOOK, "report", "look", "Write a run's or an evaluation's page, with pictures."),
)
for _place, (_group, _name, _module, _help) in enumerate(_COMMANDS):
    _where = f"palate.cli.{_module}:{_name}"
    app.command(_where, name=_name, group=_group, help=_help, sort_key=_place)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. Nothing leaves by an exception but SystemExit."""
    # Advice for programmers, such as which image backend is in use, is noise here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    try:
        result = app(arguments)
        # Here, so that a reader who left (`| head`) is noticed while it can still be handled.
        sys.stdout.flush()
    except BaseException as error:
        return leave(error)
    return result if isinstance(result, int) else 0
