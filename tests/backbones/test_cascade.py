"""Stable Cascade folders as backbones, against diffusers' own pipelines on them."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import (
    DDPMWuerstchenScheduler,
    StableCascadeCombinedPipeline,
    StableCascadePriorPipeline,
    StableCascadeUNet,
)
from diffusers.models.attention_processor import Attention
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from backbones import keyed_effnet, tiny_cascade
from backbones.asking import (
    LEVELS,
    WORDS,
    ask,
    ask_reference,
    generator,
    rewrite,
    train_a_little,
)
from palate.backbones import Adapter, Personal, load, model_digests
from palate.backbones.cascade import MULTIPLE, Coarse, Heard, StageB
from palate.backbones.effnet import FILE, PictureEncoder
from palate.backbones.folder import Folder
from palate.backbones.personal import listen
from palate.backbones.sample import Sampler, _denoise, _generators, sample, starting_noise
from palate.backbones.schedule import cosine_path, cosine_times
from palate.core.problems import SettingError, StateError, WeightsError
from palate.core.streams import Streams

PROMPTS = ["a red ball", "a blue box on green", "two small yellow stars"]
SIZE = (128, 256)  # in pixels; 3×6 latents
SIDE = 128
kinds = pytest.mark.parametrize("kind", ["prior", pytest.param("combined", marks=pytest.mark.slow)])
SETTINGS = Personal(user_width=6, tokens=3, width=5, about={"users": "made in a test"})


@pytest.fixture(scope="module")
def combined(tmp_path_factory):
    """A folder of all stages; beside them a picture encoder that cannot be read. Read only."""
    folder = tmp_path_factory.mktemp("combined") / "model"
    tiny_cascade.combined(PROMPTS).save_pretrained(folder)
    (folder / FILE).write_bytes(b"not read")
    return folder


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """A folder of stage C alone. Read only."""
    folder = tmp_path_factory.mktemp("prior") / "model"
    tiny_cascade.prior(PROMPTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(combined):
    """The combined model, loaded once. Ask it; do not train, change or release it."""
    return load(combined)


@pytest.fixture(scope="module")
def plain(combined):
    """The plain pipeline on the combined folder. Ask it; do not change it."""
    return whole(combined)


@pytest.fixture
def spoiled(prior, tmp_path):
    """A copy of the folder of stage C, to be spoiled."""
    shutil.copytree(prior, tmp_path / "copy")
    return tmp_path / "copy"


def whole(folder):
    """The plain pipeline of all stages.

    Put together from its parts: diffusers 0.42 does not find the class of the VQGAN by itself, also
    not in folders it has written.
    """
    kinds = {
        "prior": StableCascadeUNet,
        "decoder": StableCascadeUNet,
        "text_encoder": CLIPTextModelWithProjection,
        "tokenizer": CLIPTokenizer,
        "scheduler": DDPMWuerstchenScheduler,
        "vqgan": PaellaVQModel,
    }
    parts = {
        part.name: kinds[part.name.removeprefix("prior_")].from_pretrained(part)
        for part in folder.iterdir()
        if part.is_dir()
    }
    pipeline = StableCascadeCombinedPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stage_c(folder):
    """The plain pipeline of stage C, from either kind of folder."""
    if (folder / "prior").is_dir():
        pipeline = StableCascadePriorPipeline.from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
    return whole(folder).prior_pipe


def encoded(pipeline, prompts):
    """Text and pooled of prompts, and of the empty ones, by the prior pipeline's own way."""
    with torch.no_grad():
        text, pooled, no_text, no_pooled = pipeline.encode_prompt(
            device="cpu",
            batch_size=len(prompts),
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            prompt=prompts,
        )
    return (text, pooled[:, 0]), (no_text, no_pooled[:, 0])


def named(rows):
    """Names of so many pictures."""
    return [("picture", row) for row in range(rows)]


def drawn(pipeline, prompts, noise, sampler):
    """What the plain prior pipeline draws, with our generators; the network's own time is its."""
    return pipeline(
        prompts, height=SIZE[0], width=SIZE[1], latents=noise.clone(),
        num_inference_steps=sampler.steps, guidance_scale=sampler.guidance,
        generator=_generators(noise),
    ).image_embeddings  # fmt: skip


def ours(model, prompts, noise, sampler):
    """The latents palate draws."""
    known = model.embed(["", *prompts])
    with torch.no_grad():
        return _denoise(model, known, list(range(1, len(prompts) + 1)), noise, sampler)


def test_embeddings_are_the_pipelines_own_bit_for_bit(model, plain):
    prompts = ["a red ball", "a red ball " * 40, " "]
    theirs, unconditional = encoded(plain.prior_pipe, prompts)
    found, empty = model.embed(prompts), model.embed(["", "", ""])
    assert found.tensors["text"].shape == (3, 24, tiny_cascade.TEXT)
    assert found.tensors["pooled"].shape == (3, tiny_cascade.POOLED)
    for condition, rows in ((found, theirs), (empty, unconditional)):
        assert torch.equal(condition.tensors["text"], rows[0])
        assert torch.equal(condition.tensors["pooled"], rows[1])
    assert empty.tensors["pooled"].any()


def test_the_path_is_the_cosine_by_hand_and_the_schedulers_own(prior):
    """At t = 1/2: ᾱ = cos²(0.508/1.008 · π/2) / cos²(0.008/1.008 · π/2) = 0.49384.

    The ends are cut to 0.9999 and 0.0001, so that α there is 0.99995 and 0.01.
    """
    part = load(prior)._parts["scheduler"]
    path, times = cosine_path(part), cosine_times(part)
    assert path.levels == 1000
    assert path.prediction == "epsilon"
    half = math.cos(0.508 / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert half == pytest.approx(0.49384, abs=1e-5)
    assert path.alpha[499].item() ** 2 == pytest.approx(half, abs=1e-12)
    assert [path.alpha[0].item(), path.alpha[-1].item()] == pytest.approx([0.9999**0.5, 0.01])
    levels = torch.tensor([0, 3, 20, 499, 981, 999])
    assert times(levels).tolist() == pytest.approx([0.001, 0.004, 0.021, 0.5, 0.982, 1.0])
    clean, noise = (Streams(0)(name).normal((6, 2, 3)) for name in ("clean", "noise"))
    theirs = DDPMWuerstchenScheduler().add_noise(clean, noise, times(levels))
    torch.testing.assert_close(path.noisy(clean, noise, levels), theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("bend", [0.5, 2.0])
def test_a_bent_path_is_the_schedulers_too(spoiled, bend):
    rewrite(spoiled / "scheduler/scheduler_config.json", scaler=bend)
    path, levels = load(spoiled).path, torch.tensor([3, 200, 700])
    clean, noise = torch.ones(3, 1), torch.zeros(3, 1)
    theirs = DDPMWuerstchenScheduler(scaler=bend).add_noise(clean, noise, (levels + 1) / 1000)
    torch.testing.assert_close(path.noisy(clean, noise, levels), theirs, rtol=2e-4, atol=2e-5)


def test_prediction_is_the_networks_own_at_an_index_and_at_its_time(model, plain):
    """Level 20 of the path is the network's time 0.021."""
    noisy = torch.randn((3, 16, 3, 5), generator=generator())
    (text, pooled), _ = encoded(plain.prior_pipe, PROMPTS)
    times = torch.tensor([0.021, 0.401, 0.981])
    with torch.no_grad():
        theirs = plain.prior_prior(
            noisy, times, clip_text_pooled=pooled[:, None], clip_text=text,
            clip_img=torch.zeros(3, 1, tiny_cascade.IMAGE),
        ).sample  # fmt: skip
    condition = model.embed(PROMPTS)
    assert torch.equal(model.predict(noisy, LEVELS, condition), theirs)
    assert torch.equal(model.predict(noisy, times, condition), theirs)
    assert theirs.std() > 0.1


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@kinds
def test_latents_are_those_of_the_plain_pipeline(kind, guidance, request):
    folder = request.getfixturevalue(kind)
    model = load(folder)
    noise = starting_noise(model, named(2), seed=0, size=SIZE)
    assert noise.shape == (2, 16, 3, 6)
    sampler = Sampler(steps=6, guidance=guidance, scheduler="saved")
    found = ours(model, PROMPTS[:2], noise, sampler)
    theirs = drawn(stage_c(folder), PROMPTS[:2], noise, sampler)
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-4 * theirs.std().item())
    alone = ours(model, PROMPTS[1:2], noise[1:], sampler)
    torch.testing.assert_close(alone, found[1:], rtol=1e-4, atol=1e-4 * theirs.std().item())


def test_stage_b_draws_what_the_plain_pipeline_draws_of_the_empty_prompt(model, plain):
    """To half a grey level of 255, from the same noise; the prompt is in stage C's latents."""
    latents = Streams(3)("latents").normal((1, 16, 4, 6))
    found = model.decode(latents)
    assert found.shape == (1, 4 * 42, 4 * 64, 3)
    theirs = plain.decoder_pipe(
        latents, "", num_inference_steps=StageB.STEPS, guidance_scale=0.0, output_type="np",
        latents=Streams(0)("stage b").normal((1, 4, 42, 64)),
        generator=Streams(0)("stage b", "steps").generator(),
    ).images  # fmt: skip
    assert (found.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51
    assert found.float().std() > 5


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(model):
    latents = Streams(3)("latents").normal((3, 16, 2, 2))
    together = model.decode(latents)
    assert torch.equal(together[2:], model.decode(latents[2:]))
    assert (together[0].float() - together[1].float()).abs().mean() > 0.5


def test_pictures_can_be_drawn_from_prompts(model):
    noise = starting_noise(model, named(2), seed=0, size=SIZE)
    pictures = sample(model, PROMPTS[:2], noise, Sampler(steps=2, scheduler="saved"))
    assert pictures.shape == (2, *SIZE, 3)
    assert pictures.dtype == torch.uint8


@pytest.mark.slow
def test_latents_of_pictures_are_the_picture_encoders(spoiled, pictures):
    model, file = load(spoiled), keyed_effnet.write(spoiled)
    large = pictures.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    mean, spread = model.encode(large)
    encoder = PictureEncoder.load(file, torch.device("cpu"))
    assert torch.equal(mean, encoder.encode(large, (3, 3)))
    assert mean.shape == (3, *model.latent_shape(128, 128)) == (3, 16, 3, 3)
    assert not spread.any()


def test_sizes_are_those_of_which_every_stage_makes_whole_numbers():
    """Up to 4096, the pipeline's own rounding: ceil(n / 42.67) latents, int(10.67 · that) · 4."""
    for side in range(128, 4097, 128):
        latents = Coarse().shape(side, side)
        assert latents == (16, math.ceil(side / 42.67), math.ceil(side / 42.67))
        assert 4 * int(latents[1] * StageB.FINER) == side
        assert Coarse().pixels(*latents[1:]) == (side, side)
    assert Coarse().shape(1024, 512) == (16, 24, 12)
    with pytest.raises(SettingError, match=r"multiples of 128\. Use 1024×896"):
        Coarse().shape(900, 1000)


def test_a_folder_that_says_its_latents_are_otherwise_is_refused(spoiled):
    rewrite(spoiled / "model_index.json", resolution_multiple=32.0)
    with pytest.raises(WeightsError, match=r"Need 42\.67 pixels to one latent"):
        load(spoiled)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_before_the_first_step_the_policy_is_the_reference_bit_for_bit(prior, precision):
    model = load(prior, train=True, precision=precision)
    assert torch.equal(ask(model, SIDE).detach(), ask_reference(model, SIDE))
    assert torch.equal(ask_reference(model, SIDE), ask(load(prior, precision=precision), SIDE))
    assert all(weight.dtype == torch.float32 for weight in model.trainable().values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prior", "combined"])
def test_plain_diffusers_draws_the_same_from_a_whole_export(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    model = load(folder, train=True)
    train_a_little(model, side=SIDE)
    model.release("vae", "text_encoder")
    model.export(tmp_path / "export")
    again = load(tmp_path / "export")
    noise = starting_noise(model, named(1), seed=1, size=SIZE)
    sampler = Sampler(steps=4, guidance=3.0, scheduler="saved")
    found = ours(load(folder, weights=tmp_path / "export"), PROMPTS[:1], noise, sampler)
    theirs = drawn(stage_c(tmp_path / "export"), PROMPTS[:1], noise, sampler)
    close = {"rtol": 1e-4, "atol": 1e-4 * theirs.std().item()}
    torch.testing.assert_close(found, theirs, **close)
    torch.testing.assert_close(ours(again, PROMPTS[:1], noise, sampler), theirs, **close)
    assert (ours(load(folder), PROMPTS[:1], noise, sampler) - theirs).abs().max() > 1e-2
    told = json.loads((tmp_path / "export/model_index.json").read_text())
    assert (MULTIPLE in told) == (kind == "prior")
    # What makes latents of pictures goes with it, where there is any.
    assert (tmp_path / "export" / FILE).is_file() == (kind == "combined")


def test_training_moves_the_policy_never_the_reference_and_comes_back(prior, tmp_path):
    model = load(prior, train=True, gradient_checkpointing=True)
    before, probe = ask_reference(model, SIDE), model.reference_probe()
    train_a_little(model, rate=0.02, side=SIDE)
    assert (ask(model, SIDE) - before).abs().max() > 1e-3
    assert torch.equal(ask_reference(model, SIDE), before)
    assert model.reference_probe() == probe == load(prior).reference_probe()
    model.export(tmp_path / "export")
    again = load(prior, weights=tmp_path / "export")
    assert torch.equal(ask_reference(again, SIDE), before)
    torch.testing.assert_close(ask(again, SIDE), ask(model, SIDE).detach(), rtol=1e-5, atol=1e-5)


def test_adapters_are_refused_because_the_plain_pipeline_reads_none(prior):
    with pytest.raises(SettingError, match=r"adapters for a StableCascadeUNet.*Leave the adapter"):
        load(prior, adapter=Adapter(rank=4), train=True)


@pytest.mark.parametrize("scheduler", ["dpm++", "ddim", "euler", "ddpm"])
def test_samplers_of_other_paths_are_refused_before_anything_is_drawn(model, scheduler):
    noise = starting_noise(model, named(1), seed=0, size=SIZE)
    with pytest.raises(SettingError, match=r"for a Stable Cascade. Need saved"):
        sample(model, PROMPTS[:1], noise, Sampler(steps=2, scheduler=scheduler))


def test_stage_c_alone_says_what_it_takes_to_make_pictures(prior):
    model = load(prior)
    with pytest.raises(WeightsError, match=r"which is stage C.*StableCascadeCombinedPipeline"):
        model.decode(torch.zeros(1, 16, 2, 2))
    with pytest.raises(WeightsError, match=f"no {FILE} in .*stabilityai/stable-cascade"):
        model.encode(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))


def test_what_makes_pictures_is_opened_only_when_a_picture_is_asked_for(combined, tmp_path):
    """The weights of stages A and B and of the picture encoder are spoilt: not read, not missed."""
    shutil.copytree(combined, tmp_path / "model")
    for name in ("decoder", "vqgan"):
        file = tmp_path / "model" / name / "diffusion_pytorch_model.safetensors"
        file.write_bytes(b"not read")
    model = load(tmp_path / "model")
    assert ask(model, SIDE).isfinite().all()
    with pytest.raises(WeightsError):
        model.decode(torch.zeros(1, 16, 2, 2))
    with pytest.raises(WeightsError):
        model.encode(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    model.release("vae")
    with pytest.raises(StateError, match="the vae, which was released"):
        model.decode(torch.zeros(1, 16, 2, 2))


def test_both_kinds_of_folder_name_their_parts_alike(model, combined, prior, tmp_path):
    """Caches are keyed by digests: what stage C reads must be named so, not what stage B reads."""
    alone = model_digests(prior)
    assert sorted(alone) == [
        "prior", "scheduler", "text_encoder", "tokenizer", "vae",
    ]  # fmt: skip
    assert set(alone) == {name for name in model.digests if not name.startswith("stage b ")}
    shared = ("prior", "scheduler", "tokenizer")
    assert all(alone[name] == model.digests[name] for name in shared)
    assert alone["vae"] != model.digests["vae"]
    shutil.copytree(combined, tmp_path / "model")
    file = tmp_path / "model/prior_text_encoder/model.safetensors"
    tensors = load_file(file)
    save_file({n: w + 1e-3 for n, w in tensors.items()}, file, metadata={"format": "pt"})
    changed = model_digests(tmp_path / "model")
    assert {n for n in changed if changed[n] != model.digests[n]} == {"text_encoder"}


@pytest.mark.parametrize(
    "change",
    [
        {"effnet_in_channels": 16},
        {"clip_text_in_channels": None},
        {"clip_image_in_channels": None},
        {"in_channels": 4},
    ],
)
def test_another_stage_than_c_is_refused_before_it_is_read(spoiled, change):
    rewrite(spoiled / "prior/config.json", **change)
    (spoiled / "prior/diffusion_pytorch_model.safetensors").write_bytes(b"not read")
    with pytest.raises(WeightsError, match="Need a stage C: 16 channels"):
        load(spoiled)


def test_the_published_networks_numbers_are_understood(prior):
    """8 + 24 layers down and 24 + 8 up, each attending: 64 places to hear a user."""
    with torch.device("meta"):
        network = StableCascadeUNet(
            clip_text_in_channels=1280, clip_image_in_channels=768, switch_level=(False,)
        )
    part = Folder.open(prior).parts({"prior": ("StableCascadeUNet",)})["prior"]
    heard = Heard.by(replace(part, settings=dict(network.config)))
    assert (heard.text, heard.pooled, heard.image) == (1280, 1280, 768)
    told = heard(heard.question(), 1024, 1024)
    assert told["clip_text_pooled"].shape == (2, 1, 1280)
    assert told["clip_img"].shape == (2, 1, 768)
    places = [n for n, m in network.named_modules() if isinstance(m, Attention)]
    assert len(places) == 64
    assert {name.rpartition(".")[2] for name in places} == {"attention"}


def test_a_text_encoder_of_another_model_is_refused(spoiled):
    rewrite(spoiled / "text_encoder/config.json", projection_dim=10)
    file = spoiled / "text_encoder/model.safetensors"
    tensors = load_file(file)
    tensors["text_projection.weight"] = tensors["text_projection.weight"][:10].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"pooled 10. Need 24 wide and pooled 20"):
        load(spoiled)


@pytest.mark.parametrize("change", [{"s": "0.008"}, {"s": 1.5}, {"scaler": 0}])
def test_a_scheduler_without_a_cosine_path_is_refused(spoiled, change):
    rewrite(spoiled / "scheduler/scheduler_config.json", **change)
    with pytest.raises(WeightsError, match="Correct the scheduler's configuration"):
        load(spoiled)


@pytest.mark.parametrize("gone", ["prior_text_encoder", "prior_scheduler", "vqgan"])
def test_a_missing_part_of_a_combined_folder_is_named(combined, tmp_path, gone):
    shutil.copytree(combined, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / gone)
    with pytest.raises(WeightsError, match=f"without {gone}/"):
        load(tmp_path / "model")


def test_stage_b_alone_is_not_a_model_to_train(combined, tmp_path):
    shutil.copytree(combined, tmp_path / "model")
    index = json.loads((tmp_path / "model/model_index.json").read_text())
    index["_class_name"] = "StableCascadeDecoderPipeline"
    (tmp_path / "model/model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="StableCascadeCombinedPipeline"):
        load(tmp_path / "model")


@pytest.mark.parametrize("recomputing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_user_trains_new_layers_only_and_the_plain_pipeline_can_listen(
    prior, recomputing, tmp_path
):
    """One step; nobody stays the base to the bit; exported, plain diffusers draws the same."""
    model, base = load(prior, personal=SETTINGS, train=True), load(prior)
    if recomputing:
        model = load(prior, personal=SETTINGS, train=True, gradient_checkpointing=True)
    noisy = torch.randn((2, 16, 3, 4), generator=generator())
    told = model.embed(WORDS[:1] * 2)
    user = Streams(5)("users").normal((2, SETTINGS.tokens, SETTINGS.user_width))
    user[1] = 0
    asked = (noisy, LEVELS[1:2].repeat(2), told.with_user(user))
    plain = base.predict(noisy, LEVELS[1:2].repeat(2), told)
    assert torch.equal(model.predict(*asked), plain)
    for _ in range(2):
        model.predict(*asked).square().mean().backward()
        assert all(name.startswith("user_attention.") for name in model.trainable())
        with torch.no_grad():
            for weight in model.trainable().values():
                weight -= 5 * weight.grad
                weight.grad = None
    found = model.predict(*asked)
    assert torch.equal(found[1], plain[1])
    assert (found[0] - plain[0]).abs().max() > 1e-3
    with model.as_reference():
        assert torch.equal(model.predict(*asked), plain)
    model.export(tmp_path / "export")
    pipeline = stage_c(prior)
    layers = listen(pipeline, tmp_path / "export")
    noise = starting_noise(model, named(2), seed=1, size=SIZE)
    sampler = Sampler(steps=4, guidance=3.0, scheduler="saved")
    for whom in (user[:1], None):
        layers.draw_for(whom)
        theirs = drawn(pipeline, PROMPTS[:2], noise, sampler)
        known = model.embed(["", *PROMPTS[:2]])
        some = None if whom is None else torch.cat([torch.zeros_like(whom), whom, whom])
        with torch.no_grad():
            latents = _denoise(model, known.with_user(some), [1, 2], noise, sampler)
        close = {"rtol": 1e-4, "atol": 1e-4 * theirs.std().item()}
        torch.testing.assert_close(latents, theirs, **close)
    assert torch.equal(theirs, drawn(stage_c(prior), PROMPTS[:2], noise, sampler))


def test_a_user_for_a_model_that_knows_none_is_refused(model):
    told = model.embed(PROMPTS).with_user(torch.ones(3, 1, 6))
    with pytest.raises(SettingError, match="a user for a model that knows no users"):
        model.predict(torch.zeros(3, 16, 2, 2), LEVELS, told)
