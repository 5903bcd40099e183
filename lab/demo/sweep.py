"""Settings for the demo, compared on prompts of the training split that no pair was made from.

Run from the repository: `python lab/demo/sweep.py PAIRS.parquet OUT.csv [MODEL]`. One line per setting; the
demo's own test prompts are never drawn here.
"""

import csv
import os
import sys
from pathlib import Path
from typing import Any

import torch

from palate.backbones import load
from palate.core.problems import HealthStop
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.evaluate.draw import draw
from palate.evaluate.plan import Plan
from palate.evaluate.suite import evaluate
from palate.recipes.pairs import SAMPLER
from palate.train.loop import train
from palate.train.run import Run
from palate.world import prompts
from palate.world.truth import RewardPart, TrueReward

torch.set_num_threads(1)
CHOOSING_SEED = 4711
COMMON: dict[str, Any] = {
    "plan.batch": 32,
    "plan.warmup_steps": 10,
    "plan.health_every": 25,
    "plan.save_every": 1000,
    "plan.tensorboard": "off",
    "health.stop": False,
}


def settings() -> dict[str, dict[str, Any]]:
    """Name → settings, from the environment variable SWEEP (a Python literal) or the default."""
    if "SWEEP" in os.environ:
        import ast

        return ast.literal_eval(os.environ["SWEEP"])
    return {}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def main(pairs: Path, table: Path, model: str = "shipped") -> None:
    """Train and judge each setting; append one row each."""
    work = Path(os.environ.get("SWEEP_FOLDER", "runs/sweep"))
    store, snapshot = Store(work / "store"), work / "snapshot"
    import_comparisons(store, "pickapic", pairs)
    if not snapshot.exists():
        store.freeze(snapshot)
    count = int(os.environ.get("SWEEP_PROMPTS", "100"))
    plan = Plan(
        prompts=tuple(prompts("train", 12000, CHOOSING_SEED)[-count:]),
        primary="true reward",
        secondary=("fidelity", "vividness", "tidiness"),
        seed=CHOOSING_SEED,
        sampler=SAMPLER,
    )
    before = load(model)
    drawn = draw(before, plan)
    scorers = [TrueReward(), RewardPart("fidelity"), RewardPart("vividness"), RewardPart("tidiness")]
    for name, values in settings().items():
        run = Run.from_values({"model": model, "data": str(snapshot), **COMMON, **values})
        try:
            result = train(run, work / name, cache=work / "cache")
        except HealthStop as stop:
            print(name, stop)
            continue
        after = load(model, weights=result.export)
        found = evaluate(before, after, plan, scorers, pictures_before=drawn)
        last = result.health[-1]
        row = {
            "name": name,
            **{f"win_{o.scorer}": round(o.win_rate.value, 3) for o in found.opinions},
            "low": round(found.primary.win_rate.low, 3),
            "high": round(found.primary.win_rate.high, 3),
            **{f"change_{o.scorer}": round(o.difference.value, 4) for o in found.opinions},
            "winner_drift": _rounded(last["winner_drift"]),
            "loser_drift": _rounded(last["loser_drift"]),
            "accuracy": last["accuracy"] and round(last["accuracy"]["value"], 3),
            "seconds": round(result.seconds, 1),
            "drift_over_time": " ".join(str(_rounded(r["winner_drift"])) for r in result.health),
            "settings": str(values),
        }
        new = not table.exists()
        with table.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
