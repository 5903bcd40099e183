"""Adaptive-DPO on labels of which it is known which are wrong, with what its metric is made of.

Run from the repository: `python lab/minority/adaptive.py --work runs/minority`. The settings are
those of `lab/methods/run.py`. Besides the metric u, each visit's two factors and margin are kept:
what is recorded changes, nothing that is learned.
"""

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch
from labels import CONDITIONS, labelled

from palate.core.contrast import Contrast, Verdict
from palate.objectives.adaptive_dpo import AdaptiveDPO
from palate.train.loop import train
from palate.train.run import Run

torch.set_num_threads(1)
SETTINGS: dict[str, Any] = {
    "model": "shipped",
    "adapter.rank": 16,
    "plan.steps": 60,
    "plan.batch": 32,
    "plan.learning_rate": 1.3e-3,
    "plan.schedule": "cosine",
    "plan.warmup_steps": 5,
    "plan.health_every": 1000,
    "plan.save_every": 1000,
    "plan.tensorboard": "off",
    "health.pairs": 32,
    "health.draws": 2,
    "health.stop": False,
    "split.held_out": 0.05,
}


def keep_factors() -> None:
    """Let Adaptive-DPO record the two factors of its metric and the policy's margin."""
    judge = AdaptiveDPO.__call__

    def told(self: AdaptiveDPO, pairs: Contrast) -> Verdict:
        verdict = judge(self, pairs)
        margins = (pairs.margin.detach(), *pairs.averages)
        logits = torch.stack([self.sharpness * self._scaled(pairs, each) for each in margins])
        more = {
            "bias": 1 - logits.sigmoid().mean(0),
            "spread": logits.std(0, correction=1).clamp(max=1),
            "seen": pairs.margin.detach(),
        }
        return Verdict(verdict.loss, {**verdict.extras, **more})

    kept = ("minority", "bias", "spread", "seen")
    AdaptiveDPO.needs = dataclasses.replace(AdaptiveDPO.needs, kept=kept)
    AdaptiveDPO.__call__ = told


def main() -> None:
    """One run for each condition and seed that is not there yet."""
    asked = argparse.ArgumentParser()
    asked.add_argument("conditions", nargs="*", default=CONDITIONS)
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--work", type=Path, default=Path("runs/minority"))
    told = asked.parse_args()
    keep_factors()
    for seed in told.seeds:
        for condition in told.conditions:
            data, _ = labelled(condition, seed, told.work)
            folder = told.work / "adaptive" / f"{condition}-{seed}"
            if (folder / "export").exists():
                continue
            shutil.rmtree(folder, ignore_errors=True)
            own = {"objective.name": "adaptive-dpo", "objective.beta": 500.0}
            run = Run.from_values({**SETTINGS, **own, "data": str(data), "seed": seed})
            result = train(run, folder, cache=told.work / "cache")
            print(condition, seed, round(result.seconds, 1), result.sentence, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
