"""`palate evaluate` and `report`: whether it helped, in numbers, and the page that shows it."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

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
from palate.cli.persona import For, Persona
from palate.core.files import write_json
from palate.core.problems import SettingError, StateError, require
from palate.evaluate.plan import Plan
from palate.evaluate.result import Evaluation
from palate.evaluate.suite import evaluate as compare
from palate.report.report import Report
from palate.train.prompts import prompts_of

_LIST = Parameter(negative=(), consume_multiple=False)
Drawn = Annotated[Drawing, Parameter(name="*")]
_EVALUATION = "evaluation"
Against = Annotated[Opposition, Parameter(name="*")]
_AS_USUAL, _NOTHING, _NOBODY = Drawing(), Opposition(), Persona()

evaluate = new_app(
    "evaluate",
    "Compare two models on the same prompts and the same noise.",
    examples(
        """
        palate evaluate --after runs/first --prompts world:held-out:200 \\
            --scorer world
        palate evaluate --before shipped --after runs/first/export \\
            --prompts prompts.txt --scorer clip:models/clip --out runs/asked
        palate evaluate --after runs/ppd --user their-pairs \\
            --prompts prompts.txt --scorer pickscore --out runs/theirs
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
    persona: For = _NOBODY,
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
        persona: Whom the model after draws for; the one before draws for nobody.
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
    audience = persona.meet(new, result, drawing, against)
    register = folder.with_name(f"{folder.name}-plan.json")
    with Bar("pictures") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.at(done, total, what)

        found = compare(
            old,
            audience.backbone,
            plan,
            scorers,
            register=register,
            trained_on=trained_prompts(after),
            progress=progress,
        )
    found.save(folder)
    if audience.who is not None:
        write_json(folder.with_name(f"{folder.name}-user.json"), audience.facts())
    run = after if (after / RUN_FILE).is_file() else None
    told = Report.read(folder, run)
    if json:
        emit({**_facts(found, told, folder), "user": audience.facts()})
        return
    say(told.text())
    if audience.who is not None:
        say(f"All of it for {audience.who.words}, whom the model after draws for.")
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
