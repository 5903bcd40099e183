"""Every method on the small world, at equal pairs seen: one row per method and seed.

Run from the repository, for example:
    python lab/methods/run.py --out lab/methods/results.csv --seeds 0 1 2 -- dpo ipo kto
Without names, all of them. `--set NAME='{...}'` adds a variant under a name of its own, with the
settings given (a Python literal) over those of the method it names with `objective.name`.

Every run starts from the shipped model with the same budget: 60 steps of 32 pairs, one pass
through the shipped pairs' training part, LoRA of rank 16 on attention, the demo's learning rate.
Nothing was tuned per method: β is the published value for SD 1.5 times a quarter, the ratio
between DPO's published 2000 and the 500 that suits 64-pixel pictures here (lab/demo/sweep.csv).
The prompts asked are neither the demo's test prompts nor those any pair was made from.
"""

import argparse
import ast
import csv
import os
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from palate.backbones import load
from palate.backbones.opposed import Opposed
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.evaluate.draw import draw
from palate.evaluate.plan import Plan
from palate.evaluate.suite import evaluate
from palate.objectives import OBJECTIVES
from palate.recipes.demo import PAIRS
from palate.recipes.pairs import SAMPLER
from palate.train.log import Event
from palate.train.loop import train
from palate.train.run import Run
from palate.train.scoring import open_scorer
from palate.world import prompts

torch.set_num_threads(1)
SEED_OF_PROMPTS = 8128
STEPS, BATCH = 60, 32
COMMON: dict[str, Any] = {
    "model": "shipped",
    "adapter.rank": 16,
    "plan.steps": STEPS,
    "plan.batch": BATCH,
    "plan.learning_rate": 1.3e-3,
    "plan.schedule": "cosine",
    "plan.warmup_steps": 5,
    "plan.health_every": 30,
    "plan.save_every": 1000,
    "plan.tensorboard": "off",
    "health.pairs": 128,
    "health.stop": False,
}
QUARTER = 500.0
# What these train is what to turn away from: the shipped model draws, guided against it.
NEGATIVE = ("npo",)
ROLLOUT: dict[str, Any] = {
    "plan.batch": 4,
    "rollout.steps": 10,
    "rollout.guidance": 2.0,
}
# What differs from COMMON and from the method's own published settings, and why.
OWN: dict[str, dict[str, Any]] = {
    "dpo": {"objective.beta": QUARTER},
    "cdpo": {"objective.beta": QUARTER},
    "rdpo": {"objective.beta": QUARTER},
    # The same logit at the target: 0.005 at 2000 is 0.02 at 500.
    "ipo": {"objective.beta": 25.0},
    "hinge": {"objective.beta": QUARTER},
    "adaptive-dpo": {"objective.beta": QUARTER},
    "adaptive-ipo": {"objective.beta": 25.0},
    "dmpo": {"objective.beta": QUARTER},
    "see-dpo": {"objective.beta": QUARTER},
    # Desirable pictures weigh as often as the released code draws them.
    "kto": {"objective.beta": QUARTER, "objective.positives": 0.8},
    "mapo": {},
    "dspo": {},
    "sdpo": {"objective.beta": QUARTER},
    "capo": {"objective.beta": QUARTER, "labels.scorers": ["world:fidelity", "world:vividness"]},
    "npo": {"objective.beta": QUARTER / 2},
    "flow-dpo": {"objective.beta": 25.0},
    "dedpo": {"objective.beta": QUARTER},
    "sft": {},
    # The way to noise in 20 levels instead of 80, two of them judged per update, unguided: what
    # one core can do. The ways of the reference are computed once for all seeds.
    "inversion-dpo": {
        "objective.beta": QUARTER,
        "inversion.steps": 20,
        "inversion.visits": 2,
        "inversion.guidance": 1.0,
        "inversion.weight": "uniform",
    },
    "inpo": {"objective.beta": QUARTER},
    # Its labels come from a scorer, here the true reward: cleaner than what the others read.
    "smpo": {"objective.beta": QUARTER / 10, "labels.scorer": "world"},
    # Two rounds of half the steps; opponents drawn as everything here is (recipes/pairs.py).
    "spin": {
        "objective.beta": QUARTER,
        "selfplay.iterations": 2,
        "selfplay.steps": [STEPS // 2, STEPS // 2],
        "selfplay.sampling_steps": 8,
        "selfplay.guidance": 2.0,
    },
    # Pictures are drawn in ten steps at the guidance of everything here; four prompts an update.
    "d3po": {**ROLLOUT},
    "spo": {**ROLLOUT, "rollout.skip_first": 2},
    "lpo": {**ROLLOUT, "rollout.scorer": "latent:" + os.environ.get("LATENT_SCORER", "latent")},
}


class Clock:
    """Processor seconds of the steps alone, which other processes on the machine do not lengthen.

    One thread is used, so on an idle machine these are the seconds one waits.
    """

    def __init__(self) -> None:
        self.seconds, self.steps, self._last = 0.0, 0, time.process_time()

    def __call__(self, event: Event) -> None:
        """Count the time since the event before, where it was spent on a step."""
        now = time.process_time()
        if event.kind == "step":
            self.seconds, self.steps = self.seconds + now - self._last, self.steps + 1
        self._last = now


def run_of(name: str, values: dict[str, Any], data: Path, seed: int) -> Run:
    """The run of a method or variant on the snapshot."""
    method = values.get("objective.name", name)
    own = {**OWN.get(method, {}), **values}
    rollout = OBJECTIVES.named(method).needs.evidence[0] == "steps"
    told = {} if rollout else {"data": str(data)}
    return Run.from_values({**COMMON, "objective.name": method, "seed": seed, **told, **own})


def row_of(name: str, run: Run, work: Path, plan: Plan, drawn: Any, scorers: Any) -> dict[str, Any]:
    """Train, judge, and put both on one line."""
    started, clock = time.perf_counter(), Clock()
    folder = work / f"{name}-{run.seed}"
    # A training that is finished already is only judged again.
    resume = folder.exists()
    result = train(run, folder, cache=work / "cache", on_event=clock, resume=resume)
    training = time.perf_counter() - started
    after = load(run.model, weights=result.export)
    if run.objective.name in NEGATIVE:
        after = Opposed(load(run.model), after)
    found = evaluate(load(run.model), after, plan, scorers, pictures_before=drawn)
    last, steps = result.health[-1], result.history
    primary = found.primary
    return {
        "method": name,
        "seed": run.seed,
        "win_rate": round(primary.win_rate.value, 4),
        "low": round(primary.win_rate.low, 4),
        "high": round(primary.win_rate.high, 4),
        "winner_drift": round(last["winner_drift"], 5),
        "seconds_per_step": round(clock.seconds / max(clock.steps, 1), 4),
        "pairs_seen": sum(row["pairs"] for row in steps if row["skipped"] is None),
        "change": round(primary.difference.value, 4),
        "change_low": round(primary.difference.low, 4),
        "change_high": round(primary.difference.high, 4),
        **{f"win_{o.scorer}": round(o.win_rate.value, 4) for o in found.opinions[1:]},
        **{
            f"variety_{drift.name}_{end}": round(getattr(drift.ratio, end), 4)
            for drift in found.variety
            for end in ("value", "low", "high")
            if drift.ratio is not None
        },
        "loser_drift": round(last["loser_drift"], 5),
        "accuracy": last["accuracy"] and round(last["accuracy"]["value"], 4),
        "prompts": primary.win_rate.n,
        "training_seconds": round(training, 1),
        "settings": str(run.differences(Run.from_values({"model": "shipped", "data": "none"}))),
    }


def main() -> None:
    """Read what is wanted, and append a row for each method and seed."""
    asked = argparse.ArgumentParser()
    asked.add_argument("methods", nargs="*")
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--work", type=Path, default=Path("runs/methods"))
    asked.add_argument("--data", type=Path, help="another snapshot than the shipped pairs")
    asked.add_argument("--prompts", type=int, default=100)
    asked.add_argument("--variety", type=int, default=0)
    asked.add_argument("--set", action="append", default=[], metavar="NAME={...}")
    told = asked.parse_args()
    data = told.data or told.work / "snapshot"
    if told.data is None and not data.exists():
        store = Store(told.work / "store")
        import_comparisons(store, "pickapic", PAIRS, labels="world")
        store.freeze(data)
    variants = {
        name: ast.literal_eval(text) for name, _, text in (s.partition("=") for s in told.set)
    }
    wanted = {name: {} for name in told.methods} | variants
    plan = Plan(
        prompts=tuple(prompts("held-out", told.prompts, SEED_OF_PROMPTS)),
        primary="true reward",
        secondary=("fidelity", "vividness", "tidiness"),
        seed=SEED_OF_PROMPTS,
        variety_prompts=told.variety,
        sampler=SAMPLER,
        held_out=True,
        labelled_by=("true reward",),
    )
    scorers = [open_scorer("world")]
    scorers += [open_scorer(f"world:{part}") for part in ("fidelity", "vividness", "tidiness")]
    drawn = draw(load("shipped"), plan)
    for seed in told.seeds:
        for name, values in (wanted or {each: {} for each in OBJECTIVES.names}).items():
            try:
                row = row_of(
                    name, run_of(name, values, data, seed), told.work, plan, drawn, scorers
                )
            except Exception:
                # One method that fails must not take the others' night with it.
                traceback.print_exc()
                continue
            append(told.out, row)
            print({k: v for k, v in row.items() if k != "settings"}, flush=True)  # noqa: T201


def append(table: Path, row: dict[str, Any]) -> None:
    """One more line; the header comes with the first."""
    new = not table.exists() or os.path.getsize(table) == 0
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
