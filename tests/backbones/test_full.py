"""Training the whole network: a frozen copy is the reference, a whole pipeline is the export."""

import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline

from backbones.asking import ask, ask_reference, train_a_little
from palate.backbones import Adapter, load
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.core.files import digest_file
from palate.core.problems import SettingError, StateError, WeightsError


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_before_the_first_step_the_policy_is_the_reference_bit_for_bit(eps, precision):
    model = load(eps, train=True, precision=precision)
    assert torch.equal(ask(model).detach(), ask_reference(model))
    assert all(weight.dtype == torch.float32 for weight in model.trainable().values())


def test_training_moves_the_policy_and_never_the_reference(velocity):
    model = load(velocity, train=True)
    before, probe = ask_reference(model), model.reference_probe()
    train_a_little(model, rate=0.01)
    assert (ask(model) - before).abs().max() > 1e-3
    assert torch.equal(ask_reference(model), before)
    assert model.reference_probe() == probe == load(velocity).reference_probe()


def test_all_weights_of_the_network_are_trained_and_no_others(eps):
    model = load(eps, train=True)
    ask(model).square().mean().backward()
    names = list(model.trainable())
    assert names == sorted(names)
    assert set(names) == {n for n, _ in model._policy.network.named_parameters()}
    assert all(weight.grad is not None for weight in model.trainable().values())


def test_without_training_nothing_takes_gradients_and_the_policy_is_the_reference(eps):
    model = load(eps)
    assert model.trainable() == {}
    assert torch.equal(ask(model), ask_reference(model))
    assert not ask(model).requires_grad


def test_recomputing_activations_changes_no_gradient(eps):
    gradients = []
    for recompute in (False, True):
        model = load(eps, train=True, gradient_checkpointing=recompute)
        ask(model).square().mean().backward()
        gradients.append({name: w.grad for name, w in model.trainable().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


@pytest.mark.parametrize("adapter", [None, Adapter(rank=2)], ids=["full", "lora"])
def test_a_saved_state_comes_back(eps, adapter):
    model = load(eps, adapter=adapter, train=True)
    train_a_little(model, 1)
    kept = {name: value.clone() for name, value in model.state().items()}
    again = load(eps, adapter=adapter, train=True)
    again.load_state(kept)
    assert torch.equal(ask(again), ask(model))
    name = next(iter(kept))
    with pytest.raises(StateError, match=f"such as {name}"):
        again.load_state({n: v for n, v in kept.items() if n != name})
    with pytest.raises(StateError, match=f"such as {name}"):
        again.load_state({**kept, name: torch.zeros(1, 2, 3)})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", ["eps", "velocity"])
def test_plain_diffusers_draws_the_same_picture_from_the_export(kind, request, tmp_path):
    base = request.getfixturevalue(kind)
    model = load(base, train=True)
    train_a_little(model, rate=0.02)
    model.release("vae", "text_encoder")
    files = model.export(tmp_path / "export")
    assert tmp_path / "export/unet/diffusion_pytorch_model.safetensors" in files
    again = load(tmp_path / "export")
    noise = starting_noise(again, [("picture", 0)], seed=1)
    ours = sample(again, ["a red ball"], noise, Sampler(steps=4, guidance=3.0, scheduler="saved"))
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "export", use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a red ball", latents=noise, num_inference_steps=4, guidance_scale=3.0, output_type="np"
    ).images
    assert (ours.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51
    assert torch.equal(ask(again), ask(load(base, weights=tmp_path / "export")))


def test_an_export_put_on_its_base_speaks_with_both_voices(eps, tmp_path):
    model = load(eps, train=True)
    train_a_little(model)
    model.export(tmp_path / "export")
    again = load(eps, weights=tmp_path / "export")
    assert torch.equal(ask(again), ask(model).detach())
    assert torch.equal(ask_reference(again), ask_reference(model))
    assert again.digests == model.digests
    with pytest.raises(SettingError, match="an adapter on top of the whole model"):
        load(eps, adapter=Adapter(), train=True, weights=tmp_path / "export")


def test_untrained_parts_are_copied_byte_for_byte(eps, tmp_path):
    load(eps, train=True).export(tmp_path / "export")
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        for file in (eps / part).iterdir():
            assert digest_file(tmp_path / "export" / part / file.name) == digest_file(file)


def test_an_export_never_replaces_what_is_not_an_export(eps, tmp_path):
    model = load(eps, train=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(StateError, match="which exists"):
        model.export(tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"


def test_an_export_of_another_shape_is_refused(eps, copy, tmp_path):
    from backbones.asking import rewrite

    load(eps, train=True).export(tmp_path / "export")
    rewrite(copy / "unet/config.json", sample_size=32)
    with pytest.raises(WeightsError, match="a unet of another shape"):
        load(copy, weights=tmp_path / "export")


def test_a_base_in_half_precision_files_exports_under_plain_names(eps, tmp_path):
    half = tmp_path / "half"
    pipeline = StableDiffusionPipeline.from_pretrained(eps, dtype=torch.float16)
    pipeline.save_pretrained(half, variant="fp16")
    assert (half / "unet/diffusion_pytorch_model.fp16.safetensors").is_file()
    model = load(half, train=True)
    model.export(tmp_path / "export")
    assert torch.equal(ask(load(tmp_path / "export")), ask(model).detach())
    shutil.rmtree(half)
    StableDiffusionPipeline.from_pretrained(tmp_path / "export", use_safetensors=True)
