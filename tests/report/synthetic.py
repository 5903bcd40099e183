"""An evaluation with known numbers, and a training beside it, without any model."""

from dataclasses import replace
from typing import Any

import numpy as np

from palate.core.streams import Streams
from palate.evaluate.drift import STYLES, drift, style, variety
from palate.evaluate.measurements import Exhibit, Measurements
from palate.evaluate.plan import Plan
from palate.evaluate.result import Evaluation
from palate.evaluate.winrate import Opinion, judge

PROMPTS = tuple(f"a red circle, number {at}" for at in range(20))


def make_evaluation(
    *,
    wins: int = 15,
    prompts: tuple[str, ...] = PROMPTS,
    scorer: str = "true reward",
    second: str = "CLIP",
    model: str = "a1b2",
    exhibits: int = 4,
    with_variety: bool = True,
) -> Evaluation:
    """Every prompt has one picture; the first `wins` of them were won, the others lost."""
    n = len(prompts)
    chance = Streams(0)("synthetic").numpy()
    old = chance.integers(0, 200, (n, 16, 16, 3), dtype=np.uint8)
    new = np.minimum(old.astype(int) + 20, 255).astype(np.uint8)
    up = np.where(np.arange(n) < wins, 1.0, -1.0)
    no = np.zeros(n, dtype=bool)
    found = Measurements(
        prompts=prompts,
        indices=(0,) * n,
        scores={scorer: (np.zeros(n), up), second: (np.zeros(n), np.zeros(n))},
        broken_before=no,
        broken_after=no,
    )
    was, now = style(old), style(new)
    return Evaluation(
        plan=Plan(
            prompts=prompts,
            primary=scorer,
            secondary=(second,),
            seed=7,
            held_out=True,
            labelled_by=(scorer,),
        ),
        registered_at="2026-01-02T03:04:05+00:00",
        opinions=tuple(
            Opinion(
                scorer=name,
                identity=f"{name} v1",
                primary=name == scorer,
                made_labels=name == scorer,
                adjusted_p=None if name == scorer else 1.0,
                **judge(found, name),
            )
            for name in (scorer, second)
        ),
        variety=variety(old[:16], new[:16], [prompts[at // 8 % n] for at in range(16)])
        if with_variety
        else (),
        style=tuple(
            drift(name, words, was[name], now[name], prompts, pictures=1)
            for name, words in STYLES.items()
        ),
        measurements=found,
        exhibits=tuple(
            Exhibit(prompt=prompts[at], index=0, before=old[at], after=new[at])
            for at in range(min(exhibits, n))
        ),
        before={"unet": model},
        after={"unet": model, "trained": "c3d4"},
        seconds=12.0,
        provenance={"command": "palate evaluate", "code": "abc"},
    )


def exploratory(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, registered_at=None)


HISTORY: tuple[dict[str, Any], ...] = tuple(
    {"step": at, "loss": 0.693 - 0.001 * at, "accuracy": 0.5 + 0.002 * at, "margin": 1e-5 * at}
    for at in range(1, 41)
)
HEALTH: tuple[dict[str, Any], ...] = tuple(
    {
        "step": at,
        "pairs": 64,
        "winner_drift": -0.0003 * at,
        "loser_drift": 0.0005 * at,
        "margin_p05": -1e-4,
        "margin_p50": 1e-5 * at,
        "margin_p95": 2e-4,
        "accuracy": {"value": 0.6, "low": 0.5, "high": 0.7, "n": 64, "measurements": 128},
        "status": "healthy",
        "code": "healthy",
        "sentence": "The winners are explained better than by the reference.",
    }
    for at in (0, 20, 40)
)
RECORD: dict[str, Any] = {
    "command": "palate train run.yaml",
    "run": {
        "model": "shipped",
        "seed": 11,
        "objective": {"name": "dpo", "beta": 2000.0},
        "health": {"winner_drift_warn": 0.02, "winner_drift_stop": 0.05},
    },
    "run_digest": "f00d",
    "beta_convention": "logit = (beta / 2) * margin",
    "data": {"digest": "beef", "pairs": 2000, "train": 1914, "held_out": 86},
    "steps": 40,
    "seconds": 95.0,
    "versions": {"torch": "2.13"},
}
