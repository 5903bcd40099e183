"""Pairs of many people with tastes of their own: pictures by a model, one person for each prompt.

What a real data set of preferences has and hides, in the small world and known: who likes what.
The pairs are written in Pick-a-Pic's parquet schema with its `user_id`, the tastes beside them in
`people.json`, by the names that the judges have after import.

Read next: `pairs.py`, the same with one question asked of a population; `palate/world/judges.py`,
how tastes are drawn.
"""

from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from palate.backbones import load
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.core.files import read_json, write_json
from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.sources import export_pickapic
from palate.recipes.pairs import SAMPLER, pickapic_rows
from palate.world import Judge, Preference, Taste, diverse, likeness, parts, prompts, weigh

PAIRS, PEOPLE = "pairs.parquet", "people.json"
# What an import makes of Pick-a-Pic's user number 7: the judge "pickapic/7".
_SOURCE: Final = "pickapic"
Answer = tuple[Judge, Preference, float]


def make_people(
    out: Path,
    *,
    model: str = "shipped",
    judges: int = 48,
    pairs_each: int = 32,
    seed: int = 0,
    strength: float = 3.0,
    flip_rate: float = 0.05,
    indifference: float = 0.1,
    quality: int = 90,
    sampler: Sampler = SAMPLER,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Draw two pictures for each training prompt, ask the person whose prompt it is, write both.

    Prompts are dealt to the judges in turn, so more pairs each only add to fewer.

    Args:
        out: The folder of `pairs.parquet` and `people.json`.
        model: Who draws: a folder, a Hub id or "shipped".
        judges: How many people.
        pairs_each: Prompts that each of them is asked about.
        seed: Everything is a function of it.
        strength: How much taste decides, in logits (`palate.world.diverse`).
        flip_rate: Chance that a judge presses the wrong button.
        indifference: Reward difference below which a judge calls a tie.
        quality: JPEG quality of the pictures.
        sampler: How the pictures are drawn.
        progress: Told (done, total) pictures.

    Returns:
        What was made: rows, ties, how often labels agree with the judge's own true reward, the
        median difference of true reward, the most opposed and the most alike tastes.

    Raises:
        SettingError: for fewer than one judge or pair, or more prompts than the world has.
    """
    require(
        pairs_each >= 1,
        got=f"pairs_each={pairs_each}",
        need="at least one pair for each judge",
        fix="Use 32: 4 to know a person by, the others to learn from.",
    )
    people = diverse(
        judges, seed, strength=strength, flip_rate=flip_rate, indifference=indifference
    )
    captions = prompts("train", judges * pairs_each, seed)
    backbone = load(model)
    names = [(caption, index) for caption in captions for index in (0, 1)]
    noise = starting_noise(backbone, names, seed)
    drawn = sample(backbone, [name[0] for name in names], noise, sampler, progress=progress).numpy()
    answers = [
        _ask(people[row % judges], caption, drawn[2 * row : 2 * row + 2], seed)
        for row, caption in enumerate(captions)
    ]
    export_pickapic(pickapic_rows(captions, drawn, answers, model, quality), out / PAIRS)
    tastes = {name_of(judge): asdict(judge.taste) for judge in people}
    write_json(out / PEOPLE, {"seed": seed, "strength": strength, "tastes": tastes})
    return _facts(people, answers)


def name_of(judge: Judge) -> str:
    """What a judge of `make_people` is called once the pairs are imported."""
    return f"{_SOURCE}/{int(judge.id.rpartition('-')[2])}"


def read_tastes(path: Path) -> dict[str, Taste]:
    """Name after import → taste, from `people.json`.

    Raises:
        DataError: when the file tells no tastes.
    """
    told: Any = read_json(path)
    require(
        isinstance(told, dict) and isinstance(told.get("tastes"), dict),
        got=f"{path}, which tells no tastes",
        need="the people.json that `palate world people` writes",
        fix="Name that file.",
        kind=DataError,
    )
    return {name: Taste(**weights) for name, weights in told["tastes"].items()}


def _ask(judge: Judge, caption: str, two: NDArray[np.uint8], seed: int) -> Answer:
    """Who was asked, the answer, and how much better the first is to them."""
    a, b = (parts(picture, caption) for picture in two)
    gap = weigh(a, judge.taste) - weigh(b, judge.taste)
    return judge, judge.prefer_by(gap, Streams(seed)("answer", caption)), gap


def _facts(people: list[Judge], answers: list[Answer]) -> dict[str, Any]:
    clear = [(said is Preference.A, gap) for _, said, gap in answers if said is not Preference.TIE]
    pairs = [likeness(one.taste, other.taste) for one, other in combinations(people, 2)]
    return {
        "rows": len(answers),
        "ties": len(answers) - len(clear),
        "judges": len(people),
        "labels_as_their_own_taste": float(np.mean([said == (gap > 0) for said, gap in clear])),
        "median_gap": float(np.median([abs(gap) for _, _, gap in answers])),
        "most_opposed": min(pairs, default=1.0),
        "most_alike": max(pairs, default=1.0),
    }
