"""The same commands on a Stable Cascade folder, which has no adapters and samplers of its own."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from backbones import keyed_effnet, tiny_cascade
from palate.backbones.effnet import FILE
from palate.world import prompts

pytestmark = pytest.mark.slow
SMALL = (
    *("--steps", 1, "--batch", 2, "--save-every", 1, "--health-every", 1, "--held-out", 0.3),
    *("--learning-rate", "1e-3", "--tensorboard", "off", "--resolution", 128, "--json"),
)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory) -> Path:
    """A small random folder of all stages, with the picture encoder beside them. Read only."""
    folder = tmp_path_factory.mktemp("model") / "cascade"
    tiny_cascade.combined(prompts("train", 40, 0)).save_pretrained(folder)
    keyed_effnet.write(folder)
    return folder


@pytest.fixture(scope="module")
def trained(palate, cascade: Path, snapshot: Path, tmp_path_factory) -> Path:
    """A finished run of one step, of all weights."""
    run = tmp_path_factory.mktemp("runs") / "cascade"
    words = ("--model", cascade, "--data", snapshot, "--out", run, "--full")
    answer = palate("train", *words, *SMALL)
    assert answer.code == 0, answer.err
    assert answer.json["status"] in ("healthy", "watch")
    return run


def test_a_run_says_what_it_was_trained_from_and_exports_all_it_takes_to_go_on(trained):
    digests = json.loads((trained / "record.json").read_text())["model"]["digests"]
    assert {"prior", "text_encoder", "vae", "stage b decoder"} <= set(digests)
    assert (trained / "export/prior_prior/config.json").is_file()
    assert (trained / "export" / FILE).is_file()


def test_what_the_card_says_opens_stage_c_in_plain_diffusers(trained):
    """Run as written: diffusers cannot open the folder as a whole."""
    text = (trained / "export/README.md").read_text()
    code = text.split("```python")[1].split("```")[0]
    names = {"FOLDER": str(trained / "export")}
    exec(code, names)
    pipeline = names["pipeline"]
    learned = load_file(trained / "export/prior_prior/diffusion_pytorch_model.safetensors")
    assert type(pipeline).__name__ == "StableCascadePriorPipeline"
    assert all(torch.equal(pipeline.prior.get_parameter(n), w) for n, w in learned.items())


def test_pictures_are_drawn_with_its_own_sampler_only(palate, cascade, trained, tmp_path):
    words = ("a red circle", "--steps", 2, "--size", 128, "--scheduler")
    after = palate("sample", "--weights", trained, *words, "saved", "--out", tmp_path / "after")
    assert after.code == 0, after.err
    with Image.open(next((tmp_path / "after").glob("0*.png"))) as picture:
        assert picture.size == (128, 128)
    other = palate("sample", "--model", cascade, *words, "dpm++", "--out", tmp_path / "other")
    assert other.code != 0
    assert "Use saved" in other.err


def test_the_model_passes_the_doctors_step(palate, cascade):
    ticks = {tick["name"]: tick for tick in palate("doctor", "--model", cascade, "--json").json}
    assert ticks["weights"]["status"] == ticks["step"]["status"] == "ok", ticks


def test_the_run_is_compared_with_its_base(palate, trained):
    answer = palate(
        *("evaluate", "--after", trained, "--prompts", "world:held-out:2", "--scorer", "world"),
        *("--steps", 2, "--variety-prompts", 0, "--scheduler", "saved", "--size", 128),
        "--json",
    )
    assert answer.code == 0, answer.err
