"""`palate data select`: the pairs that are worth most to train on, or as many drawn by lot."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from palate.cli.app import Flag
from palate.cli.console import Bar, emit, next_steps, say, table
from palate.core.problems import SettingError, require

if TYPE_CHECKING:
    from palate.data.select import Selection
    from palate.data.spread import Texts
    from palate.data.taste import Quality, Weights

NONE, LENGTH, CLIP = "none", "length", "clip:"


def select(
    snapshot: Path,
    out: Path,
    /,
    *,
    keep: float,
    by: Literal["worth", "random"] = "worth",
    scorer: str | None = None,
    quality: str = LENGTH,
    weights: str = "margin=1,quality=1,diversity=1",
    texts: str = "words",
    seed: int = 0,
    device: str = "auto",
    json: Flag = False,
) -> None:
    """Keep the pairs with a clear margin, a good prompt and prompts unlike each other.

    After FiFA, whose own weights and measure of a prompt were not found: those
    here are ours. With --scorer no label is looked at, so that a random part
    of labelled pairs stays one. What was chosen stands beside as many pairs
    drawn by lot; --by random keeps these instead.

    Args:
        snapshot: A frozen snapshot.
        out: The folder of the new snapshot.
        keep: How many pairs; below 1 a share of them.
        by: What decides: worth, or random.
        scorer: Whose scores give the margin, whichever picture they prefer; without one it is how
            clear the labels are.
        quality: How good a prompt is: length (in words), none, or a CSV file with the columns
            prompt and quality, such as a language model's answers.
        weights: What each component counts; those left out count 0.
        texts: How alike prompts are: words (TF-IDF), or clip:FOLDER for CLIP's text encoder.
        seed: Which pairs a random choice keeps.
        device: Where scorer and text encoder compute: auto, cpu, cuda or mps.
        json: Print JSON and nothing else.
    """
    from palate.cli.named import machine_named
    from palate.data.select import select as select_by_worth
    from palate.data.select import select_by_lot
    from palate.data.taste import Taste

    def by_worth() -> "Selection":
        taste = Taste(
            machine=None if scorer is None else machine_named(scorer, device),
            quality=_quality(quality),
            weights=_weights(weights),
            texts=_texts(texts, device),
        )
        with Bar("pictures scored") as bar:
            return select_by_worth(snapshot, out, keep=keep, taste=taste, told=bar.at)

    def by_lot() -> "Selection":
        return select_by_lot(snapshot, out, keep=keep, seed=seed)

    made = {"worth": by_worth, "random": by_lot}[by]()
    if json:
        emit(
            {
                "path": made.snapshot.path,
                "digest": made.snapshot.digest,
                "pairs": made.pairs,
                "of": made.of,
                "unknown": made.unknown,
                "chosen": _facts(made, "chosen"),
                "lot": _facts(made, "lot"),
            }
        )
        return
    say(f"{out}: {made.pairs:,} of {made.of:,} pairs")
    if made.unknown:
        say(f"{made.unknown:,} could not be taken: a score or a quality is missing")
    chosen, lot = _facts(made, "chosen"), _facts(made, "lot")
    if chosen is not None and lot is not None:
        rows = [(name, f"{value:.3g}", f"{lot[name]:.3g}") for name, value in chosen.items()]
        table(("mean", "chosen", "by lot"), rows)
    next_steps(
        f"palate data show {out}", f"palate train --model shipped --data {out} --out runs/selected"
    )


def _facts(made: "Selection", which: str) -> dict[str, float] | None:
    from dataclasses import asdict

    figures = {"chosen": made.chosen, "lot": made.lot}[which]
    return None if figures is None else asdict(figures)


def _weights(words: str) -> "Weights":
    """`margin=1,diversity=0.5` as weights; what is left out counts nothing."""
    from palate.core.problems import unknown
    from palate.data.taste import Weights

    given = {"margin": 0.0, "quality": 0.0, "diversity": 0.0}
    for part in words.split(","):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in given:
            raise unknown("weight", name, given)
        try:
            given[name] = float(value)
        except ValueError as error:
            raise SettingError(
                got=f"weight {part!r}",
                need="a name, an equals sign and a number",
                fix="For instance --weights margin=1,quality=0.5,diversity=1.",
            ) from error
    return Weights(**given)


def _quality(words: str) -> "Quality":
    """A measure of prompts: by name, or read from a file."""
    import csv

    import numpy as np

    from palate.data.taste import LENGTH as BY_LENGTH
    from palate.data.taste import Quality

    known = {
        LENGTH: BY_LENGTH,
        NONE: Quality(name=NONE, of=lambda prompts: np.zeros(len(prompts))),
    }
    if words in known:
        return known[words]
    path = Path(words).expanduser()
    require(
        path.is_file(),
        got=f"--quality {words}",
        need="length, none, or a CSV file with the columns prompt and quality",
        fix="Check the path.",
    )
    try:
        with path.open(newline="", encoding="utf-8") as file:
            read = {row["prompt"]: float(row["quality"]) for row in csv.DictReader(file)}
    except (KeyError, ValueError, TypeError, OSError, csv.Error) as error:
        raise SettingError(
            got=f"{path}, which cannot be read ({_why(error)})",
            need="a CSV file with the columns prompt and quality, a number in each row",
            fix="Write the header line: prompt,quality.",
        ) from error
    return Quality(
        name=path.name,
        of=lambda prompts: np.array([read.get(prompt, np.nan) for prompt in prompts]),
    )


def _why(error: Exception) -> str:
    """In a few words, whatever stands in the file."""
    from textwrap import shorten

    if isinstance(error, UnicodeDecodeError):
        return f"no UTF-8 text: {error.reason} at byte {error.start:,}"
    if isinstance(error, KeyError):
        return f"no column {error}"
    return shorten(str(error), width=100, placeholder=" …")


def _texts(words: str, device: str) -> "Texts":
    """How prompts become vectors: by their words, or by a CLIP folder's text encoder."""
    from palate.cli.named import device_named
    from palate.data.spread import WORDS, Texts

    if words == "words":
        return WORDS
    require(
        words.startswith(CLIP) and len(words) > len(CLIP),
        got=f"--texts {words}",
        need="words, or clip:FOLDER",
        fix="words needs no model.",
    )
    from palate.scorers.texts import clip_texts

    folder = words.removeprefix(CLIP)
    where = device_named(device)
    return Texts(
        name=f"CLIP text encoder {Path(folder).name}",
        embed=lambda prompts: clip_texts(folder, prompts, device=where),
    )
