"""Small random pipelines of the real classes, built once and never written to."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.asking import rewrite
from palate.backbones import Backbone, load, tiny

PROMPTS = ["a red ball", "a blue box on green", "two small yellow stars"]


@pytest.fixture(scope="session")
def eps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder that predicts noise. Read only."""
    folder = tmp_path_factory.mktemp("eps") / "model"
    pipeline = tiny.build(PROMPTS, size="micro")
    # Freshly made output layers answer almost zero; a louder network shows differences better.
    with torch.no_grad():
        pipeline.unet.conv_out.weight.mul_(8)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def velocity(eps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a 2.x-like folder: velocity, and DDIM as its own scheduler. Read only."""
    folder = tmp_path_factory.mktemp("velocity") / "model"
    shutil.copytree(eps, folder)
    rewrite(
        folder / "scheduler/scheduler_config.json",
        _class_name="DDIMScheduler",
        prediction_type="v_prediction",
        set_alpha_to_one=False,
        clip_sample=False,
    )
    rewrite(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    return folder


@pytest.fixture(scope="session")
def still(eps: Path) -> Backbone:
    """The noise-predicting model, loaded once. Ask it; do not train, change or release it."""
    return load(eps)


@pytest.fixture(scope="session")
def pictures() -> torch.Tensor:
    """Three different pictures, uint8 [3, 64, 64, 3]."""
    draw = np.random.default_rng(3)
    return torch.from_numpy(draw.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))


@pytest.fixture
def copy(eps: Path, tmp_path: Path) -> Path:
    """A copy of the noise-predicting folder, to be spoiled."""
    folder = tmp_path / "copy"
    shutil.copytree(eps, folder)
    return folder
