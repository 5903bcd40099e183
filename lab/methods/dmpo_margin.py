"""DMPO's finite target margin: few pairs, learned by heart, with DPO beside it.

Run from the repository: `python lab/methods/dmpo_margin.py --out lab/methods/dmpo_margin.csv`.
48 pairs, 40 of them trained on 20 times over: DPO's logit has no end to go to, DMPO's is pulled
to m* = log((1 − α)/α) from both sides. One row per method, α, seed and step.
"""

import argparse
import csv
import math
from pathlib import Path
from typing import Any

import torch

from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.recipes.demo import PAIRS
from palate.train.loop import train
from palate.train.run import Run

torch.set_num_threads(1)
COMMON: dict[str, Any] = {
    "model": "shipped",
    "adapter.rank": 16,
    "plan.steps": 100,
    "plan.batch": 8,
    "plan.learning_rate": 2e-3,
    "plan.warmup_steps": 5,
    "plan.health_every": 100,
    "plan.save_every": 1000,
    "plan.tensorboard": "off",
    "health.pairs": 4,
    "health.stop": False,
    # Few levels, so that the pairs can be learned by heart at all.
    "noise.lowest": 0.3,
    "noise.highest": 0.7,
}
BETA = 4000.0
VARIANTS: dict[str, dict[str, Any]] = {
    "dpo": {"objective.name": "dpo"},
    "dmpo 0.1": {"objective.name": "dmpo", "objective.alpha": 0.1},
    "dmpo 0.01": {"objective.name": "dmpo", "objective.alpha": 0.01},
}


def main() -> None:
    """Train each variant with each seed, and write how far the logits went."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--work", type=Path, default=Path("runs/dmpo-margin"))
    told = asked.parse_args()
    data = told.work / "snapshot"
    if not data.exists():
        store = Store(told.work / "store")
        import_comparisons(store, "pickapic", PAIRS, labels="world", limit=48)
        store.freeze(data)
    with told.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "step", "logit", "target"])
        for seed in told.seeds:
            for name, values in VARIANTS.items():
                settings = {"data": str(data), "seed": seed, "objective.beta": BETA}
                run = Run.from_values({**COMMON, **settings, **values})
                result = train(run, told.work / f"{name}-{seed}", cache=told.work / "cache")
                alpha = values.get("objective.alpha")
                target = "" if alpha is None else round(math.log((1 - alpha) / alpha), 4)
                for row in result.history:
                    logit = round(0.5 * BETA * row["margin"], 4)
                    writer.writerow([name, seed, row["step"], logit, target])
                file.flush()


if __name__ == "__main__":
    main()
