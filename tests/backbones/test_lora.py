"""Adapters: silent at first, gone when switched off, and the same in plain diffusers."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backbones.asking import ask, ask_reference, train_a_little
from palate.backbones import Adapter, load
from palate.backbones.lora import WEIGHTS, layers
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.core.problems import SettingError, WeightsError

EVERYWHERE = ("to_k", "to_q", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "ff.net")
FORMS = {
    "plain": Adapter(rank=4),
    "scaled": Adapter(rank=4, alpha=10.0),
    "uniform": Adapter(rank=2, alpha=40, init="uniform"),
    "convolutions": Adapter(rank=3, alpha=6, targets=EVERYWHERE),
    "dora": Adapter(rank=4, dora=True),
}
forms = pytest.mark.parametrize("adapter", FORMS.values(), ids=FORMS.keys())
kinds = pytest.mark.parametrize(
    "adapter", [FORMS[name] for name in ("plain", "convolutions", "dora")]
)


@pytest.mark.parametrize(
    ("form", "precision"),
    [*((form, "fp32") for form in FORMS), ("convolutions", "bf16"), ("dora", "bf16")],
)
def test_before_the_first_step_the_policy_is_the_reference_bit_for_bit(eps, form, precision):
    model = load(eps, adapter=FORMS[form], train=True, precision=precision)
    untouched = load(eps, precision=precision)
    assert torch.equal(ask(model).detach(), ask_reference(model))
    assert torch.equal(ask_reference(model), ask(untouched))


@kinds
def test_training_moves_the_policy_and_never_the_reference(eps, still, adapter):
    model = load(eps, adapter=adapter, train=True)
    before, probe = ask_reference(model), model.reference_probe()
    train_a_little(model)
    assert (ask(model) - before).abs().max() > 1e-3
    assert torch.equal(ask_reference(model), before)
    assert model.reference_probe() == probe == still.reference_probe()


def test_the_probe_catches_a_base_that_moved(eps):
    model = load(eps, adapter=Adapter(), train=True)
    probe = model.reference_probe()
    bias = next(p for n, p in model._policy.network.named_parameters() if n.endswith(".bias"))
    bias.data += 0.01
    assert model.reference_probe() != probe


@pytest.mark.parametrize("setting", ["bias", "modules_to_save", "init_lora_weights"])
def test_settings_that_would_move_the_base_cannot_be_said(setting):
    with pytest.raises(TypeError, match=setting):
        Adapter(**{setting: "all"})


def test_initialisations_that_rewrite_the_base_are_refused():
    with pytest.raises(SettingError, match=r"Got adapter init='pissa'\. Need one of gaussian"):
        Adapter(init="pissa")


def test_dropout_is_refused_until_its_draws_are_keyed():
    with pytest.raises(SettingError, match=r"Got adapter dropout 0\.1\. Need dropout 0"):
        Adapter(dropout=0.1)


def test_only_adapters_take_gradients_and_they_are_float32(eps):
    model = load(eps, adapter=Adapter(), train=True, precision="bf16")
    ask_reference(model)
    ask(model).square().mean().backward()
    everything = dict(model._policy.network.named_parameters())
    with_gradient = {name for name, weight in everything.items() if weight.grad is not None}
    assert with_gradient == set(model.trainable())
    assert len(with_gradient) == 64
    assert all("lora_" in n and w.dtype == torch.float32 for n, w in model.trainable().items())
    ups = [w.grad for n, w in model.trainable().items() if "lora_B" in n]
    assert all(bool(gradient.abs().sum() > 0) for gradient in ups)


def test_an_error_inside_the_reference_still_gives_the_policy_back(eps):
    model = load(eps, adapter=Adapter(), train=True)
    train_a_little(model, 1)
    policy = ask(model)
    with pytest.raises(KeyError), model.as_reference(), model.as_reference():
        raise KeyError
    assert torch.equal(ask(model), policy)


def test_the_first_weights_depend_on_the_seed_and_on_nothing_else(eps):
    torch.manual_seed(1)
    first = load(eps, adapter=Adapter(seed=5), train=True).state()
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after), "loading drew from the global generator"
    again = load(eps, adapter=Adapter(seed=5), train=True).state()
    other = load(eps, adapter=Adapter(seed=6), train=True).state()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[n], other[n]) for n in first if "lora_A" in n)


@pytest.mark.parametrize(("init", "rank", "spread"), [("gaussian", 4, 0.25), ("uniform", 4, None)])
def test_first_weights_have_the_spread_their_name_says(eps, init, rank, spread):
    """Gaussian: 1/rank. Uniform in ±1/√n, as a fresh layer of n inputs: 1/√(3n); n is 8 or 16."""
    state = load(eps, adapter=Adapter(rank=rank, init=init), train=True).state()
    downs = [w for n, w in state.items() if "lora_A" in n]
    normed = torch.cat([(w / (spread or (3 * w.shape[1]) ** -0.5)).flatten() for w in downs])
    assert abs(normed.std().item() - 1) < 0.05
    assert all(not w.any() for n, w in state.items() if "lora_B" in n)


def test_a_typing_mistake_in_a_target_gets_the_nearest_name(eps):
    with pytest.raises(SettingError, match=r"Got adapter target 'to_qq', .* Did you mean to_q\?"):
        load(eps, adapter=Adapter(targets=("to_k", "to_qq")), train=True)


def test_a_container_means_all_layers_in_it_and_half_a_name_means_none(still):
    network = still._policy.network
    inside = layers(network, ["ff.net"])
    assert inside
    assert all(".ff.net." in name for name in inside)
    assert layers(network, ["ff.net", "ff"]) == inside
    with pytest.raises(SettingError, match=r"Did you mean to_out\.0"):
        layers(network, ["o_out.0"])


@forms
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_plain_diffusers_draws_the_same_picture_from_the_export(eps, adapter, tmp_path):
    model = load(eps, adapter=adapter, train=True)
    train_a_little(model)
    files = model.export(tmp_path / "export")
    assert [file.name for file in files] == [WEIGHTS]
    pipeline = StableDiffusionPipeline.from_pretrained(eps, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = starting_noise(model, [("picture", 0)], seed=1)
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np"}
    without = pipeline("a red ball", latents=noise, **settings).images
    pipeline.load_lora_weights(tmp_path / "export")
    theirs = torch.from_numpy(pipeline("a red ball", latents=noise, **settings).images)
    ours = sample(model, ["a red ball"], noise, Sampler(steps=4, guidance=3.0, scheduler="saved"))
    difference = (ours.float() - 255 * theirs).abs().max()
    assert difference <= 0.51, "more than rounding"
    assert (ours.float() - 255 * torch.from_numpy(without)).abs().max() > 2


@kinds
def test_an_export_loads_back_with_policy_and_reference(eps, adapter, tmp_path):
    model = load(eps, adapter=adapter, train=True)
    train_a_little(model)
    model.export(tmp_path / "export")
    again = load(eps, weights=tmp_path / "export")
    assert torch.equal(ask(again), ask(model).detach())
    assert torch.equal(ask_reference(again), ask_reference(model))
    assert again.trainable() == {}


def test_two_exports_of_the_same_weights_are_the_same_file(eps, tmp_path):
    model = load(eps, adapter=Adapter(), train=True)
    one, two = model.export(tmp_path / "one")[0], model.export(tmp_path / "two")[0]
    assert one.read_bytes() == two.read_bytes()
    model.export(tmp_path / "two")  # over an earlier export: allowed


def test_training_goes_on_from_an_export(eps, tmp_path):
    model = load(eps, adapter=Adapter(rank=4), train=True)
    train_a_little(model)
    model.export(tmp_path / "export")
    again = load(eps, adapter=Adapter(rank=4), train=True, weights=tmp_path / "export")
    assert all(torch.equal(model.state()[name], again.state()[name]) for name in model.state())
    train_a_little(again, 1)
    for adapter in (Adapter(rank=2), Adapter(rank=4, alpha=9), Adapter(rank=4, targets=("to_q",))):
        with pytest.raises(WeightsError, match="Need adapters for this network"):
            load(eps, adapter=adapter, train=True, weights=tmp_path / "export")
    with pytest.raises(SettingError, match="without an adapter"):
        load(eps, train=True, weights=tmp_path / "export")


def test_a_changed_export_is_refused(eps, tmp_path):
    file = load(eps, adapter=Adapter(), train=True).export(tmp_path / "export")[0]
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 1
    file.write_bytes(raw)
    with pytest.raises(WeightsError, match="its digest differs"):
        load(eps, weights=tmp_path / "export")


@pytest.fixture(scope="module")
def good(eps, tmp_path_factory) -> Path:
    """An adapter file that loads. Read only."""
    folder = tmp_path_factory.mktemp("good") / "export"
    file = load(eps, adapter=Adapter(rank=4), train=True).export(folder)[0]
    load(eps, weights=file)
    return file


def spoil_bias(tensors, header):
    settings = json.loads(header["lora_adapter_metadata"])
    header["lora_adapter_metadata"] = json.dumps({**settings, "unet.bias": "all"})


def spoil_modules(tensors, header):
    settings = json.loads(header["lora_adapter_metadata"])
    settings["unet.modules_to_save"] = ["conv_out"]
    header["lora_adapter_metadata"] = json.dumps(settings)


def spoil_initialisation(tensors, header):
    settings = json.loads(header["lora_adapter_metadata"])
    settings["unet.init_lora_weights"] = "pissa"
    header["lora_adapter_metadata"] = json.dumps(settings)


def spoil_text_encoder(tensors, header):
    tensors["text_encoder.layers.0.q_proj.lora_A.weight"] = torch.zeros(4, 4)


def spoil_finite(tensors, header):
    next(iter(tensors.values()))[0, 0] = float("nan")


def spoil_shape(tensors, header):
    name = next(iter(tensors))
    tensors[name] = torch.zeros(tensors[name].shape[0], 77)


def spoil_name(tensors, header):
    tensors["unet.no.such.layer.lora_A.weight"] = torch.zeros(4, 4)
    tensors["unet.no.such.layer.lora_B.weight"] = torch.zeros(4, 4)


def spoil_header(tensors, header):
    header["lora_adapter_metadata"] = "{not json"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_bias,
        spoil_modules,
        spoil_initialisation,
        spoil_text_encoder,
        spoil_finite,
        spoil_shape,
        spoil_name,
        spoil_header,
    ],
)
def test_a_file_that_is_more_or_less_than_adapters_is_refused(eps, good, tmp_path, spoil):
    tensors = load_file(good)
    with safe_open(good, "pt") as opened:
        header = dict(opened.metadata())
    bad = tmp_path / "bad.safetensors"
    spoil(tensors, header)
    save_file(tensors, bad, metadata=header)
    with pytest.raises(WeightsError):
        load(eps, weights=bad)


def test_a_pickled_adapter_file_is_not_opened(eps, tmp_path):
    file = tmp_path / "pytorch_lora_weights.bin"
    file.write_bytes(b"anything")
    with pytest.raises(WeightsError, match=r"Need a \.safetensors file"):
        load(eps, weights=file)


def test_a_folder_without_weights_says_what_is_needed(eps, tmp_path):
    with pytest.raises(WeightsError, match="Need a LoRA file or folder, or a pipeline folder"):
        load(eps, weights=Path(tmp_path))
