"""The same commands on a Stable Diffusion 3 folder."""

import json
from pathlib import Path

import pytest
import torch

from backbones import tiny_sd3
from palate.backbones import load
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.world import prompts


@pytest.fixture(scope="module")
def sd3(tmp_path_factory) -> Path:
    """A small random folder of 3.5's form, without T5. Read only."""
    folder = tmp_path_factory.mktemp("model") / "sd3"
    tiny_sd3.build(prompts("train", 40, 0), newer=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(palate, sd3: Path, snapshot: Path, tmp_path_factory) -> Path:
    """A finished run of two steps of the published recipe, made small."""
    run = tmp_path_factory.mktemp("runs") / "sd3"
    answer = palate(
        *("train", "--recipe", "flow-dpo-sd35", "--model", sd3, "--data", snapshot, "--out", run),
        *("--steps", 2, "--batch", 4, "--save-every", 2, "--health-every", 2, "--json"),
        *("--held-out", 0.3, "--tensorboard", "off"),
    )
    assert answer.code == 0, answer.err
    return run


@pytest.mark.slow
def test_a_run_says_what_it_was_trained_from(trained):
    digests = json.loads((trained / "record.json").read_text())["model"]["digests"]
    assert {"transformer", "text_encoder_2"} <= set(digests)
    assert "text_encoder_3" not in digests


@pytest.mark.slow
def test_pictures_are_drawn_from_the_model_and_from_the_run(palate, sd3, trained, tmp_path):
    words = ("a red circle", "--steps", 2)
    before = palate("sample", "--model", sd3, *words, "--out", tmp_path / "before")
    after = palate("sample", "--weights", trained, *words, "--out", tmp_path / "after")
    assert (before.code, after.code) == (0, 0), before.err + after.err
    assert next((tmp_path / "after").glob("0*.png")).is_file()


def test_a_sampler_of_diffusion_is_refused_before_any_weight_is_read(palate, sd3, tmp_path):
    answer = palate(
        *("sample", "--model", sd3, "a red circle", "--scheduler", "ddim", "--out", tmp_path / "a")
    )
    assert answer.code != 0
    assert "scheduler ddim for a model of rectified flow" in answer.err
    assert "Use euler" in answer.err


@pytest.mark.slow
def test_the_model_passes_the_doctors_step(palate, sd3):
    ticks = {tick["name"]: tick for tick in palate("doctor", "--model", sd3, "--json").json}
    assert ticks["weights"]["detail"].startswith("4 files")
    assert ticks["step"]["status"] == "ok"


@pytest.mark.slow
def test_the_run_is_compared_with_its_base(palate, trained):
    answer = palate(
        *("evaluate", "--after", trained, "--prompts", "world:held-out:3", "--scorer", "world"),
        *("--steps", 2, "--variety-prompts", 0, "--json"),
    )
    assert answer.code == 0, answer.err
    assert answer.json["prompts"] == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_all_weights_are_trained_and_plain_diffusers_draws_the_same(
    palate, sd3, snapshot, tmp_path
):
    """One step of DPO on everything, in half precision with recomputed activations."""
    answer = palate(
        *("train", "--model", sd3, "--data", snapshot, "--out", tmp_path / "run", "--json"),
        *("--steps", 1, "--batch", 4, "--full", "--precision", "bf16", "--learning-rate", "1e-2"),
        *("--gradient-checkpointing", "--held-out", 0.3, "--tensorboard", "off"),
    )
    assert answer.code == 0, answer.err
    export = tmp_path / "run/export"
    model = load(sd3, weights=export)
    noise = starting_noise(model, [("one", 0)], seed=0)
    sampler = Sampler(steps=3, guidance=3.0, scheduler="saved")
    ours = sample(model, ["a red circle"], noise, sampler)
    with model.as_reference():
        assert not torch.equal(ours, sample(model, ["a red circle"], noise, sampler))
    theirs = tiny_sd3.plain(export)(
        "a red circle", latents=noise, num_inference_steps=3, guidance_scale=3.0, output_type="np"
    ).images
    assert (ours.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51
