"""How well a few pairs tell a taste: what no model that hears it can be better than.

    python lab/personal/known.py --work runs/personal --out lab/personal/known.csv

From a number of a person's own pairs, for every person: the cosine between their true taste and
- `parts`: the mean difference of the true parts, chosen minus rejected, in units of spread;
- `looks`: what a ridge regression makes of the same pairs' `looks` embedding, learned from the true
  tastes of the seen people, which no training is told, and asked about the unseen.
Means over 40 choices of pairs for each person.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from run import SPREAD, append, data_of, direction_of

from palate.data.pairs import PreferencePairs
from palate.data.people import users_of
from palate.data.seen import EXAMPLES, TRAIN, UNSEEN
from palate.recipes.people import PEOPLE, read_tastes
from palate.scorers.users import Example
from palate.scorers.users_looks import LooksUsers
from palate.train.embedding import examples_of
from palate.world import parts

COUNTS, CHOICES, RIDGE = (1, 2, 4, 8, 16), 40, 30.0


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Row by row."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return (one * other).sum(-1) / np.maximum(lengths, 1e-12)


def difference(example: Example) -> list[float]:
    """Chosen minus rejected in each part, in units of spread."""
    chosen, rejected = (parts(each, example.prompt) for each in (example.chosen, example.rejected))
    return [(chosen[part] - rejected[part]) / size for part, size in SPREAD.items()]


def rows_of(seed: int, told: argparse.Namespace) -> list[dict[str, object]]:
    """One seed's rows."""
    data = data_of(seed, told.pairs_each, told.work)
    tastes = {n: direction_of(t).numpy() for n, t in read_tastes(data / PEOPLE).items()}
    chance = np.random.default_rng(seed)
    mine: dict[str, list[Example]] = {}
    seen: set[str] = set()
    for part in (TRAIN, EXAMPLES, UNSEEN):
        pairs = PreferencePairs.open(data / "split" / part)
        for name, own in users_of(pairs).items():
            mine.setdefault(name, []).extend(examples_of(pairs, own))
            seen |= {name} if part == TRAIN else set()
    encoder, found = LooksUsers(), []
    true = {name: np.array([difference(each) for each in own]) for name, own in mine.items()}
    for count in COUNTS:
        chosen = {
            name: [chance.choice(len(own), count, replace=False) for _ in range(CHOICES)]
            for name, own in mine.items()
        }
        ceiling = {
            name: cosine(true[name][np.array(rows)].mean(1), tastes[name]).mean()
            for name, rows in chosen.items()
        }
        looks = {
            name: encoder.embed([[mine[name][at] for at in row] for row in rows])[:, 0].numpy()
            for name, rows in chosen.items()
        }
        x = np.concatenate([looks[name] for name in sorted(seen)])
        y = np.repeat([tastes[name] for name in sorted(seen)], CHOICES, axis=0)
        read = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
        unseen = [name for name in mine if name not in seen]
        decoded = [cosine(looks[name] @ read, tastes[name]).mean() for name in unseen]
        found.append(
            {
                "seed": seed,
                "pairs": count,
                "parts": round(float(np.mean(list(ceiling.values()))), 4),
                "looks": round(float(np.mean(decoded)), 4),
                "people": len(mine),
                "unseen": len(unseen),
            }
        )
    return found


def main() -> None:
    """Write a row for each seed and number of pairs."""
    torch.set_num_threads(1)
    told = argparse.ArgumentParser()
    told.add_argument("--out", type=Path, required=True)
    told.add_argument("--work", type=Path, default=Path("runs/personal"))
    told.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told.add_argument("--pairs-each", type=int, default=64)
    told = told.parse_args()
    for seed in told.seeds:
        append(told.out, rows_of(seed, told))


if __name__ == "__main__":
    main()
