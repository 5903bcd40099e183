"""`palate users evaluate`: does a model follow people, or did it only become better?"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from palate.cli.app import Flag, new_app
from palate.cli.app import examples as shown
from palate.cli.console import Bar, emit, note, say
from palate.cli.named import Drawing, device_named, trained
from palate.core.problems import SettingError, StateError, require

if TYPE_CHECKING:
    from palate.data.pairs import PreferencePairs
    from palate.evaluate.following import Following
    from palate.recipes.follow import Follower
    from palate.train.finder import Finder

Drawn = Annotated[Drawing, Parameter(name="*")]
Told = Callable[[str, int, int], None]
_AS_USUAL = Drawing()
_MEASURED = ("groups", "slides")

evaluate = new_app(
    "evaluate",
    "Ask whether a model follows people, or only became better for everybody.",
    shown(
        """
        palate users evaluate runs/ppd --data my-people/held-out
        palate users evaluate runs/ppd --data my-people/unseen \\
            --examples my-people/examples --pooled runs/dpo --out unseen
        palate users evaluate runs/ppd --data my-people/unseen \\
            --examples my-people/examples --people people/people.json \\
            --prompts world:held-out:40
        """
    ),
)


@evaluate.default
def ask(
    run: Path,
    /,
    *,
    data: Path,
    examples: Path | None = None,
    pooled: Path | None = None,
    people: Path | None = None,
    prompts: str | None = None,
    slides: int | None = None,
    user_guidance: float | None = None,
    out: Path | None = None,
    json: Flag = False,
    drawing: Drawn = _AS_USUAL,
) -> None:
    """Ask whether a model follows people, or only became better for everybody.

    Held-out pairs: how often does the model order them as their judge did, with
    that judge's embedding and with somebody else's? Where tastes are known, as
    in the small world, pictures too: everyone's own against the base model's and
    against those drawn for somebody else, and along the way between opposite
    tastes. With --examples, whether the run's encoder knows people again by other
    pairs, where there are enough. Intervals are at 95 %, over users. With --out, a page as well.

    Args:
        run: A run that was trained with people, or its export.
        data: A snapshot of pairs that nothing was learned from.
        examples: A snapshot with a few pairs of each of these users, to know them by; whom the run
            was trained with is a group apart. Without it, only those are asked about.
        pooled: A run on the same pairs without users, to compare with.
        people: The people.json of `palate world people`, which knows their tastes.
        prompts: What to draw: a file with one prompt a line, or world:held-out:COUNT.
        slides: How many ways to draw between two people, those with the least alike tastes first;
            1 unless told.
        user_guidance: Strength of guidance towards the user; as --guidance unless told.
        out: A new folder for the result and its page.
        json: Print the result as JSON and nothing else on stdout.
        drawing: How pictures are drawn; all but the device and precision is for --people only, and
            the size is always the model's own.
    """
    from palate.report.personal import PersonalReport

    _check(run, people, prompts, out)
    _check_drawing(drawing, user_guidance, slides, draws=people is not None)
    strength = 1.0 if user_guidance is None else user_guidance / drawing.sampler.guidance
    with Bar("asked") as bar:

        def told(what: str, done: int, total: int) -> None:
            bar.at(done, total, what)

        follower, pairs, find = _open(run, data, examples, pooled, strength, drawing, told)
        count = 1 if slides is None else slides
        found = _found(
            follower, pairs, find, run, people, prompts, count, apart=examples is not None
        )
    report = PersonalReport(found=found)
    if out is not None:
        found.save(out)
        report.save(out)
    if json:
        # Every picture's rewards are in the files of --out.
        emit({name: value for name, value in report.json().items() if name not in _MEASURED})
        return
    say(report.text())
    if out is not None:
        say(f"page  {out / 'report.html'}")


def _open(
    run: Path,
    data: Path,
    examples: Path | None,
    pooled: Path | None,
    strength: float,
    drawing: Drawing,
    told: Told,
) -> "tuple[Follower, PreferencePairs, Finder]":
    """The model, everyone it is asked about, where their pairs are, and who knows the people."""
    from palate.data.pairs import PreferencePairs
    from palate.evaluate.asked import asked_of
    from palate.recipes.follow import Follower
    from palate.train.finder import Finder

    base, weights = trained(run, None)
    if weights is None:
        raise _knows_nobody(run)
    find = Finder.of(weights, device=device_named(drawing.device))
    pairs = PreferencePairs.open(data)
    asked = asked_of(find, pairs, None if examples is None else PreferencePairs.open(examples))
    follower = Follower(
        model=drawing.open(base, weights),
        pooled=None if pooled is None else drawing.open(base, trained(pooled, base)[1]),
        asked=asked,
        seed=drawing.seed,
        sampler=drawing.sampler,
        strength=strength,
        told=told,
    )
    return follower, pairs, find


def _found(
    follower: "Follower",
    pairs: "PreferencePairs",
    find: "Finder",
    run: Path,
    people: Path | None,
    prompts: str | None,
    slides: int,
    *,
    apart: bool,
) -> "Following":
    """Everything that is asked."""
    from palate.core.record import provenance
    from palate.evaluate.following import Following
    from palate.recipes.follow import learned_from, run_of, told_apart
    from palate.recipes.people import read_tastes
    from palate.train.prompts import prompts_of

    made, cache = run_of(run)
    same = learned_from(made, follower.asked)
    if same:
        many = len(follower.asked.pairs)
        note(f"{same:,} of {many:,} pairs are in the training data: they prove little.")
    fitted = find.fitted_on == pairs.digest
    if fitted:
        note(
            "The tastes that people are placed among were learned from these very pairs: "
            "the embeddings have seen the answers they are asked for, and prove nothing."
        )
    ordered = follower.order(pairs, made, cache, note)
    tastes = None if people is None else read_tastes(people)
    wanted = [] if prompts is None else prompts_of(prompts)[0]
    return Following(
        groups={} if tastes is None else follower.groups(tastes, wanted),
        slides=() if tastes is None else follower.slides(tastes, wanted, slides),
        identified=told_apart(find, pairs) if apart else (),
        ordering=ordered,
        facts={
            "run": str(run),
            "weights": follower.model.applied,
            "data": pairs.digest,
            "users": len(follower.asked.embeddings),
            "users of the training": len(follower.asked.trained),
            "pairs asked about": ordered.pairs,
            "pairs left out, as embeddings are made of them": follower.asked.known,
            "users left out, as nothing is known of them": follower.asked.strangers,
            "pairs in the training data": same,
            "encoder learned from these pairs": fitted,
            "strength": follower.strength,
            "provenance": provenance(),
        },
    )


def _check(run: Path, people: Path | None, prompts: str | None, out: Path | None) -> None:
    """Refuse what cannot work before anything is opened."""
    require(
        run.exists(),
        got=f"{run}, which does not exist",
        need="a run that was trained with people",
        fix="`palate runs` lists the runs.",
        kind=StateError,
    )
    require(
        (people is None) == (prompts is None),
        got="--prompts without --people" if people is None else "--people without --prompts",
        need="both: prompts to draw, and the tastes that judge what was drawn",
        fix="Add for example --people people/people.json --prompts world:held-out:40",
    )
    require(
        out is None or not out.exists(),
        got=f"{out}, which exists",
        need="a new folder",
        fix="Choose another name, or remove it first.",
        kind=StateError,
    )


def _check_drawing(
    drawing: Drawing, user_guidance: float | None, slides: int | None, *, draws: bool
) -> None:
    """Refuse settings of drawing that nobody would read."""
    told = {"user_guidance": user_guidance, "slides": slides} | {
        name: getattr(drawing, name)
        for name in ("seed", "steps", "guidance", "scheduler")
        if getattr(drawing, name) != getattr(_AS_USUAL, name)
    }
    unread = [
        f"--{name.replace('_', '-')} {value}" for name, value in told.items() if value is not None
    ]
    require(
        draws or not unread,
        got=f"{', '.join(unread)} without --people",
        need="pictures to draw",
        fix="Add --people and --prompts, or leave it out.",
    )
    require(
        user_guidance is None or 0 <= user_guidance <= 100,
        got=f"--user-guidance {user_guidance}",
        need="0 (the base model) to 100",
        fix=f"{drawing.guidance:g} is as strong as --guidance.",
    )
    require(
        slides is None or slides >= 0,
        got=f"--slides {slides}",
        need="none, one or several",
        fix="1 draws the way between the two people whose tastes are least alike.",
    )
    require(
        drawing.size is None,
        got=f"--size {drawing.size}",
        need="the model's own size, in which people's tastes are asked",
        fix="Leave it out.",
    )


def _knows_nobody(run: Path) -> SettingError:
    return SettingError(
        got=f"{run}, a whole model",
        need="a run that was trained with people, or its export",
        fix="Train one with: palate train --method ppd",
    )
