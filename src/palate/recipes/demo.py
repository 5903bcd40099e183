"""The demo: from preference pairs to a measurably better model, in one function.

This is the first page of the tour. The story is the same for a model and pairs of your own:
import what people said, freeze it, train, and ask on prompts nobody trained on whether it helped.

Read next: `palate/train/loop.py` (what "train" means), `palate/train/denoise.py` (what is
compared), `palate/core/contrast.py` (the words), `palate/objectives/dpo.py` (the formula).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from palate.backbones import load
from palate.core.files import write_json
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.evaluate.plan import Plan
from palate.evaluate.suite import evaluate
from palate.recipes.pairs import SAMPLER
from palate.report.report import Report
from palate.train.log import Event
from palate.train.loop import train
from palate.train.run import Run
from palate.world import TASTE_PARTS, prompts
from palate.world.truth import RewardPart, TrueReward

Say = Callable[[str], None]
PAIRS = Path(__file__).parent / "shipped_pairs" / "pairs.parquet"

# Chosen on other prompts than the demo's test prompts: lab/demo/sweep.csv.
SETTINGS: dict[str, Any] = {
    "model": "shipped",
    "objective": {"name": "dpo", "beta": 500.0},
    "adapter.rank": 16,
    "plan.steps": 120,
    "plan.batch": 32,
    "plan.learning_rate": 1.3e-3,
    "plan.schedule": "cosine",
    "plan.warmup_steps": 10,
    "plan.save_every": 40,
    "plan.health_every": 30,
    "health.pairs": 128,
    "split.held_out": 0.1,
}
QUICK: dict[str, Any] = {
    "plan.steps": 4,
    "plan.warmup_steps": 2,
    "plan.batch": 8,
    "plan.health_every": 2,
}
TEST_PROMPTS, TEST_SEED = 250, 2026


def demo(out: Path, *, say: Say, quick: bool = False) -> dict[str, Any]:
    """Align the shipped model with the shipped pairs; leave `report.html` and `result.json`.

    Args:
        out: Where everything goes. A demo that was interrupted goes on where it stopped.
        say: Told one line per step of the story.
        quick: A few steps and prompts, to see that everything works.

    Returns:
        The headline numbers, as in `result.json`.
    """
    started = time.perf_counter()
    # One thread: faster than two on a busy laptop, and the same bits everywhere.
    torch.set_num_threads(1)

    say("1/4  What people said: importing the shipped preference pairs")
    store = Store(out / "store")
    rows = 200 if quick else None
    say(str(import_comparisons(store, "pickapic", PAIRS, labels="world", limit=rows)))
    snapshot = out / "snapshot"
    if not snapshot.exists():
        store.freeze(snapshot)

    say("2/4  Learning: Diffusion-DPO on the shipped model")
    run = Run.from_values({**SETTINGS, "data": str(snapshot), **(QUICK if quick else {})})
    folder = out / "run"
    result = train(run, folder, resume=folder.exists(), on_event=_narrate(say), cache=out / "cache")
    say(f"     {result.sentence}")

    say("3/4  Asking whether it helped: the same held-out prompts and noise for both models")
    count = 12 if quick else TEST_PROMPTS
    plan = Plan(
        prompts=tuple(prompts("held-out", count, TEST_SEED)),
        primary="true reward",
        secondary=("fidelity", *TASTE_PARTS),
        seed=TEST_SEED,
        variety_prompts=min(count, 24),
        sampler=SAMPLER,
        held_out=True,
        labelled_by=("true reward",),
    )
    before, after = load("shipped"), load("shipped", weights=result.export)
    scorers = [TrueReward(), RewardPart("fidelity"), *(RewardPart(name) for name in TASTE_PARTS)]
    evaluation = evaluate(before, after, plan, scorers, register=out / "plan.json")
    evaluation.save(out / "evaluation")

    say("4/4  Writing it down")
    report = Report.read(out / "evaluation", run=folder)
    report.save(out)
    say(report.text())
    rate = evaluation.primary.win_rate
    facts = {
        "win_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
        "prompts": rate.n,
        "pairs": len(store.ids()),
        "seconds": time.perf_counter() - started,
        "winner_drift": result.health[-1]["winner_drift"],
    }
    write_json(out / "result.json", facts)
    return facts


def _narrate(say: Say) -> Callable[[Event], None]:
    """Pass on what is worth a line: checks and warnings, not every step."""

    def on_event(event: Event) -> None:
        if event.kind in ("start", "check", "warning", "stop"):
            say(f"     {event.text}")

    return on_event
