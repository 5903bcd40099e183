"""`palate resume` and `palate runs`: going on, and what there is to go on with."""

from collections import Counter
from pathlib import Path

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, say, table
from palate.core.problems import StateError, require
from palate.train.run import Run
from palate.train.runs import RunState, find_runs

resume = new_app(
    "resume",
    "Go on with an interrupted run, bit for bit.",
    examples(
        """
        palate resume runs/first
        palate runs                  which runs there are, and how far they got
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
def go_on(run: Path, /, *, cache: Path | None = None, json: Flag = False) -> None:
    """Go on with an interrupted run, bit for bit.

    Starts from the newest whole checkpoint; a damaged one is named and passed over.

    Args:
        run: The folder of the run.
        cache: Where latents and embeddings are kept, if not beside the run.
        json: Print the result as JSON and nothing else on stdout.
    """
    from palate.cli.train import carry_out

    settings = run / "run.yaml"
    require(
        settings.is_file(),
        got=f"no run.yaml in {run}",
        need="the folder of a run",
        fix="`palate runs` lists the runs under runs/; name another folder after it.",
        kind=StateError,
    )
    carry_out(Run.from_yaml(settings), run, cache=cache, resume=True, json=json)


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
