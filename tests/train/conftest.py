"""A micro model of the real classes and a small snapshot, made once; runs of seconds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from palate.backbones import tiny
from palate.data.comparison import compare
from palate.data.store import Store
from palate.train.run import Run

WORDS = ("red", "blue", "green", "small", "large", "old", "new", "round", "flat", "bright")
PAIRS = 40


def micro_model(folder: Path) -> Path:
    """A folder of the real classes with random weights that answer loudly."""
    pipeline = tiny.build([f"a {word} thing" for word in WORDS], size="micro")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        # One level instead of two: a step costs a third, and nothing here is about pictures.
        pipeline.unet = UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, layers_per_block=1,
            block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("UpBlock2D",), mid_block_type=None, norm_num_groups=4,
            cross_attention_dim=pipeline.text_encoder.config.hidden_size, attention_head_dim=4,
        )  # fmt: skip
        pipeline.unet.conv_out.weight.mul_(8)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the real classes with random weights that answer loudly. Read only."""
    return micro_model(tmp_path_factory.mktemp("model") / "micro")


def picture(seed: int, shade: int) -> np.ndarray:
    """A soft random picture, darker or brighter."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 120, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return (coarse + shade).astype(np.uint8)


def snapshot(
    folder: Path,
    pairs: int = PAIRS,
    *,
    swapped: Callable[[int], bool] | None = None,
    judges: Sequence[str] = ("j",),
) -> Path:
    """A frozen snapshot whose chosen pictures are bright and whose rejected ones are dark."""
    store = Store(folder / "store")
    rows: list[Any] = []
    with store.writing():
        for i in range(pairs):
            images = [store.put(picture(2 * i, 120)), store.put(picture(2 * i + 1, 0))]
            turned = swapped is not None and swapped(i)
            prompt = f"a {WORDS[i // 2 % len(WORDS)]} thing {i // 2}"
            rows.append(
                compare(prompt=prompt, images=images, agreement=0.0 if turned else 1.0,
                        judge=judges[i % len(judges)], source="world", origin=f"test {i}")
            )  # fmt: skip
        store.add(rows)
    return store.freeze(folder / "snapshot").path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pairs over twenty prompts. Read only."""
    return snapshot(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all runs on this model and data."""
    return tmp_path_factory.mktemp("cache")


def small_run(model: Path, data: Path) -> Run:
    """A run of eight small steps."""
    return Run.from_values(
        {
            "model": str(model),
            "data": str(data),
            "seed": 3,
            "adapter.rank": 2,
            "plan.steps": 8,
            "plan.batch": 4,
            "plan.learning_rate": 1e-3,
            "plan.health_every": 4,
            "plan.save_every": 4,
            "plan.tensorboard": "off",
            "plan.device": "cpu",
            "health.pairs": 4,
            "split.held_out": 0.2,
        }
    )


@pytest.fixture
def run(model: Path, data: Path) -> Run:
    """A run of eight small steps."""
    return small_run(model, data)
