"""`palate train`: flags and a settings file become one run; the run is shown, then carried out."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import Bar, emit, next_steps, note, say
from palate.cli.flags import describe, read_flags
from palate.core.problems import DataError, require
from palate.objectives import OBJECTIVES
from palate.recipes.published import recipe as recipe_of
from palate.train.run import Run
from palate.train.strict import read_yaml

_OWN = (
    "--model",
    "--data",
    "--out",
    "--config",
    "--recipe",
    "--method",
    "--full",
    "--cache",
    "--dry-run",
    "--json",
)

train = new_app(
    "train",
    "Train a model on a frozen snapshot of preference pairs.",
    f"Methods: {', '.join(OBJECTIVES.names)}. `palate methods` tells what each needs.\n\n"
    "Every other setting of a run, with its default in brackets. The last word is\n"
    f"enough where only one setting ends in it: --steps is --plan.steps.\n\n{describe()}\n\n"
    + examples(
        r"""
        palate train --model shipped --data my-pairs --method dpo --beta 2000 \
            --steps 100 --batch 32 --learning-rate 1e-4 --out runs/first
        palate train --config run.yaml --seed 1 --out runs/second
        palate train --recipe dpo-sd15 --model ~/models/stable-diffusion-v1-5 \
            --data my-pairs --out runs/published
        palate train --model shipped --data my-pairs --full --dry-run > run.yaml
        palate train --model ~/models/stable-diffusion-v1-5 --data my-pairs \
            --precision bf16 --gradient-checkpointing --out runs/sd15
        """
    ),
)


@train.default
def run(
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    model: str | None = None,
    data: str | None = None,
    out: Path | None = None,
    config: Path | None = None,
    recipe: str | None = None,
    method: str | None = None,
    full: Flag = False,
    cache: Path | None = None,
    dry_run: Annotated[Flag, Parameter(name=("--dry-run", "--print-settings"))] = False,
    json: Flag = False,
) -> None:
    """Train a model on a frozen snapshot of preference pairs.

    Writes checkpoints, a log, health checks and the trained weights into one
    folder. An interrupted run goes on with `palate resume`, to the same bits.

    Args:
        *settings: Any other setting of the run, as a flag.
        model: A folder in diffusers' format, a Hub name, or `shipped`.
        data: The folder of a frozen snapshot (`palate data freeze` makes one).
        out: The new folder of the run.
        config: A YAML file with settings; flags override it.
        recipe: A published run to start from, by name; flags override it. See
            `palate methods --recipes`.
        method: The method, by name; `palate methods` lists them.
        full: Train all weights, with a frozen copy as the reference, instead of adapters (LoRA).
        cache: Where latents and embeddings are kept; the default is beside the run.
        dry_run: Print the whole run as YAML and stop: nothing is loaded or written.
        json: Print the result as JSON and nothing else on stdout.
    """
    values = read_flags(settings, "palate train", _OWN)
    given = {"model": model, "data": data, "objective.name": method}
    values |= {name: value for name, value in given.items() if value is not None}
    if full:
        values["adapter"] = None
    whole = _run(config, values) if recipe is None else _published(recipe, config, values)
    require(
        not full or whole.personal is None,
        got="--full with the group personal",
        need="one of them: people are followed beside a base model that stays",
        fix="Remove --full, or leave personal out.",
    )
    if dry_run:
        say(whole.to_yaml().rstrip())
        return
    require(
        out is not None,
        got="no --out",
        need="a new folder for the run",
        fix="Add for example --out runs/first",
    )
    if whole.data is not None:
        _check_data(whole.data)
    carry_out(whole, Path(str(out)), cache=cache, json=json)


def carry_out(
    whole: Run, out: Path, *, cache: Path | None = None, resume: bool = False, json: bool = False
) -> None:
    """Show a run, train it, and say how it went."""
    from palate.train.loop import train as learn
    from palate.train.users import read_users

    for line in summary(whole):
        note(line)
    with Bar("training") as bar:
        result = learn(whole, out, resume=resume, on_event=bar.show, cache=cache)
    if json:
        emit(
            {
                "status": result.status,
                "sentence": result.sentence,
                "steps": result.steps,
                "seconds": result.seconds,
                "out": result.out,
                "export": result.export,
                "run_digest": result.run.digest,
                "last": result.history[-1] if result.history else None,
                "health": result.health[-1] if result.health else None,
            }
        )
        return
    say(f"{result.status} after {result.steps} steps in {result.seconds:.0f} s: {result.sentence}")
    say(f"weights  {result.export}")
    small = whole.model == "shipped"
    asked = "world:held-out:200 --scorer world" if small else "PROMPTS.txt --scorer clip:FOLDER"
    drawn = "world:held-out:12" if small else "PROMPTS.txt"
    # Drawn for nobody, a model that follows people is its base.
    whom = f" --user {shlex.quote(read_users(result.export).names[0])}" if whole.personal else ""
    next_steps(
        f"palate evaluate --after {out} --prompts {asked}{whom}",
        f"palate report {out}",
        f"palate sample --weights {out} --prompts {drawn} --out pictures{whom}",
    )


def summary(whole: Run) -> list[str]:
    """A run on one line per group, every setting named."""
    lines: list[str] = []
    values = whole.values()
    top = {name: value for name, value in values.items() if not isinstance(value, dict)}
    groups = {"run": top} | {n: v for n, v in values.items() if isinstance(v, dict)}
    for name, group in groups.items():
        lines.append(
            f"{name:<10}" + "  ".join(f"{key}={_short(each)}" for key, each in group.items())
        )
    return lines


def _run(config: Path | None, flags: Mapping[str, Any]) -> Run:
    """One run from a file and the flags over it."""
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    if config is not None:
        values, lines = read_yaml(config)
    return Run.from_values(values, changes=flags, lines=lines)


def _published(name: str, config: Path | None, flags: Mapping[str, Any]) -> Run:
    """A published run on the model and data of the flags, with the other flags over it."""
    require(
        config is None,
        got=f"--recipe {name} with --config {config}",
        need="one to start from",
        fix=f"Write the recipe down with `palate train --recipe {name} … --dry-run > run.yaml`, "
        "change it, and use that as --config.",
    )
    place = {key: flags[key] for key in ("model", "data") if key in flags}
    start = Run.from_values({**recipe_of(name).settings(), **place})
    return start.with_values({key: flags[key] for key in flags if key not in place})


def _check_data(data: str) -> None:
    """A file where a snapshot is needed: say how one becomes the other."""
    path = Path(data).expanduser()
    if path.is_file():
        raise DataError(
            got=f"{path}, a file",
            need="the folder of a frozen snapshot",
            fix=f"First `palate data import {path} --store my-store`, "
            "then `palate data freeze my-store my-pairs`; train with --data my-pairs.",
        )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "nothing"
    return "none" if value is None else str(value)
