"""Win rates of what `run.py` drew: one row per arm, group of people and question.

    python lab/personal/table.py lab/personal/drawn.csv --out lab/personal/results.csv

Every seed's people judge what was drawn for each of their own group, by the tastes in
`people-SEED.json` beside it. Intervals `low` and `high` take people as chance, `low_both` and
`high_both` people and prompts, `low_trainings` and `high_trainings` trainings: the interval of
their means by Student.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from palate.core.stats import Estimate
from palate.evaluate.crossed import Crossed
from palate.evaluate.personal import verdicts
from palate.evaluate.two_way import two_way
from palate.recipes.people import read_tastes
from palate.world import Taste, weigh

PARTS = ("fidelity", "vividness", "tidiness", "composition")
POOLED = "pooled"
# People who came later are of a population of their own (`newcomers.py`).
NEW = "new"
# (seed, arm, group, drawn for) → the four numbers of each picture, [prompts, 4].
Drawn = dict[tuple[int, str, str, str], np.ndarray]


def read(table: Path) -> Drawn:
    """What was drawn, by prompt in order."""
    rows: dict[tuple[int, str, str, str], dict[int, list[float]]] = defaultdict(dict)
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            key = (int(row["seed"]), row["arm"], row["group"], row["drawn_for"])
            rows[key][int(row["prompt"])] = [float(row[part]) for part in PARTS]
    return {key: np.array([found[at] for at in sorted(found)]) for key, found in rows.items()}


def worth(taste: Taste, measured: np.ndarray) -> np.ndarray:
    """A taste's reward of each picture."""
    return np.array([weigh(dict(zip(PARTS, row, strict=True)), taste) for row in measured.tolist()])


def crossed(drawn: Drawn, seed: int, arm: str, group: str, pooled: str, people: Path) -> Crossed:
    """One training's rewards among the people of a group."""
    tastes = read_tastes(
        people / (f"people-{seed}-new.json" if group == NEW else f"people-{seed}.json")
    )
    users = sorted(name for s, a, g, name in drawn if (s, a, g) == (seed, arm, group))
    base = drawn[seed, "base", "base", ""]
    everyone = drawn.get((seed, pooled, pooled, ""))
    return Crossed(
        users=tuple(users),
        prompts=tuple(map(str, range(len(base)))),
        personal=np.array(
            [[worth(tastes[u], drawn[seed, arm, group, v]) for v in users] for u in users]
        ),
        base=np.array([worth(tastes[u], base) for u in users]),
        pooled=None if everyone is None else np.array([worth(tastes[u], everyone) for u in users]),
    )


def shifts(drawn: Drawn, seeds: list[int], arm: str, group: str) -> dict[str, np.ndarray]:
    """How much each part changed from the base on average, one number per person."""
    keys = [key for key in drawn if key[1:3] == (arm, group) and key[0] in seeds]
    change = [np.nanmean(drawn[key] - drawn[key[0], "base", "base", ""], axis=0) for key in keys]
    return {part: np.array(change)[:, at] for at, part in enumerate(PARTS)}


def rows_of(drawn: Drawn, pooled: str, people: Path) -> Iterator[dict[str, Any]]:
    """A row for each question; of all seeds together and of each."""
    groups = sorted({(arm, group) for _, arm, group, name in drawn if name})
    for arm, group in groups:
        seeds = sorted({s for s, a, g, _ in drawn if (a, g) == (arm, group)})
        for which in [seeds, *([seed] for seed in seeds if len(seeds) > 1)]:
            found = [crossed(drawn, seed, arm, group, pooled, people) for seed in which]
            key = {"arm": arm, "group": group, "seeds": " ".join(map(str, which))}
            both, each = two_way(found), [verdicts(one) for one in found]
            for question, said in verdicts(found).items():
                means = [one[question].value for one in each if question in one]
                yield {
                    **key,
                    "question": question,
                    **_plain(said, both.get(question)),
                    **_of_trainings(means),
                }
            for part, change in shifts(drawn, which, arm, group).items():
                yield {
                    **key,
                    "question": f"{part}_change",
                    "value": round(float(change.mean()), 4),
                    "n": len(change),
                }


def _plain(said: Estimate, both: Estimate | None) -> dict[str, Any]:
    told = {"value": round(said.value, 4), "low": round(said.low, 4), "high": round(said.high, 4)}
    told["n"] = said.n
    if both is not None:
        told |= {"low_both": round(both.low, 4), "high_both": round(both.high, 4)}
    return told


def _of_trainings(means: list[float]) -> dict[str, float]:
    """What other trainings on other people would give on average; nothing for a single one."""
    if len(means) < 2:
        return {}
    half = stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / len(means) ** 0.5
    middle = float(np.mean(means))
    return {
        "low_trainings": round(middle - float(half), 4),
        "high_trainings": round(middle + float(half), 4),
    }


def main() -> None:
    """Read what was drawn, write what follows."""
    told = argparse.ArgumentParser()
    told.add_argument("drawn", type=Path)
    told.add_argument("--out", type=Path)
    told.add_argument("--pooled", default=POOLED, help="the arm that is everybody's pairs as one")
    told = told.parse_args()
    rows = list(rows_of(read(told.drawn), told.pooled, told.drawn.parent))
    for row in rows:
        if not told.out or len(row["seeds"].split()) > 1:
            print({k: v for k, v in row.items() if v is not None})  # noqa: T201
    if told.out:
        columns = ["arm", "group", "seeds", "question", "value", "low", "high", "n"]
        columns += [f"{end}_{unit}" for unit in ("both", "trainings") for end in ("low", "high")]
        with told.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
