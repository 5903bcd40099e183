"""From many people's pairs to the directions in which they disagree, kept in a folder.

The folder is an encoder like any other: `personal.users=taste:FOLDER`. It must be made from pairs
that are trained with, never from those that people are judged by.

Read next: `palate/scorers/taste_space.py`, what is computed.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from palate.core.files import new_folder
from palate.core.problems import SettingError, require
from palate.data.pairs import PreferencePairs
from palate.data.people import different, usable
from palate.scorers.taste_space import fit, foretold, save
from palate.train.embedding import examples_of
from palate.train.users import check_encoder, open_user_encoder


def fit_tastes(
    pairs: PreferencePairs,
    by: str,
    out: Path,
    *,
    dimensions: int = 4,
    ridge: float = 10.0,
    examples: int = 4,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Learn in which directions the people of a snapshot disagree, and write them into a folder.

    Args:
        pairs: Of whom is learned; each two pictures of a person count once.
        by: Who makes a row of each choice: `looks` or `clip:FOLDER`.
        out: The new folder.
        dimensions: How many directions.
        ridge: How strongly weights are held to zero.
        examples: Of how many pairs somebody is usually known.
        seed: Names every draw.
        device: Where rows are made.

    Returns:
        What the folder says of itself, with how well left-out choices are foretold.

    Raises:
        DataError: when there is nobody, or too few people for so many directions.
        SettingError: for an encoder that gives no row per choice.
        StateError: when the folder is there already.
    """
    check_encoder(by)
    kind = by.partition(":")[0]
    require(
        kind in ("looks", "clip"),
        got=f"tastes from {by}",
        need="looks or clip:FOLDER, which give a row of numbers for each choice",
        fix="Use --by looks, which needs no download.",
        kind=SettingError,
    )
    encoder: Any = open_user_encoder(by, examples=examples, device=device)
    everybody = usable(pairs)
    rows: dict[str, Tensor] = {
        user: encoder.differences(examples_of(pairs, different(own))).double()
        for user, own in everybody.pairs.items()
    }
    how: dict[str, Any] = {"dimensions": dimensions, "ridge": ridge, "seed": seed}
    space = fit(rows, examples=examples, **how)
    about = {
        "by": by,
        "rows": encoder.identity,
        "examples": examples,
        **how,
        "data": pairs.digest,
        "left_out_choices": asdict(foretold(rows, **how)),
    }
    with new_folder(out) as folder:
        save(space, folder, about)
    return about
