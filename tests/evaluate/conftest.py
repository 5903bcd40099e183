"""Two small real models that differ."""

from pathlib import Path

import pytest
import torch

from palate.backbones import Backbone, load, tiny
from palate.world.scenes import prompts


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("micro")
    tiny.build(prompts("train", 50, 0), size="micro").save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def before(folder: Path) -> Backbone:
    return load(folder)


@pytest.fixture(scope="session")
def after(folder: Path) -> Backbone:
    """The same model with its network nudged."""
    model = load(folder, train=True)
    with torch.no_grad():
        for weight in model.trainable().values():
            weight.mul_(1.2)
    return model
