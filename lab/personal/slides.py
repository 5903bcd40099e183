"""From one person to another of nearly the opposite taste: what each of the two makes of the way.

    python lab/personal/slides.py lab/personal --work runs/personal

For the most opposed people of each seed and group, pictures of the same prompts and noise are
drawn for mixtures of both, and both judge them by their true taste. One row per pair of people and
share goes to `slides.csv`, what follows of all pairs to `curves.json`, and to `strip-GROUP.png` the
pictures of one seed's most opposed two. Training (`run.py`) comes before.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from run import append, asked_prompts, data_of, embeddings_of
from torch import Tensor

from palate.backbones import load
from palate.cli.pictures import strip
from palate.evaluate.slide import Curve, Slide, curve, slide
from palate.recipes.follow import opposed
from palate.recipes.pairs import SAMPLER
from palate.recipes.people import PEOPLE, read_tastes
from palate.world import TrueReward, likeness

SHARES = tuple(step / 6 for step in range(7))
PAIRS_OF_PEOPLE, PROMPTS, SHOWN = 4, 24, 8
# Of the shown ones, those in the strip: different scenes and grounds.
ROWS = (0, 2, 5, 7)


def drawn(
    seed: int, arm: str, told: argparse.Namespace
) -> list[tuple[str, float, dict[str, Tensor], Slide]]:
    """The slides of one seed: group, likeness, both embeddings and what was drawn."""
    data = data_of(seed, told.pairs_each, told.work)
    tastes = read_tastes(data / PEOPLE)
    export = told.work / f"{arm}-{seed}" / "export"
    model = load("shipped", weights=export)
    asked, found = asked_prompts(PROMPTS, choosing=told.choosing), []
    for group, people in embeddings_of(arm, export, data).items():
        for a, b in opposed(sorted(people), tastes)[:PAIRS_OF_PEOPLE]:
            way = slide(
                model,
                people[a],
                people[b],
                SHARES,
                (TrueReward(tastes[a]), TrueReward(tastes[b])),
                asked,
                names=(a, b),
                sampler=SAMPLER,
                shown=SHOWN,
            )
            found.append((group, likeness(tastes[a], tastes[b]), people, way))
    return found


def rows_of(seed: int, group: str, alike: float, way: Slide) -> list[dict[str, Any]]:
    """Mean rewards of both along one way."""
    return [
        {
            "seed": seed,
            "group": group,
            "a": way.names[0],
            "b": way.names[1],
            "likeness": round(alike, 4),
            "share": round(share, 4),
            "reward_a": round(float(np.nanmean(way.reward_a[at])), 4),
            "reward_b": round(float(np.nanmean(way.reward_b[at])), 4),
        }
        for at, share in enumerate(SHARES)
    ]


def told_of(found: Curve) -> dict[str, Any]:
    """A trade-off with its intervals, as plain values."""
    return {
        "pairs_of_people": found.first[0].n,
        "shares": [round(share, 4) for share in found.shares],
        "first": [_three(each) for each in found.first],
        "second": [_three(each) for each in found.second],
        **{
            name: {
                "course": way.course,
                "steps": [_three(each) for each in way.steps],
                "whole": _three(way.whole),
                "unbroken": _three(way.unbroken),
            }
            for name, way in (("first falls", found.falls), ("second rises", found.rises))
        },
    }


def _three(said: Any) -> list[float]:
    return [round(value, 4) for value in (said.value, said.low, said.high)]


def picture_of(way: Slide) -> Image.Image:
    """A row for each of a few prompts, a column for each share."""
    assert way.pictures is not None
    rows = way.pictures.transpose(1, 0, 2, 3, 4)
    labels = [f"{share:.0%}" for share in way.shares]
    return strip(
        [list(rows[at]) for at in ROWS], [way.prompts[at] for at in ROWS], labels, side=128
    )


def main() -> None:
    """Draw all ways; write what was measured, and of one seed the pictures."""
    told = argparse.ArgumentParser()
    told.add_argument("out", type=Path)
    told.add_argument("--work", type=Path, default=Path("runs/personal"))
    told.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told.add_argument("--pairs-each", type=int, default=64)
    told.add_argument("--arm", default="looks")
    told.add_argument("--show", type=int, default=1, help="the seed whose pictures are shown")
    told.add_argument("--choosing", action="store_true")
    told = told.parse_args()
    ways: dict[str, list[Slide]] = {}
    first: dict[str, Slide] = {}
    for seed in told.seeds:
        for group, alike, _, way in drawn(seed, told.arm, told):
            append(told.out / "slides.csv", rows_of(seed, group, alike, way))
            if seed == told.show:
                first.setdefault(group, way)
            ways.setdefault(group, []).append(way)
    for group, way in first.items():
        picture_of(way).save(told.out / f"strip-{group}.png")
    curves = {group: told_of(curve(several)) for group, several in ways.items()}
    (told.out / "curves.json").write_text(json.dumps(curves, indent=1) + "\n")
    with (told.out / "slides.csv").open(newline="") as file:
        print(f"{sum(1 for _ in csv.DictReader(file))} rows")  # noqa: T201


if __name__ == "__main__":
    main()
