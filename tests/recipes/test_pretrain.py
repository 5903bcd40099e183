"""The recipe joins world and pipeline; its measurement is a function of the seed."""

import json

import numpy as np
import pytest

from palate.recipes.pretrain import check, pretrain
from palate.world import FIDELITY_PARTS, TASTE_PARTS

pytestmark = pytest.mark.filterwarnings(
    # diffusers, inside its few-step scheduler, under numpy 2
    "ignore:__array__ implementation:DeprecationWarning"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    card = pretrain(
        folder / "model",
        work=folder / "work",
        log=folder / "log.jsonl",
        vae_steps=2,
        unet_steps=2,
        pictures=16,
        size="micro",
    )
    return folder / "model", card


def test_a_pretrained_folder_carries_its_card(trained):
    folder, card = trained
    assert json.loads((folder / "palate.json").read_text()) == card
    assert set(card["sha256"]) == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert card["plan"]["unet_steps"] == 2
    assert card["operations"]["unet"] > 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_check_says_every_part_and_repeats(trained, tmp_path):
    folder, _ = trained
    first = check(folder, count=3, each=2, grid=tmp_path / "grid.png")
    again = check(folder, count=3, each=2)
    for name in (*FIDELITY_PARTS, *TASTE_PARTS, "fidelity", "reward"):
        assert np.isfinite(first[f"{name} mean"])
    assert (tmp_path / "grid.png").is_file()
    seconds = first.pop("seconds per picture"), again.pop("seconds per picture")
    assert min(seconds) > 0
    assert first == again
