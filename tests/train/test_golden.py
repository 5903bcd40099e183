"""A frozen toy trajectory: numbers that may only change on purpose.

Kept per platform key, because other libraries or processors add in another order. On a platform
without one the loss of ten steps must still agree to six digits with the first that is kept.

To change it on purpose: PALATE_FREEZE=1 python -m pytest tests/train/test_golden.py
"""

import json
import os
import platform
from pathlib import Path

import pytest
import torch

from palate.core.files import digest_bytes
from palate.objectives import OBJECTIVES
from palate.train.groups import Plan
from palate.train.step import Learner
from train.micro import Given, Micro, batch

GOLDEN = Path(__file__).with_name("golden.json")


def processor() -> str:
    """The processor's own name: libraries choose their sums by it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


KEY = f"torch {torch.__version__}, processor {digest_bytes(processor().encode())[:8]}, one thread"


def trajectory(name: str) -> list[str]:
    """Ten steps in float64, as exact text."""
    plan = Plan(batch=6, micro_batch=4, learning_rate=1e-3, steps=10, warmup_steps=2, device="cpu")
    one = Learner(Micro(), OBJECTIVES.named(name)(), Given(), plan)
    pairs = batch(6)
    return [float(one.step(pairs, n).measures["loss"].mean()).hex() for n in range(10)]


@pytest.mark.parametrize("name", ["dpo", "sft"])
def test_the_toy_trajectory_has_not_changed(name):
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    found = trajectory(name)
    if os.environ.get("PALATE_FREEZE"):
        kept.setdefault(KEY, {})[name] = found
        GOLDEN.write_text(json.dumps(kept, indent=2) + "\n")
    if name in kept.get(KEY, {}):
        assert found == kept[KEY][name]
    first = next(iter(kept.values()))[name]
    expected = [float.fromhex(text) for text in first]
    assert [float.fromhex(text) for text in found] == pytest.approx(expected, rel=1e-6)
