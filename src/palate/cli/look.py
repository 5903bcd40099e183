"""`palate sample`, `evaluate` and `report`: pictures, numbers, and the page that shows both."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray
from PIL import Image

from palate.backbones.sample import sample as draw
from palate.backbones.sample import starting_noise
from palate.cli.app import Flag, examples, new_app
from palate.cli.console import Bar, emit, next_steps, say
from palate.cli.named import (
    EXPORT,
    RUN_FILE,
    Drawing,
    Opposition,
    scorers_of,
    trained,
    trained_prompts,
)
from palate.cli.pictures import grid
from palate.core.files import digest_bytes, new_folder, write_json
from palate.core.problems import SettingError, StateError, require
from palate.core.record import provenance
from palate.evaluate.plan import Plan
from palate.evaluate.result import Evaluation
from palate.evaluate.suite import evaluate as compare
from palate.report.report import Report
from palate.train.prompts import prompts_of

_LIST = Parameter(negative=(), consume_multiple=False)
Drawn = Annotated[Drawing, Parameter(name="*")]
_EVALUATION = "evaluation"
Against = Annotated[Opposition, Parameter(name="*")]
_AS_USUAL, _NOTHING = Drawing(), Opposition()

sample = new_app(
    "sample",
    "Draw pictures from a model.",
    examples(
        """
        palate sample "a large red circle on the left of a white background" \\
            --out pictures
        palate sample --weights runs/first --prompts world:held-out:12 --out after
        palate sample --negative runs/npo --prompts world:held-out:12 --out away
        palate sample --model ~/models/stable-diffusion-v1-5 --prompts prompts.txt \\
            --steps 30 --guidance 7.5 --device cuda --out sd15
        """
    ),
)
evaluate = new_app(
    "evaluate",
    "Compare two models on the same prompts and the same noise.",
    examples(
        """
        palate evaluate --after runs/first --prompts world:held-out:200 \\
            --scorer world
        palate evaluate --before shipped --after runs/first/export \\
            --prompts prompts.txt --scorer clip:models/clip --out runs/asked
        """
    ),
)
report = new_app(
    "report",
    "Write a run's or an evaluation's page, with pictures.",
    examples(
        """
        palate report runs/first
        palate report runs/asked --run runs/first --out pages
        """
    ),
)


@sample.default
def draw_pictures(
    *texts: str,
    out: Path,
    model: str | None = None,
    weights: Path | None = None,
    prompts: str | None = None,
    each: int = 1,
    drawing: Drawn = _AS_USUAL,
    against: Against = _NOTHING,
) -> None:
    """Draw pictures from a model.

    Writes a PNG for every picture, grid.png with all of them, and pictures.json
    with everything needed to draw them again. The same seed and prompt start
    from the same noise for any model.

    Args:
        texts: Prompts, each in quotes.
        out: The new folder for the pictures.
        model: A folder in diffusers' format, a Hub name, or `shipped`.
        weights: A run, or what it exported, to put on the model.
        prompts: A file with one prompt a line, or world:held-out:COUNT.
        each: Pictures per prompt.
        drawing: How to draw.
        against: What is guided away from.
    """
    wanted = [*texts, *(prompts_of(prompts)[0] if prompts else [])]
    require(
        bool(wanted) and each >= 1,
        got="no prompt" if not wanted else f"--each {each}",
        need="at least one prompt, and one picture of each",
        fix="Write one in quotes, or add --prompts FILE.",
    )
    base, result = trained(weights, model) if weights else (against.base(model), None)
    backbone = against.open(drawing, base, result)
    names = [(prompt, index) for prompt in wanted for index in range(each)]
    size = None if drawing.size is None else (drawing.size, drawing.size)
    noise = starting_noise(backbone, names, drawing.seed, size)
    with Bar("pictures") as bar:
        drawn = draw(backbone, [n[0] for n in names], noise, drawing.sampler, 32, bar.at).numpy()
    facts = {
        "model": {"name": base, "weights": result, "digests": dict(backbone.digests)},
        "negative": against.facts(),
        "drawing": {
            "seed": drawing.seed,
            "steps": drawing.steps,
            "guidance": drawing.guidance,
            "scheduler": drawing.scheduler,
            "size": drawn.shape[1],
            "precision": drawing.precision,
        },
        "provenance": provenance(),
    }
    _write(out, drawn, names, facts)
    say(f"{len(names)} pictures in {out}, all of them in {out / 'grid.png'}")


@evaluate.default
def ask(
    *,
    after: Path,
    prompts: str,
    scorer: Annotated[list[str], _LIST],
    before: str | None = None,
    out: Path | None = None,
    each: int = 1,
    variety_prompts: int = 24,
    held_out: Flag = False,
    labelled_by: Annotated[list[str] | None, _LIST] = None,
    json: Flag = False,
    drawing: Drawn = _AS_USUAL,
    against: Against = _NOTHING,
) -> None:
    """Compare two models on the same prompts and the same noise.

    Writes the plan down before drawing, then asks every scorer about every
    picture. Win rates come with intervals over prompts; a tie is half a win.

    Args:
        after: The run, its export, or the model to judge.
        prompts: A file with one prompt a line, or world:held-out:COUNT.
        scorer: Who judges: world, world:PART, pickscore, or clip, hpsv2, imagereward or aesthetic
            with :FOLDER. The first decides; repeat it.
        before: The model to compare with; a run's own base model unless told.
        out: The folder of the evaluation; by default `evaluation` in the run.
        each: Pictures per prompt.
        variety_prompts: How many prompts get 8 pictures each, to measure variety.
        held_out: Say that no prompt was used in training; world:held-out says so itself.
        labelled_by: A scorer whose opinion also made the training labels.
        json: Print the result as JSON and nothing else on stdout.
        drawing: How both models draw.
        against: What the model after is guided away from.
    """
    scorers = scorers_of(scorer)
    wanted, known = prompts_of(prompts)
    require(
        against.negative is None or out is not None,
        got="--negative without --out",
        need="a folder of its own: this is not an evaluation of the run alone",
        fix="Add for example --out runs/asked",
    )
    folder = _evaluation_folder(out, after)
    base, result = trained(after, before)
    plan = Plan(
        prompts=tuple(wanted),
        primary=scorers[0].name,
        secondary=tuple(each.name for each in scorers[1:]),
        seed=drawing.seed,
        pictures_per_prompt=each,
        variety_prompts=min(variety_prompts, len(wanted)),
        sampler=drawing.sampler,
        resolution=drawing.size,
        held_out=held_out or known,
        labelled_by=tuple(labelled_by or ()),
    )
    old, new = drawing.open(before or base, None), against.open(drawing, base, result)
    register = folder.with_name(f"{folder.name}-plan.json")
    with Bar("pictures") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.at(done, total, what)

        found = compare(
            old,
            new,
            plan,
            scorers,
            register=register,
            trained_on=trained_prompts(after),
            progress=progress,
        )
    found.save(folder)
    run = after if (after / RUN_FILE).is_file() else None
    told = Report.read(folder, run)
    if json:
        emit(_facts(found, told, folder))
        return
    say(told.text())
    next_steps(f"palate report {run if run and out is None else folder}")


@report.default
def page(
    folder: Path, /, *, run: Path | None = None, out: Path | None = None, json: Flag = False
) -> None:
    """Write a run's or an evaluation's page: report.html, report.json and report.txt.

    The page is one file that fetches nothing: mail it, or open it anywhere.

    Args:
        folder: A run that has been evaluated, or an evaluation.
        run: The run that an evaluation kept elsewhere belongs to.
        out: Where to write; by default into the folder itself.
        json: Print the report as JSON and nothing else on stdout.
    """
    is_run = (folder / RUN_FILE).is_file()
    evaluation = folder / _EVALUATION if is_run else folder
    if not (evaluation / "evaluation.json").is_file():
        raise _not_evaluated(folder, is_run)
    told = Report.read(evaluation, folder if is_run else run)
    written = told.save(out or folder)
    if json:
        emit(told.json())
        return
    say(told.text())
    say()
    say(f"page  {written}")


def _write(
    out: Path, drawn: NDArray[np.uint8], names: list[tuple[str, int]], facts: dict[str, Any]
) -> None:
    """The pictures, their grid and what they are, in a folder that appears whole."""
    with new_folder(out) as folder:
        rows: list[dict[str, Any]] = []
        for place, ((prompt, index), picture) in enumerate(zip(names, drawn, strict=True)):
            name = f"{place:04d}.png"
            Image.fromarray(picture).save(folder / name)
            digest = digest_bytes(picture.tobytes())
            rows.append({"file": name, "prompt": prompt, "index": index, "sha256_rgb": digest})
        columns = min(6, len(names))
        grid(list(drawn), [n[0] for n in names], columns=columns).save(folder / "grid.png")
        write_json(folder / "pictures.json", {"pictures": rows, **facts})


def _evaluation_folder(out: Path | None, after: Path) -> Path:
    """Where an evaluation goes: where it is told, or into the run."""
    if out is not None:
        return out
    if (after / RUN_FILE).is_file():
        return after / _EVALUATION
    if after.name == EXPORT and (after.parent / RUN_FILE).is_file():
        return after.parent / _EVALUATION
    raise SettingError(
        got=f"no --out, and {after} is not a run",
        need="a folder for the evaluation",
        fix="Add for example --out runs/asked",
    )


def _not_evaluated(folder: Path, is_run: bool) -> StateError:
    if not is_run:
        return StateError(
            got=f"{folder}, neither a run nor an evaluation",
            need="a folder that `palate train` or `palate evaluate` wrote",
            fix="`palate runs` lists the runs under runs/.",
        )
    return StateError(
        got=f"{folder}, a run that nobody has evaluated",
        need="an evaluation in it",
        fix=f"palate evaluate --after {folder} --prompts world:held-out:200 --scorer world",
    )


def _facts(found: Evaluation, told: Report, folder: Path) -> dict[str, Any]:
    rate = found.primary.win_rate
    return {
        "headline": told.headline,
        "standing": found.standing,
        "scorer": found.primary.scorer,
        "win_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
        "prompts": rate.n,
        "win_rates": {
            name: {"value": each.value, "low": each.low, "high": each.high, "n": each.n}
            for name, each in found.win_rates.items()
        },
        "evaluation": folder,
        "seconds": found.seconds,
    }
