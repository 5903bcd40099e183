"""`palate users evaluate`: does a model follow people, or did it only become better?"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from palate.cli.app import Flag, new_app
from palate.cli.app import examples as shown
from palate.cli.console import Bar, emit, next_steps, note, say, table
from palate.cli.named import RUN_FILE, Drawing, trained
from palate.core.problems import DataError, SettingError, StateError, require

if TYPE_CHECKING:
    from palate.backbones import Backbone
    from palate.core.stats import Estimate
    from palate.data.pairs import PreferencePairs
    from palate.evaluate.asked import Asked
    from palate.evaluate.crossed import Crossed
    from palate.evaluate.ordering import Ordering

Drawn = Annotated[Drawing, Parameter(name="*")]
_AS_USUAL = Drawing()
# What each verdict says, in the order in which they are told.
_WORDS = {
    "own_over_base": "their own pictures beat the base's",
    "own_over_pooled": "… those of one model for all",
    "own_over_shuffled": "… those drawn for somebody else",
    "shuffled_over_base": "somebody else's beat the base's",
    "pooled_over_base": "one model's for all beat the base's",
    "own_minus_shuffled": "own minus somebody else's, over the base",
    "own_gain": "reward above the base's: own",
    "pooled_gain": "… one model for all",
    "shuffled_gain": "… somebody else's",
}


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
    user_guidance: float | None = None,
    out: Path | None = None,
    json: Flag = False,
    drawing: Drawn = _AS_USUAL,
) -> None:
    """Ask whether a model follows people, or only became better for everybody.

    Held-out pairs: how often does the model order them as their judge did, with
    that judge's embedding and with somebody else's? Where tastes are known, as
    in the small world, pictures too: everyone's own against the base model's and
    against those drawn for somebody else. Intervals are at 95 %, over users.

    Args:
        run: A run that was trained with people, or its export.
        data: A snapshot of pairs that nothing was learned from.
        examples: A snapshot with a few pairs of each of these users; without it, those the run was
            trained with are asked about.
        pooled: A run on the same pairs without users, to compare with.
        people: The people.json of `palate world people`, which knows their tastes.
        prompts: What to draw: a file with one prompt a line, or world:held-out:COUNT.
        user_guidance: Strength of guidance towards the user; as --guidance unless told.
        out: A new folder for everything that was found.
        json: Print the result as JSON and nothing else on stdout.
        drawing: How pictures are drawn.
    """
    from palate.data.pairs import PreferencePairs
    from palate.evaluate.asked import asked_of
    from palate.evaluate.personal import verdicts
    from palate.train.finder import Finder

    _check(run, people, prompts, out)
    _check_drawing(drawing, user_guidance, draws=people is not None)
    base, weights = trained(run, None)
    if weights is None:
        raise _knows_nobody(run)
    find = Finder.of(weights, device=drawing.device)
    pairs = PreferencePairs.open(data)
    asked = asked_of(find, pairs, None if examples is None else PreferencePairs.open(examples))
    model = drawing.open(base, weights)
    other = None if pooled is None else drawing.open(base, trained(pooled, base)[1])
    _tell_of_training(run, asked)
    ordered = _ordered(run, model, other, asked, pairs)
    crossed = None
    if people is not None and prompts is not None:
        strength = 1.0 if user_guidance is None else user_guidance / drawing.guidance
        crossed = _crossed(model, other, asked, people, prompts, strength, drawing)
    found = {} if crossed is None else verdicts(crossed)
    facts = _facts(run, asked, ordered, found)
    if out is not None:
        _write(out, facts, crossed)
    if json:
        emit(facts)
        return
    _say(asked, ordered, found, crossed)
    if out is not None:
        say()
        say(f"everything  {out}")
    elif crossed is None:
        next_steps(f"palate sample --weights {run} --user WHO --prompts prompts.txt --out theirs")


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


def _check_drawing(drawing: Drawing, user_guidance: float | None, *, draws: bool) -> None:
    """Refuse settings of drawing that nobody would read."""
    require(
        draws or user_guidance is None,
        got=f"--user-guidance {user_guidance} without --people",
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
        drawing.size is None,
        got=f"--size {drawing.size}",
        need="the model's own size, in which people's tastes are asked",
        fix="Leave it out.",
    )


def _ordered(
    run: Path,
    model: "Backbone",
    pooled: "Backbone | None",
    asked: "Asked",
    pairs: "PreferencePairs",
) -> "Ordering":
    """How often held-out pairs are ordered as their judge did."""
    from palate.evaluate.ordering import Margins, ordering
    from palate.train.cache import Cache
    from palate.train.groups import Pictures

    folder, pictures = _kept(run)
    cache = Cache(folder, model, pictures.resolution or model.resolution)
    still = Pictures(latents="mean")
    cache.fill(model, asked.pairs, still, pairs.image, note)
    with Bar("pairs asked") as bar:
        return ordering(
            model, asked.pairs, asked.of, Margins(cache=cache), pooled=pooled, told=bar.at
        )


def _kept(run: Path) -> tuple[Path, Any]:
    """Where a run keeps latents, and how it made them of pictures."""
    from palate.core.files import read_json
    from palate.train.groups import Pictures
    from palate.train.place import RECORD
    from palate.train.run import Run

    folder = run if (run / RUN_FILE).is_file() else run.parent
    if not (folder / RUN_FILE).is_file():
        return folder / "cache", Pictures()
    told = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    before = told.get("cache", {}).get("folder")
    usual = folder.parent / "cache"
    cache = Path(before) if before and Path(before).is_dir() else usual
    return cache, Run.from_yaml(folder / RUN_FILE).pictures


def _crossed(
    model: "Backbone",
    pooled: "Backbone | None",
    asked: "Asked",
    people: Path,
    prompts: str,
    strength: float,
    drawing: Drawing,
) -> "Crossed":
    """Pictures for everyone, judged by everyone's true taste."""
    from palate.evaluate.crossed import draw_crossed
    from palate.recipes.people import read_tastes
    from palate.train.prompts import prompts_of
    from palate.world import TrueReward

    tastes = read_tastes(people)
    users = [name for name in asked.embeddings if name in tastes]
    require(
        len(users) >= 2,
        got=f"{len(users)} of {len(asked.embeddings)} users in {people}",
        need="at least two users whose taste is known",
        fix="Give the people.json that lies beside the pairs.",
        kind=DataError,
    )
    with Bar("drawn for") as bar:
        return draw_crossed(
            model,
            {name: asked.embeddings[name] for name in users},
            {name: TrueReward(tastes[name], f"taste of {name}") for name in users},
            prompts_of(prompts)[0],
            pooled=pooled,
            seed=drawing.seed,
            sampler=drawing.sampler,
            strength=strength,
            progress=lambda what, done, total: bar.at(done, total, what),
        )


def _tell_of_training(run: Path, asked: "Asked") -> None:
    """Say how many of the pairs were learned from, where that is known."""
    from palate.data.pairs import PreferencePairs
    from palate.train.run import Run

    folder = run if (run / RUN_FILE).is_file() else run.parent
    learned = Run.from_yaml(folder / RUN_FILE).data if (folder / RUN_FILE).is_file() else None
    if learned is None or not Path(learned).is_dir():
        return
    known = {pair.id for pair in PreferencePairs.open(Path(learned))}
    same = sum(pair.id in known for pair in asked.pairs)
    if same:
        note(f"{same:,} of {len(asked.pairs):,} pairs are in the training data: they prove little.")


def _facts(
    run: Path, asked: "Asked", ordered: "Ordering", found: "Mapping[str, Estimate]"
) -> dict[str, Any]:
    return {
        "run": run,
        "users": sorted(asked.embeddings),
        "pairs": len(asked.pairs),
        "left_out": {"pairs_of_examples": asked.known, "unknown_users": asked.strangers},
        "ordering": ordered.to_json(),
        "verdicts": {name: each.asdict() for name, each in found.items()},
    }


def _write(out: Path, facts: Mapping[str, Any], crossed: "Crossed | None") -> None:
    """Everything that was found, in a folder that appears whole."""
    from palate.core.files import new_folder, write_json
    from palate.core.plain import plain
    from palate.core.record import provenance

    with new_folder(out) as folder:
        write_json(folder / "people.json", plain({**facts, "provenance": provenance()}))
        if crossed is not None:
            write_json(folder / "crossed.json", crossed.to_json())


def _say(
    asked: "Asked",
    ordered: "Ordering",
    found: "Mapping[str, Estimate]",
    crossed: "Crossed | None",
) -> None:
    """The numbers in words."""
    table((f"pairs of {len(asked.embeddings):,} users", "ordered as they did"), _ordering(ordered))
    left = {
        "pairs left out: embeddings are made of them": asked.known,
        "users left out: nothing is known of them": asked.strangers,
        "pairs left out: their pictures cannot be used": ordered.left_out,
    }
    for words, count in left.items():
        if count:
            say(f"{count:,} {words}")
    if crossed is not None:
        say()
        told = [(words, str(found[name])) for name, words in _WORDS.items() if name in found]
        table((f"pictures for {len(crossed.users)} users", "by their own taste"), told)


def _ordering(found: "Ordering") -> list[tuple[str, str]]:
    rows = {
        "with their own embedding": found.own,
        "with somebody else's": found.shuffled,
        "own minus somebody else's": found.own_minus_shuffled,
        "one model for all": found.pooled,
        "own minus one model for all": found.own_minus_pooled,
    }
    told = [(words, str(each)) for words, each in rows.items() if each is not None]
    return [*told, ("with nobody's: the base", f"{found.nobody:g}")]


def _knows_nobody(run: Path) -> SettingError:
    return SettingError(
        got=f"{run}, a whole model",
        need="a run that was trained with people, or its export",
        fix="Train one with: palate train --method ppd",
    )
