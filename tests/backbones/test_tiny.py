"""The small pipeline: Stable Diffusion's layout, a vocabulary of its own, and the shipped copy."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from palate import backbones
from palate.backbones import tiny
from palate.backbones.lessons import Plan
from palate.backbones.pretraining import pretrain
from palate.core.problems import SettingError, StateError, WeightsError

CAPTIONS = [
    "a large red circle left of a small blue square on a grey background",
    "two small green crosses on a white background",
] * 2
pytestmark = pytest.mark.filterwarnings(
    # diffusers, inside its few-step scheduler, under numpy 2
    "ignore:__array__ implementation:DeprecationWarning"
)
PARTS = {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}


@pytest.fixture(scope="module")
def micro():
    return tiny.build(CAPTIONS, size="micro", seed=0)


@pytest.fixture(scope="module")
def small():
    """The shipped pipeline, loaded as anybody would, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return StableDiffusionPipeline.from_pretrained(backbones.shipped())


def toy_pictures(purpose: str, n: int) -> tuple[np.ndarray, list[str]]:
    seed = {"train": 0, "validation": 1}[purpose]
    noise = np.random.default_rng(seed).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    return noise, [CAPTIONS[row % 2] for row in range(n)]


def weights_of(pipeline):
    modules = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    return [weight for module in modules for weight in module.state_dict().values()]


def test_words_of_the_captions_are_single_tokens(micro):
    """Thirteen words, a start and an end."""
    tokens = micro.tokenizer(CAPTIONS[0]).input_ids
    assert len(tokens) == len(CAPTIONS[0].split()) + 2
    assert micro.tokenizer.decode(tokens, skip_special_tokens=True) == CAPTIONS[0]


def test_any_other_text_still_encodes(micro):
    tokens = micro.tokenizer("Hello, wörld! 日本 42").input_ids
    unknown = micro.tokenizer.unk_token_id
    assert len(tokens) > 10
    assert unknown not in tokens[1:-1]


def test_the_same_seed_builds_the_same_weights_and_leaves_the_global_generator_alone(micro):
    before = torch.get_rng_state()
    again, other = (tiny.build(CAPTIONS, size="micro", seed=seed) for seed in (0, 1))
    assert torch.equal(before, torch.get_rng_state())
    pairs = list(zip(weights_of(micro), weights_of(again), strict=True))
    assert all(torch.equal(left, right) for left, right in pairs)
    pairs = list(zip(weights_of(micro), weights_of(other), strict=True))
    assert not all(torch.equal(left, right) for left, right in pairs)


def test_a_picture_depends_on_its_seed_and_place_and_not_on_its_batch(micro):
    three = tiny.draw(micro, CAPTIONS[:3], seed=4, steps=2)
    one = tiny.draw(micro, CAPTIONS[:1], seed=4, steps=2)
    assert three.shape == (3, 64, 64, 3)
    assert three.dtype == np.uint8
    assert np.abs(three[0].astype(int) - one[0].astype(int)).max() <= 1
    assert not np.array_equal(three[0], tiny.draw(micro, CAPTIONS[:1], seed=5, steps=2)[0])


def test_a_saved_pipeline_loads_in_plain_diffusers_and_draws_the_same(micro, tmp_path):
    micro.save_pretrained(tmp_path)
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path)
    first, second = (tiny.draw(one, CAPTIONS[:1], seed=0, steps=2) for one in (micro, loaded))
    assert np.array_equal(first, second)


def test_an_unknown_size_names_the_sizes():
    with pytest.raises(SettingError, match=r"Need one of micro, shipped"):
        tiny.build(CAPTIONS, size="mikro")


def test_a_missing_model_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setattr(backbones, "SHIPPED", tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"palate world pretrain"):
        backbones.shipped()


def test_pretraining_interrupted_and_resumed_ends_with_the_same_weights(tmp_path):
    """Three and five steps in one go, and the same with a stop after two UNet steps."""
    plan = Plan(pictures=24, vae_steps=3, unet_steps=5, vae_batch=2, unet_batch=2, validation=8)
    whole = pretrain(
        toy_pictures,
        tmp_path / "a",
        plan,
        seed=0,
        work=tmp_path / "work-a",
        log=tmp_path / "a.jsonl",
        size="micro",
    )

    class Stopped(Exception):  # noqa: N818 - stands for a killed process
        pass

    def stop(step: int) -> None:
        if step == 2:
            raise Stopped

    arguments = {
        "seed": 0,
        "work": tmp_path / "work-b",
        "log": tmp_path / "b.jsonl",
        "size": "micro",
        "checkpoint_seconds": 0.0,
    }
    with pytest.raises(Stopped):
        pretrain(toy_pictures, tmp_path / "b", plan, on_step=stop, **arguments)
    resumed = pretrain(toy_pictures, tmp_path / "b", plan, **arguments)
    pairs = zip(weights_of(whole), weights_of(resumed), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert {line["part"] for line in lines} == {"autoencoder", "unet"}
    assert (tmp_path / "a" / "model_index.json").is_file()


def test_a_work_folder_of_another_training_is_refused(tmp_path):
    begun = Plan(pictures=4, vae_steps=1, unet_steps=1, vae_batch=2, unet_batch=2, validation=2)
    arguments = {"seed": 0, "work": tmp_path / "work", "log": tmp_path / "log.jsonl"}
    pretrain(toy_pictures, tmp_path / "a", begun, size="micro", **arguments)
    with pytest.raises(StateError, match=r"Name another work folder"):
        pretrain(toy_pictures, tmp_path / "a", begun, size="shipped", **arguments)


def test_the_shipped_model_has_the_parts_of_stable_diffusion_and_fits_in_ten_megabytes(small):
    folder = backbones.shipped()
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert {name for name in index if (folder / name).is_dir()} == PARTS
    weights = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
    assert weights <= 10_000_000
    assert small.unet.config.in_channels == 4
    assert small.scheduler.config.prediction_type == "epsilon"


def test_the_shipped_model_paints_the_background_it_is_asked_for(small):
    """White is 245, black is 16; the rim of the picture shows it."""
    texts = [
        f"a large red circle in the centre of a {name} background" for name in ("white", "black")
    ]
    white, black = tiny.draw(small, texts, seed=0)
    assert np.median(white[:3]) > 215
    assert np.median(black[:3]) < 45


def test_the_shipped_models_circle_is_of_the_asked_colour(small):
    texts = [
        f"a large {name} circle in the centre of a white background" for name in ("red", "blue")
    ]
    red, blue = tiny.draw(small, texts, seed=1)[:, 28:36, 28:36].mean(axis=(1, 2))
    assert red[0] > red[2] + 20
    assert blue[2] > blue[0] + 20
