"""Folders from strangers: refused with a reason, before anything in them can act."""

import json
import pickle
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones.asking import rewrite
from palate.backbones import load
from palate.core.problems import SettingError, WeightsError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    """Any attempt to reach the network fails the test, as it would fail the user."""
    monkeypatch.setattr(socket, "getaddrinfo", _refuse)
    monkeypatch.setattr(socket.socket, "connect", _refuse)


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no network in this test")


@pytest.mark.parametrize(
    "gone",
    [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_a_missing_file_is_named(copy, gone):
    (copy / gone).unlink()
    part, _, name = gone.partition("/")
    with pytest.raises(WeightsError, match=f"without {part}/") as caught:
        load(copy)
    assert name.endswith(".safetensors") or gone in str(caught.value)


def test_everything_missing_is_named_at_once(copy):
    shutil.rmtree(copy / "vae")
    shutil.rmtree(copy / "unet")
    with pytest.raises(WeightsError, match=r"without unet/config\.json, vae/config\.json"):
        load(copy)


def test_a_folder_of_pickles_is_refused_and_nothing_runs(copy, tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (copy / "unet/diffusion_pytorch_model.safetensors").unlink()
    (copy / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(WeightsError, match=r"only diffusion_pytorch_model\.bin, a format that can"):
        load(copy)
    assert not (tmp_path / "ran").exists()


def test_weights_with_nan_are_refused_by_name(copy):
    file = copy / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"conv_in\.weight with NaN"):
        load(copy)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("text_encoder/model.safetensors", "embeddings.token_embedding.weight"),
    ],
)
def test_missing_weights_are_not_made_up(copy, file, name):
    tensors = load_file(copy / file)
    full = next(key for key in tensors if key.endswith(name))
    del tensors[full]
    save_file(tensors, copy / file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"(?s)weight"):
        load(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_only_classes_we_know_are_loaded(copy, part):
    rewrite(copy / "model_index.json", **{part: ["os", "system"]})
    with pytest.raises(WeightsError, match=f"{part} of class system. Need one of"):
        load(copy)


def test_an_unknown_family_is_told_which_are_known(copy):
    rewrite(copy / "model_index.json", _class_name="StableDifusionPipeline")
    with pytest.raises(WeightsError, match=r"Need one of StableDiffusionPipeline.*Use a folder of"):
        load(copy)


def test_a_folder_that_is_no_pipeline_gets_advice(copy):
    with pytest.raises(WeightsError, match=r"Did you mean .*copy"):
        load(copy.parent)
    with pytest.raises(WeightsError, match="Convert diffusion_pytorch_model"):
        load(copy / "unet")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "nowhere", "a/b/c", "../x/y"])
def test_a_mistyped_folder_does_not_ask_the_network(name):
    with pytest.raises(WeightsError, match="which is not a folder"):
        load(name)


def test_a_hub_id_without_network_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="no answer for owner/name@main from the Hub"):
        load("owner/name@main")


def test_an_unknown_precision_gets_the_nearest(eps):
    with pytest.raises(SettingError, match=r"Did you mean fp16\?"):
        load(eps, precision="pf16")


def test_sharded_weights_load(copy, eps):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(eps / "unet")
    shutil.rmtree(copy / "unet")
    unet.save_pretrained(copy / "unet", max_shard_size="40KB")
    assert len(list((copy / "unet").glob("*-of-*.safetensors"))) > 1
    whole, sharded = load(eps), load(copy)
    assert whole.reference_probe() == sharded.reference_probe()
    next(iter(sorted((copy / "unet").glob("*-of-*.safetensors")))).unlink()
    with pytest.raises(WeightsError, match="without unet/"):
        load(copy)


@pytest.mark.slow
def test_mutated_folders_load_or_are_refused_cleanly(eps, tmp_path):
    """Any single change of a byte or a value: our own error or a model, never another exception."""
    draw = random.Random(4)
    refused = 0
    for round_ in range(150):
        folder = tmp_path / str(round_)
        shutil.copytree(eps, folder)
        file = draw.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
        raw = bytearray(file.read_bytes())
        raw[draw.randrange(min(len(raw), 4000))] = draw.randrange(256)
        file.write_bytes(raw[: draw.choice([len(raw), len(raw) // 2])])
        try:
            load(folder)
        except WeightsError:
            refused += 1
        shutil.rmtree(folder)
    assert refused > 50


def test_importing_the_room_does_not_import_heavy_libraries():
    code = (
        "import sys, palate.backbones, palate.scorers;"
        "print(json.dumps([m for m in ('diffusers','transformers','peft') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import json;" + code], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_weights_are_float32_whatever_the_files_hold(eps, copy):
    file = copy / "vae/diffusion_pytorch_model.safetensors"
    half = {name: value.half() for name, value in load_file(file).items()}
    save_file(half, file, metadata={"format": "pt"})
    pictures = torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    assert load(copy).encode(pictures)[0].dtype == torch.float32
