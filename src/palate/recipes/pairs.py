"""Preference pairs of the small world: pictures by a model, judged by a noisy population.

The shipped pairs were made by this recipe (the command is in `lab/pairs/README.md`). They are
written in Pick-a-Pic's own parquet schema, so the demo imports them like anyone's data.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.backbones import load
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.core.streams import Streams
from palate.data.sources import export_pickapic, jpeg
from palate.world import MAJORITY, Judge, Preference, parts, population, prompts, weigh

# Enough steps for this model; little guidance leaves its taste as it learned it.
SAMPLER = Sampler(steps=8, guidance=2.0)
# A fixed date: the file is a function of its seed, to the byte.
MADE_AT = datetime(2026, 11, 21, tzinfo=UTC)


def make_pairs(
    out: Path,
    *,
    model: str = "shipped",
    count: int = 1600,
    seed: int = 0,
    judges: int = 12,
    minority: float = 0.1,
    flip_rate: float = 0.05,
    indifference: float = 0.1,
    quality: int = 90,
    sampler: Sampler = SAMPLER,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Draw two pictures for each of `count` training prompts and ask one judge about each pair.

    Args:
        out: The parquet file.
        model: Who draws: a folder, a Hub id or "shipped".
        count: Pairs, one per prompt.
        seed: Everything is a function of it.
        judges: Size of the population.
        minority: Share of judges with the opposite taste.
        flip_rate: Chance that a judge presses the wrong button.
        indifference: Reward difference below which a judge calls a tie.
        quality: JPEG quality of the pictures.
        sampler: How the pictures are drawn.
        progress: Told (done, total) pictures.

    Returns:
        What was made: rows, ties, share of labels that agree with the majority's true reward.
    """
    backbone = load(model)
    captions = prompts("train", count, seed)
    names = [(caption, index) for caption in captions for index in (0, 1)]
    noise = starting_noise(backbone, names, seed)
    drawn = sample(backbone, [name[0] for name in names], noise, sampler, progress=progress).numpy()
    people = population(
        judges, seed, minority=minority, flip_rate=flip_rate, indifference=indifference
    )
    answers = [
        _ask(people, captions[row], drawn[2 * row : 2 * row + 2], seed) for row in range(count)
    ]
    export_pickapic(pickapic_rows(captions, drawn, answers, model, quality), out)
    ties = sum(answer is Preference.TIE for _, answer, _ in answers)
    clear = [
        (gap > 0, answer is Preference.A)
        for _, answer, gap in answers
        if answer is not Preference.TIE
    ]
    right = sum(better == said for better, said in clear)
    return {
        "rows": count,
        "ties": ties,
        "labels_as_the_majority": right / max(1, count - ties),
        "judges": judges,
        "bytes": out.stat().st_size,
    }


def _ask(
    people: list[Judge], caption: str, two: NDArray[np.uint8], seed: int
) -> tuple[Judge, Preference, float]:
    """Who was asked, the answer, and how much better the first is to the majority."""
    chance = Streams(seed)
    judge = people[chance("who", caption).integer(0, len(people))]
    a, b = (parts(picture, caption) for picture in two)
    gap = weigh(a, judge.taste) - weigh(b, judge.taste)
    majority = weigh(a, MAJORITY) - weigh(b, MAJORITY)
    return judge, judge.prefer_by(gap, chance("answer", caption)), majority


def pickapic_rows(
    captions: list[str],
    drawn: NDArray[np.uint8],
    answers: list[tuple[Judge, Preference, float]],
    model: str,
    quality: int,
) -> Iterator[dict[str, Any]]:
    """The answers as Pick-a-Pic rows: a tie is 0.5 on both sides and has no best picture."""
    label = {Preference.A: 1.0, Preference.B: 0.0, Preference.TIE: 0.5}
    for row, (caption, (judge, answer, _)) in enumerate(zip(captions, answers, strict=True)):
        uids = [f"{row:05d}-{side}" for side in (0, 1)]
        best = {Preference.A: uids[0], Preference.B: uids[1], Preference.TIE: "tie"}
        yield {
            "caption": caption,
            "jpg_0": jpeg(drawn[2 * row], quality),
            "jpg_1": jpeg(drawn[2 * row + 1], quality),
            "label_0": label[answer],
            "label_1": 1 - label[answer],
            "best_image_uid": best[answer],
            "image_0_uid": uids[0],
            "image_1_uid": uids[1],
            "model_0": model,
            "model_1": model,
            "user_id": int(judge.id.rpartition("-")[2]),
            "ranking_id": row,
            "are_different": True,
            "has_label": True,
            "num_example_per_prompt": 1,
            "created_at": MADE_AT,
        }
