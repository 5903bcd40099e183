"""`palate world`: look at the small world, make pairs of judges in it, pretrain its model."""

from pathlib import Path
from typing import Literal

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import Bar, emit, next_steps, note, say

world = new_app(
    "world",
    "The small world: scenes, judged pairs, and the shipped model.",
    examples(
        """
        palate world scenes --out scenes.png
        palate world pairs --out pairs.parquet --count 200
        palate world people --out people --judges 48
        palate world pretrain --out small-model
        """
    ),
)


@world.command(
    help_epilogue=examples(
        """
        palate world scenes
        palate world scenes --style mediocre --count 24 --out mediocre.png
        """
    )
)
def scenes(
    *,
    out: Path = Path("scenes.png"),
    count: int = 12,
    style: Literal["perfect", "mediocre"] = "perfect",
    split: str = "train",
    seed: int = 0,
) -> None:
    """Write a picture of example scenes, each with its caption.

    Args:
        out: The PNG file.
        count: How many scenes.
        style: As the judges like them best, or as the shipped model was taught.
        split: Which captions: train or held-out. Mediocre pictures are of train captions only.
        seed: Which scenes.
    """
    from palate.cli.pictures import grid
    from palate.core.streams import Streams
    from palate.world import PERFECT, Scene, prompts, render, training_pictures

    if style == "mediocre":
        drawn, captions = training_pictures(count, seed)
        images = list(drawn)
    else:
        captions = prompts(split, count, seed)
        streams = Streams(seed)
        images = [
            render(Scene.parse(caption), PERFECT, streams("scenes", caption))
            for caption in captions
        ]
    out.parent.mkdir(parents=True, exist_ok=True)
    grid(images, captions, columns=min(6, count)).save(out)
    for caption in captions:
        say(caption)
    say()
    say(f"{count} scenes in {out}")


@world.command(
    help_epilogue=examples(
        """
        palate world pairs --out pairs.parquet
        palate world pairs --out minority.parquet --count 400 --minority 0.4
        """
    )
)
def pairs(
    *,
    out: Path,
    model: str = "shipped",
    count: int = 1600,
    seed: int = 0,
    judges: int = 12,
    minority: float = 0.1,
    flip_rate: float = 0.05,
    indifference: float = 0.1,
    json: Flag = False,
) -> None:
    """Draw two pictures per prompt, ask a population of judges, write Pick-a-Pic parquet.

    Args:
        out: The parquet file.
        model: Who draws: a folder, a Hub name, or `shipped`.
        count: Pairs, one per training prompt.
        seed: Everything is a function of it.
        judges: Size of the population.
        minority: Share of judges with the opposite taste.
        flip_rate: Chance that a judge presses the wrong button.
        indifference: Difference of true reward below which a judge calls a tie.
        json: Print what was made as JSON and nothing else on stdout.
    """
    from palate.recipes.pairs import make_pairs

    with Bar("pictures") as bar:
        facts = make_pairs(
            out,
            model=model,
            count=count,
            seed=seed,
            judges=judges,
            minority=minority,
            flip_rate=flip_rate,
            indifference=indifference,
            progress=bar.at,
        )
    if json:
        emit(facts)
        return
    say(f"{out}: " + ", ".join(f"{name} {value}" for name, value in facts.items()))
    next_steps(f"palate data import {out} --store my-store")


@world.command(
    help_epilogue=examples(
        """
        palate world people --out people
        palate world people --out few --judges 8 --pairs-each 12 --seed 1
        """
    )
)
def people(
    *,
    out: Path,
    model: str = "shipped",
    judges: int = 48,
    pairs_each: int = 32,
    seed: int = 0,
    strength: float = 3.0,
    flip_rate: float = 0.05,
    indifference: float = 0.1,
    json: Flag = False,
) -> None:
    """Pairs of many people whose tastes differ and partly oppose, and what each of them likes.

    Writes pairs.parquet (Pick-a-Pic, with user ids) and people.json (the true tastes).

    Args:
        out: The folder.
        model: Who draws: a folder, a Hub name, or `shipped`.
        judges: How many people.
        pairs_each: Prompts that each of them is asked about.
        seed: Everything is a function of it.
        strength: How much taste decides: the usual personal difference in a pair, in logits.
        flip_rate: Chance that a judge presses the wrong button.
        indifference: Difference of true reward below which a judge calls a tie.
        json: Print what was made as JSON and nothing else on stdout.
    """
    from palate.recipes.people import PAIRS, PEOPLE, make_people

    with Bar("pictures") as bar:
        facts = make_people(
            out,
            model=model,
            judges=judges,
            pairs_each=pairs_each,
            seed=seed,
            strength=strength,
            flip_rate=flip_rate,
            indifference=indifference,
            progress=bar.at,
        )
    if json:
        emit(facts)
        return
    for name, value in facts.items():
        say(f"{name.replace('_', ' ')}  {value if isinstance(value, int) else f'{value:.2f}'}")
    say(f"{out / PAIRS}, {out / PEOPLE}")
    next_steps(f"palate data import {out / PAIRS} --store my-store --freeze my-pairs")


@world.command(
    help_epilogue=examples(
        """
        palate world pretrain --out small-model
        palate world pretrain --out tiny --size micro --pictures 200 \\
            --vae-steps 20 --unet-steps 20
        """
    )
)
def pretrain(
    *,
    out: Path,
    vae_steps: int = 1500,
    unet_steps: int = 5000,
    pictures: int = 24000,
    size: Literal["shipped", "micro"] = "shipped",
    seed: int = 0,
    threads: int = 1,
    work: Path | None = None,
    log: Path | None = None,
    json: Flag = False,
) -> None:
    """Train the small pipeline on the small world, as the shipped model was.

    Takes about 45 minutes on one core with the usual steps. Run it again on the same
    folders to go on after an interruption.

    Args:
        out: The folder of the finished model, in diffusers' format.
        vae_steps: Steps of the autoencoder.
        unet_steps: Steps of UNet and text encoder.
        pictures: How many training pictures.
        size: The shipped model's networks, or the smallest that the tests use.
        seed: Everything is a function of it.
        threads: Processor threads.
        work: Where the unfinished state is kept; by default beside the model.
        log: The JSON-lines log; by default beside the model.
        json: Print the result as JSON and nothing else on stdout.
    """
    from palate.recipes.pretrain import pretrain as learn

    beside = out.with_name(f"{out.name}-work")
    note(f"The unfinished state is kept in {work or beside}.")
    facts = learn(
        out,
        seed=seed,
        vae_steps=vae_steps,
        unet_steps=unet_steps,
        pictures=pictures,
        size=size,
        threads=threads,
        work=work or beside,
        log=log or out.with_name(f"{out.name}.jsonl"),
    )
    if json:
        emit(facts)
        return
    say(f"model  {out}")
    next_steps(f"palate sample --model {out} --prompts world:held-out:12 --out pictures")
