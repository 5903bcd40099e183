"""The same commands on a Stable Diffusion XL folder."""

import json
from pathlib import Path

import pytest
from PIL import Image

from backbones import tiny_sdxl
from palate.world import prompts


@pytest.fixture(scope="module")
def xl(tmp_path_factory) -> Path:
    """A small random XL folder. Read only."""
    folder = tmp_path_factory.mktemp("model") / "xl"
    tiny_sdxl.build(prompts("train", 40, 0)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(palate, xl: Path, snapshot: Path, tmp_path_factory) -> Path:
    """A finished run of two steps."""
    run = tmp_path_factory.mktemp("runs") / "xl"
    answer = palate(
        *("train", "--model", xl, "--data", snapshot, "--out", run, "--json"),
        *("--steps", 2, "--batch", 4, "--rank", 2, "--save-every", 2, "--health-every", 2),
        *("--held-out", 0.3, "--learning-rate", "1e-3", "--tensorboard", "off"),
    )
    assert answer.code == 0, answer.err
    assert answer.json["status"] in ("healthy", "watch")
    return run


def test_a_run_says_what_it_was_trained_from(trained):
    digests = json.loads((trained / "record.json").read_text())["model"]["digests"]
    assert {"text_encoder_2", "tokenizer_2", "text_encoder_rules"} <= set(digests)


def test_pictures_are_drawn_from_the_model_and_from_the_run(palate, xl, trained, tmp_path):
    words = ("a red circle", "--steps", 2, "--scheduler", "saved", "--size", 96)
    before = palate("sample", "--model", xl, *words, "--out", tmp_path / "before")
    after = palate("sample", "--weights", trained, *words, "--out", tmp_path / "after")
    assert (before.code, after.code) == (0, 0), before.err + after.err
    with Image.open(next((tmp_path / "after").glob("0*.png"))) as picture:
        assert picture.size == (96, 96)


def test_the_model_passes_the_doctors_step(palate, xl):
    ticks = {tick["name"]: tick for tick in palate("doctor", "--model", xl, "--json").json}
    assert ticks["weights"]["detail"].startswith("4 files")
    assert ticks["step"]["status"] == "ok"


def test_the_run_is_compared_with_its_base(palate, trained):
    answer = palate(
        *("evaluate", "--after", trained, "--prompts", "world:held-out:3", "--scorer", "world"),
        *("--steps", 2, "--variety-prompts", 0, "--json"),
    )
    assert answer.code == 0, answer.err
    assert answer.json["prompts"] == 3


@pytest.mark.slow
def test_all_weights_in_half_precision_with_recomputed_activations(palate, xl, snapshot, tmp_path):
    answer = palate(
        *("train", "--model", xl, "--data", snapshot, "--out", tmp_path / "run", "--json"),
        *("--steps", 2, "--batch", 4, "--full", "--precision", "bf16"),
        *("--gradient-checkpointing", "--held-out", 0.3, "--tensorboard", "off"),
    )
    assert answer.code == 0, answer.err
    assert (tmp_path / "run/export/text_encoder_2/model.safetensors").is_file()


@pytest.mark.slow
def test_a_scorer_of_its_latents_is_taught_and_judges_what_is_drawn(palate, xl, snapshot, tmp_path):
    scorer = tmp_path / "scorer"
    taught = palate(
        *("scorer", "train", "latent", "--data", snapshot, "--model", xl, "--out", scorer),
        *("--steps", 2, "--batch", 4, "--held-out", 0.3, "--json"),
    )
    assert taught.code == 0, taught.err
    tested = palate("scorer", "test", scorer, "--data", snapshot, "--model", xl, "--json")
    assert tested.json == {"pairs": "held-out prompts", "accuracy": taught.json["accuracy"]}
    answer = palate(
        *("train", "--model", xl, "--method", "lpo", "--rollout.scorer", f"latent:{scorer}"),
        *("--rollout.prompts", "world:train:8", "--rollout.steps", 3, "--rollout.threshold", 0),
        *("--rollout.threshold-high", 0, "--out", tmp_path / "run", "--steps", 2, "--batch", 2),
        *("--rank", 2, "--health.pairs", 2, "--tensorboard", "off", "--json"),
    )
    assert answer.code == 0, answer.err
