"""Real human votes: what five people each gave 800 pictures, and what ten metrics said of them.

The two files are public (https://github.com/j-min/DSG and https://github.com/Yushi-Hu/tifa, both
Apache-2.0) and are not part of this repository: a folder that holds them is an argument, and only
the files named here by digest are read. Five models drew each of 160 prompts; the same five
workers rated every picture from 1 to 5 for how well it fits its prompt, and two other raters did
so as well. A pair is two models' pictures of one prompt; a worker prefers the picture they gave
the higher rating, and equal ratings are a tie. Nobody was shown two pictures side by side, so
these are orders that people's ratings imply, and there is no position to be biased by.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from palate.data.comparison import Comparison, ImageRef, compare

RATINGS = "tifa160_five_workers.csv"
SCORES = "tifa160_metric_scores.json"
DIGESTS = {
    RATINGS: "61c9ff41b9f9fc26a44bbaf5540caeb67c09a9e3039536567f3e45d40ad0e9f8",
    SCORES: "1720bb802c3c0821dd56df0d8c20a1214ff5085d7e5d9236a75736b1d39b7b3c",
}
# The two files call the five models by different names.
MODELS = {
    "mini-dalle": "mini_dalle",
    "sd1dot1": "stable_diffusion_v1_1",
    "sd1dot5": "stable_diffusion_v1_5",
    "sd2dot1": "stable_diffusion_v2_1",
    "vq-diffusion": "vq_diffusion",
}
METRICS = (
    "meteor", "bleu", "rouge", "spice", "clipscore_vitb32",
    "tifa_vilt", "tifa_git-large", "tifa_ofa-large", "tifa_blip2-flant5xl", "tifa_mplug-large",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """One picture, and what was said of it.

    Attributes:
        item: Id of its prompt; five pictures share one.
        model: Which model drew it, as the file of scores names it.
        prompt: The prompt's text.
        ratings: From 1 to 5, by worker; five workers, on four pictures four or on one three.
        two: The two other raters' ratings.
        scores: What the automatic metrics said, by name; higher is better.
    """

    item: str
    model: str
    prompt: str
    ratings: Mapping[str, int]
    two: tuple[int, int]
    scores: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean of the workers' ratings."""
        return sum(self.ratings.values()) / len(self.ratings)


def read(folder: Path | str) -> list[Rated]:
    """The 800 pictures, by item and model.

    Raises:
        ValueError: when a file is not the one whose digest is written here.
    """
    contents = {name: (Path(folder) / name).read_bytes() for name in DIGESTS}
    for name, digest in DIGESTS.items():
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != digest:
            raise ValueError(f"{name} has digest {found[:12]} instead of {digest[:12]}")
    ratings: dict[tuple[str, str], dict[str, int]] = {}
    for row in csv.DictReader(contents[RATINGS].decode("utf-8").splitlines()):
        of = ratings.setdefault((row["source_id"], MODELS[row["t2i_model"]]), {})
        of[row["worker_id"]] = int(row["answer"])
    scored = json.loads(contents[SCORES])
    return [
        Rated(
            item=item,
            model=model,
            prompt=scored[f"{item}_{model}"]["text"],
            ratings=given,
            two=tuple(scored[f"{item}_{model}"]["human_scores"]),
            scores={name: scored[f"{item}_{model}"][name] for name in METRICS},
        )
        for (item, model), given in sorted(ratings.items())
    ]


def pairs_of(rated: Iterable[Rated]) -> list[tuple[Rated, Rated]]:
    """Every two models' pictures of one prompt: ten per prompt, 1,600 in all."""
    items: dict[str, list[Rated]] = {}
    for each in rated:
        items.setdefault(each.item, []).append(each)
    return [pair for of in items.values() for pair in combinations(of, 2)]


def votes_on(first: Rated, second: Rated) -> dict[str, int]:
    """By worker who rated both: 1 prefers the first picture, −1 the second, 0 is a tie."""
    both = [name for name in first.ratings if name in second.ratings]
    gaps = {name: first.ratings[name] - second.ratings[name] for name in both}
    return {name: (gap > 0) - (gap < 0) for name, gap in gaps.items()}


def comparisons(rated: Iterable[Rated]) -> list[Comparison]:
    """The same as records: one per worker and pair, 7,980 in all.

    There are no pictures here, so a picture's digest is that of its item and model.
    """
    return [
        compare(
            prompt=first.prompt,
            images=[_picture(first), _picture(second)],
            agreement=0.5 + 0.5 * vote,
            judge=f"worker {worker}",
            source="human",
            generation=[{"model": first.model}, {"model": second.model}],
            origin=first.item,
        )
        for first, second in pairs_of(rated)
        for worker, vote in votes_on(first, second).items()
    ]


def _picture(rated: Rated) -> ImageRef:
    name = hashlib.sha256(f"{rated.item} {rated.model}".encode()).hexdigest()
    return ImageRef(sha256=name, width=512, height=512)
