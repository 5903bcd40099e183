"""More people that no training knew: whoever comes later costs four pairs and no training.

    python lab/personal/newcomers.py lab/personal --work runs/personal --arm looks

Two groups are added to `drawn.csv` for each seed's training (`run.py`), which is not touched:
- `new`: 36 people of a population of their own, by the first four pairs of each that are no tie;
- `asked`: the unseen people of the split again, by four pairs chosen among all of theirs by the
  pictures alone, never by an answer, so that together they tell most (the four whose differences
  of `looks` span most in the six directions in which pairs of the training differ most).
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from run import FEW, append, asked_prompts, data_of, measured
from torch import Tensor

from palate.backbones import load
from palate.backbones.listening import Listening
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import users_of
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.recipes.people import PAIRS, PEOPLE, make_people
from palate.scorers.picture_statistics import STATISTICS, statistics
from palate.train.embedding import examples_of
from palate.train.users import open_user_encoder, read_users

PEOPLE_NEW, SEED_NEW, PAIRS_NEW = 36, 1000, 6
DIRECTIONS, RIDGE = 6, 0.1


def newcomers(seed: int, work: Path) -> tuple[PreferencePairs, dict[str, list[Pair]]]:
    """A population of its own, a few pairs each."""
    out = work / f"people-{seed}-new"
    if not (out / PEOPLE).exists():
        make_people(out, judges=PEOPLE_NEW, pairs_each=PAIRS_NEW, seed=SEED_NEW + seed)
    if not (out / "snapshot").exists():
        store = Store(out / "store")
        import_comparisons(store, "pickapic", out / PAIRS, labels="world")
        store.freeze(out / "snapshot")
    pairs = PreferencePairs.open(out / "snapshot")
    found = {name: sorted(own, key=lambda p: p.id)[:FEW] for name, own in users_of(pairs).items()}
    return pairs, {name: own for name, own in found.items() if len(own) == FEW}


def looks_of(pairs: PreferencePairs, mine: Sequence[Pair]) -> np.ndarray:
    """How the two pictures of each pair differ; which was chosen is not in it."""
    spread, rows = np.array(list(STATISTICS.values())), []
    for pair in mine:
        two = sorted((pair.chosen, pair.rejected))
        first, second = (statistics(pairs.image(name)) for name in two)
        rows.append(np.tanh((first - second) / spread))
    return np.array(rows)


def telling(rows: np.ndarray, count: int) -> list[int]:
    """The rows that span most, one after the other (greedy D-optimal design)."""
    known, chosen = RIDGE * np.eye(rows.shape[1]), list[int]()
    for _ in range(count):
        gain = np.einsum("ij,jk,ik->i", rows, np.linalg.inv(known), rows)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
        known += np.outer(rows[chosen[-1]], rows[chosen[-1]])
    return chosen


def asked_well(data: Path) -> Iterator[tuple[PreferencePairs, str, list[Pair]]]:
    """Each unseen person of the split, and the four of their pairs that tell most."""
    train = PreferencePairs.open(data / "split" / "train")
    directions = np.linalg.svd(looks_of(train, list(train)[:600]), full_matrices=False)[2]
    whole = PreferencePairs.open(data / "snapshot")
    unseen = set(users_of(PreferencePairs.open(data / "split" / "examples")))
    for name, own in users_of(whole).items():
        if name in unseen:
            rows = looks_of(whole, own) @ directions[:DIRECTIONS].T
            yield whole, name, [own[at] for at in telling(rows, FEW)]


def embeddings_of(export: Path, data: Path, seed: int, work: Path) -> dict[str, dict[str, Tensor]]:
    """By group, everybody's embedding of four pairs."""
    about = read_users(export).about
    encoder = open_user_encoder(about["users"], pooling=about["pooling"], examples=FEW)
    pairs, few = newcomers(seed, work)
    new = encoder.embed([examples_of(pairs, few[name]) for name in sorted(few)])
    well = {name: encoder.embed([examples_of(of, own)])[0] for of, name, own in asked_well(data)}
    return {"new": dict(zip(sorted(few), new, strict=True)), "asked": well}


def main() -> None:
    """Draw for everybody, and add rows."""
    torch.set_num_threads(1)
    told = argparse.ArgumentParser()
    told.add_argument("out", type=Path)
    told.add_argument("--work", type=Path, default=Path("runs/personal"))
    told.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told.add_argument("--pairs-each", type=int, default=64)
    told.add_argument("--prompts", type=int, default=32)
    told.add_argument("--arm", default="looks")
    told = told.parse_args()
    asked = asked_prompts(told.prompts, choosing=False)
    for seed in told.seeds:
        data = data_of(seed, told.pairs_each, told.work)
        export = told.work / f"{told.arm}-{seed}" / "export"
        model = load("shipped", weights=export)
        groups = embeddings_of(export, data, seed, told.work)
        beside = told.out / f"people-{seed}-new.json"
        shutil.copy(told.work / f"people-{seed}-new" / PEOPLE, beside)
        for group, people in groups.items():
            for name in sorted(people):
                key: dict[str, Any] = {"seed": seed, "arm": told.arm, "group": group}
                rows = measured(Listening(model, people[name]), asked, 0)
                append(told.out / "drawn.csv", [{**key, "drawn_for": name, **r} for r in rows])


if __name__ == "__main__":
    main()
