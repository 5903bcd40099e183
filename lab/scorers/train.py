"""Two step-aware scorers taught briefly on the shipped pairs, beside the exact reward.

    python lab/scorers/train.py FOLDER

Writes `lab/scorers/accuracy.csv`: the share of held-out pairs put in the judges' order, by band of
noise. The exact reward is asked about the same predicted pictures, as the most that labels as noisy
as these allow a scorer of predicted pictures.
"""

import csv
import sys
from pathlib import Path

import torch

from palate.core.files import read_json
from palate.core.stats import Estimate
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.recipes.demo import PAIRS
from palate.recipes.step_accuracy import step_accuracy
from palate.recipes.step_scorer import Lesson, open_studio, train_step_scorer
from palate.world.truth import TrueReward
from palate.scorers import Timeless

LESSONS = {
    "latent": Lesson(
        steps=400, batch=16, learning_rate=3e-4, warmup_steps=20, guidance=2.0, held_out=0.25
    ),
    "step-clip": Lesson(
        steps=200, batch=16, learning_rate=5e-4, warmup_steps=20, guidance=2.0, held_out=0.25
    ),
}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    store, snapshot = Store(folder / "store"), folder / "snapshot"
    if not snapshot.exists():
        import_comparisons(store, "pickapic", PAIRS, labels="world")
        store.freeze(snapshot)
    rows = []
    for kind, lesson in LESSONS.items():
        out = folder / kind
        if not out.exists():
            train_step_scorer(kind, snapshot, "shipped", out, lesson=lesson, cache=folder / "cache")
        facts = read_json(out / "training.json")
        print(kind, f"{facts['seconds']:.0f} s, last loss {facts['last_loss']:.4f}", flush=True)
        rows += [(kind, band, Estimate.from_json(each)) for band, each in facts["accuracy"].items()]
    studio = open_studio(snapshot, "shipped", LESSONS["latent"], cache=folder / "cache")
    truth = step_accuracy(Timeless(TrueReward()), studio.showing, list(studio.held_out))
    rows += [("exact reward, timeless", band, each) for band, each in truth.items()]
    with (Path(__file__).parent / "accuracy.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["scorer", "band", "accuracy", "low", "high", "prompts", "pairs"])
        for name, band, each in rows:
            numbers = [f"{number:.4f}" for number in (each.value, each.low, each.high)]
            table.writerow([name, band, *numbers, each.n, each.measurements])
            print(f"{name:24s} {band:10s} {each}")


main(Path(sys.argv[1]))
