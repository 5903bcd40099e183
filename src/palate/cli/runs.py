"""`palate resume` and `palate runs`: going on, and what there is to go on with."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, say, table
from palate.cli.flags import read_flags
from palate.core.problems import StateError, require
from palate.train.run import Run
from palate.train.runs import RunState, find_runs

resume = new_app(
    "resume",
    "Go on with an interrupted run, bit for bit.",
    "Settings that may change, with the flags of `palate train`: longer --steps (constant\n"
    "schedule), --micro-batch, saving, logging, and the limits under --health. Everything else\n"
    "would make it another run and is refused.\n\n"
    + examples(
        """
        palate resume runs/first
        palate resume runs/first --steps 400
        palate resume runs/first --micro-batch 2      after memory ran out
        palate resume runs/first --health.stop false  after a guard stopped it
        """
    ),
)
runs = new_app(
    "runs",
    "List runs: ok, damaged or unfinished.",
    examples(
        """
        palate runs
        palate runs elsewhere/runs --json
        """
    ),
)


@resume.default
def go_on(
    run: Path,
    /,
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    cache: Path | None = None,
    json: Flag = False,
) -> None:
    """Go on with an interrupted run, bit for bit.

    Starts from the newest whole checkpoint; a damaged one is named and passed
    over.

    Args:
        run: The folder of the run.
        *settings: Settings to change, as flags; those that would make it another run are refused.
        cache: Where latents and embeddings are kept, if not where they were.
        json: Print the result as JSON and nothing else on stdout.
    """
    from palate.cli.train import carry_out

    file = run / "run.yaml"
    require(
        file.is_file(),
        got=f"no run.yaml in {run}",
        need="the folder of a run",
        fix="`palate runs` lists the runs under runs/; name another folder after it.",
        kind=StateError,
    )
    flags = read_flags(settings, "palate resume", ("--cache", "--json"))
    whole = Run.from_yaml(file).with_values(flags)
    carry_out(whole, run, cache=cache, resume=True, json=json)


@runs.default
def listing(folder: Path = Path("runs"), /, *, json: Flag = False) -> None:
    """List runs: ok, damaged or unfinished, each with a sentence.

    Args:
        folder: Where to look, also in folders inside it.
        json: Print a JSON list and nothing else.
    """
    require(
        folder.is_dir(),
        got=f"no folder {folder}",
        need="a folder with runs in it",
        fix="Name the folder, or start a run with `palate train --out runs/first`.",
        kind=StateError,
    )
    found = find_runs(folder)
    if json:
        emit([_facts(state) for state in found])
        return
    if not found:
        say(f"No runs under {folder}. `palate train --help` shows how to start one.")
        return
    rows = [
        (
            state.folder,
            state.status,
            f"{state.step}/{state.steps}",
            state.objective,
            _checkpoints(state),
            state.sentence,
        )
        for state in found
    ]
    table(("run", "status", "step", "method", "checkpoints", "how it went"), rows)


def _checkpoints(state: RunState) -> str:
    """Such as "3 ok, 1 damaged"."""
    counts = Counter(each.state for each in state.checkpoints)
    return ", ".join(f"{count} {word}" for word, count in counts.items()) or "none"


def _facts(state: RunState) -> dict[str, object]:
    return {
        "folder": state.folder,
        "status": state.status,
        "step": state.step,
        "steps": state.steps,
        "method": state.objective,
        "sentence": state.sentence,
        "checkpoints": [
            {"name": each.name, "step": each.step, "state": each.state, "detail": each.detail}
            for each in state.checkpoints
        ],
    }
