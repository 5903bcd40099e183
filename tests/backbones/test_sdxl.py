"""A Stable Diffusion XL folder as a backbone, against diffusers' own pipeline on it."""

import random
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from backbones import tiny_sdxl
from backbones.asking import (
    LEVELS,
    WORDS,
    ask,
    ask_reference,
    generator,
    rewrite,
    train_a_little,
)
from palate.backbones import Adapter, Condition, Sizes, load
from palate.backbones.folder import Folder
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.backbones.sdxl import Heard
from palate.core.problems import SettingError, StateError, WeightsError

PROMPTS = ["a red ball", "a blue box on green", "two small yellow stars"]
NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZES = torch.tensor(
    [[768, 512, 0, 0, 64, 64], [64, 64, 12, 0, 64, 64], [1023, 1024, 3, 77, 64, 64]]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An XL pipeline folder. Read only."""
    folder = tmp_path_factory.mktemp("sdxl") / "model"
    tiny_sdxl.build(PROMPTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    """The model, loaded once. Ask it; do not train, change or release it."""
    return load(folder)


@pytest.fixture(scope="module")
def pipeline(folder):
    """The plain pipeline on the same folder. Ask it; do not change it."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def spoiled(folder, tmp_path):
    """A copy of the folder, to be spoiled."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def encoded(pipeline, prompts):
    """Text and pooled of prompts and of the unconditional branch, by the pipeline's own way."""
    with torch.no_grad():
        text, no_text, pooled, no_pooled = pipeline.encode_prompt(
            prompts, num_images_per_prompt=1, do_classifier_free_guidance=True
        )
    return (text, pooled), (no_text, no_pooled)


def test_embeddings_are_the_pipelines_own_bit_for_bit(model, pipeline):
    prompts = ["a red ball", "a red ball " * 40, " "]
    theirs, unconditional = encoded(pipeline, prompts)
    ours, empty = model.embed(prompts), model.embed(["", "", ""])
    assert ours.tensors["text"].shape == (3, 24, 16 + 24)
    assert ours.tensors["pooled"].shape == (3, 20)
    for condition, rows in ((ours, theirs), (empty, unconditional)):
        assert torch.equal(condition.tensors["text"], rows[0])
        assert torch.equal(condition.tensors["pooled"], rows[1])
    assert not empty.tensors["text"].any()
    assert not empty.tensors["pooled"].any()
    assert ours.tensors["pooled"][0].any()


def test_without_the_folders_rule_the_empty_prompt_is_what_the_encoders_make_of_it(spoiled, model):
    rewrite(spoiled / "model_index.json", force_zeros_for_empty_prompt=False)
    plain = StableDiffusionXLPipeline.from_pretrained(spoiled, add_watermarker=False)
    _, (text, pooled) = encoded(plain, ["a red ball"])
    changed = load(spoiled)
    empty = changed.embed([""])
    assert empty.tensors["text"].any()
    assert torch.equal(empty.tensors["text"], text)
    assert torch.equal(empty.tensors["pooled"], pooled)
    # Embeddings are cached by digest, so the rule has to be in one.
    differing = {n for n in model.digests if model.digests[n] != changed.digests[n]}
    assert differing == {"text_encoder_rules"}


def test_latents_and_pictures_are_the_autoencoders_own(model, pipeline, pictures):
    scale = pipeline.vae.config.scaling_factor
    with torch.no_grad():
        posterior = pipeline.vae.encode(pictures.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
        pixels = pipeline.vae.decode(posterior.mean).sample
    mean, spread = model.encode(pictures)
    assert mean.shape == (3, *model.latent_shape(64, 64)) == (3, 4, 16, 16)
    torch.testing.assert_close(mean, posterior.mean * scale)
    torch.testing.assert_close(spread, posterior.std * scale)
    theirs = ((pixels / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1)
    assert (model.decode(mean).float() - theirs).abs().max() <= 0.51


def test_prediction_is_the_networks_own_with_sizes_and_without(model, pipeline):
    """Without sizes, a picture counts as uncropped and made at the size it has: 64 by 48."""
    noisy = torch.randn((3, 4, 16, 12), generator=generator())
    (text, pooled), _ = encoded(pipeline, PROMPTS)
    condition = model.embed(PROMPTS)
    own = torch.tensor([[64, 48, 0, 0, 64, 48]]).repeat(3, 1)
    for given, ids in ((None, own), (SIZES, SIZES)):
        added = {"text_embeds": pooled, "time_ids": ids.float()}
        with torch.no_grad():
            theirs = pipeline.unet(noisy, LEVELS, text, added_cond_kwargs=added).sample
        assert torch.equal(model.predict(noisy, LEVELS, condition.with_sizes(given)), theirs)


def test_sizes_matter_and_each_picture_has_its_own(model):
    noisy = torch.randn((3, *model.latent_shape(64, 64)), generator=generator())
    condition = model.embed([WORDS[0]] * 3).with_sizes(SIZES)
    level = LEVELS[:1].repeat(3)
    answer = model.predict(noisy, level, condition)
    turned = model.predict(noisy, level, condition.with_sizes(SIZES[[1, 0, 2]]))
    changed = (answer - turned).flatten(1).abs().amax(1)
    assert bool((changed[:2] > 1e-4).all())
    torch.testing.assert_close(answer[2], turned[2])
    alone = model.predict(noisy[1:2], level[1:2], condition.rows([1]))
    torch.testing.assert_close(alone, answer[1:2])


def test_sizes_travel_with_a_condition_and_can_be_taken_off():
    sizes = torch.tensor([Sizes(original=(9, 8), crop=(7, 6), target=(5, 4)).numbers] * 2)
    condition = Condition({"text": torch.zeros(2, 1, 1)}).with_sizes(sizes)
    assert condition.rows([1]).repeat(2).sizes.tolist() == [[9, 8, 7, 6, 5, 4]] * 2
    assert condition.to(dtype=torch.float16).sizes.dtype == torch.int64
    assert condition.with_sizes(None).sizes is None
    with pytest.raises(SettingError, match="one row of 6 numbers per picture"):
        condition.with_sizes(torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(SettingError, match="the same number of rows"):
        condition.with_sizes(sizes[:1])


def test_a_model_that_was_not_taught_sizes_ignores_them(still):
    noisy = torch.randn((3, *still.latent_shape(64, 64)), generator=generator())
    condition = still.embed(WORDS)
    plain = still.predict(noisy, LEVELS, condition)
    assert torch.equal(still.predict(noisy, LEVELS, condition.with_sizes(SIZES)), plain)


@NUMPY
@pytest.mark.parametrize(
    ("scheduler", "guidance", "size"),
    [("saved", 4.0, (64, 64)), ("ddim", 1.0, (64, 64)), ("dpm++", 4.0, (32, 96))],
)
def test_pictures_are_those_of_the_plain_pipeline(model, folder, scheduler, guidance, size):
    noise = starting_noise(model, [("one", 0), ("two", 0)], seed=0, size=size)
    sampler = Sampler(steps=5, guidance=guidance, scheduler=scheduler)
    ours = sample(model, PROMPTS[:2], noise, sampler)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    makers = {"ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler}
    if scheduler in makers:
        told = {"clip_sample": False} if scheduler == "ddim" else {}
        pipeline.scheduler = makers[scheduler].from_config(pipeline.scheduler.config, **told)
    theirs = pipeline(
        PROMPTS[:2], height=size[0], width=size[1], latents=noise.clone(),
        num_inference_steps=5, guidance_scale=guidance, output_type="np",
    ).images  # fmt: skip
    assert (ours.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51
    assert ours.float().std() > 5


FORMS = {
    "full": None,
    "lora": Adapter(rank=4, alpha=40.0),
    "everywhere": Adapter(rank=2, targets=("to_k", "to_v", "conv1", "proj_in", "ff.net")),
    "dora": Adapter(rank=4, dora=True),
}
forms = pytest.mark.parametrize(
    "form",
    ["full", "lora", *(pytest.param(name, marks=pytest.mark.slow) for name in list(FORMS)[2:])],
)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("form", ["full", "lora"])
def test_before_the_first_step_the_policy_is_the_reference_bit_for_bit(folder, form, precision):
    model = load(folder, adapter=FORMS[form], train=True, precision=precision)
    assert torch.equal(ask(model).detach(), ask_reference(model))
    assert torch.equal(ask_reference(model), ask(load(folder, precision=precision)))
    assert all(weight.dtype == torch.float32 for weight in model.trainable().values())


@NUMPY
@forms
def test_plain_diffusers_draws_the_same_picture_from_the_export(form, folder, tmp_path):
    """To half a grey level of 255: the same picture, once rounded to bytes."""
    model = load(folder, adapter=FORMS[form], train=True)
    train_a_little(model, steps=4)
    noise = starting_noise(model, [("picture", 0)], seed=1)
    ours = sample(model, ["a red ball"], noise, Sampler(steps=4, guidance=3.0, scheduler="saved"))
    model.release("vae", "text_encoder")
    model.export(tmp_path / "export")
    whole = FORMS[form] is None
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        tmp_path / "export" if whole else folder, add_watermarker=False, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np"}
    if not whole:
        without = pipeline("a red ball", latents=noise, **settings).images
        assert (ours.float() - 255 * torch.from_numpy(without)).abs().max() > 2
        pipeline.load_lora_weights(tmp_path / "export")
    theirs = pipeline("a red ball", latents=noise, **settings).images
    assert (ours.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51


@forms
def test_training_moves_the_policy_never_the_reference_and_comes_back(form, folder, tmp_path):
    """Weights bit for bit; answers to rounding, as torch folds products where none is trained."""
    model = load(folder, adapter=FORMS[form], train=True)
    before, probe = ask_reference(model), model.reference_probe()
    train_a_little(model, rate=0.02)
    assert (ask(model) - before).abs().max() > 1e-3
    assert torch.equal(ask_reference(model), before)
    assert model.reference_probe() == probe == load(folder).reference_probe()
    model.export(tmp_path / "export")
    again = load(folder, weights=tmp_path / "export")
    held = dict(again._policy.network.named_parameters())
    assert all(torch.equal(held[name], weight) for name, weight in model.state().items())
    torch.testing.assert_close(ask(again), ask(model).detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(ask_reference(again), before)


def test_a_whole_export_keeps_the_rule_and_every_untrained_part(spoiled, tmp_path):
    rewrite(spoiled / "model_index.json", force_zeros_for_empty_prompt=False)
    model = load(spoiled, train=True)
    model.export(tmp_path / "export")
    again = load(tmp_path / "export")
    assert {n for n in again.digests if again.digests[n] != model.digests[n]} <= {"unet"}
    assert again.embed([""]).tensors["pooled"].any()


def test_half_precision_files_load_as_float32(folder, tmp_path):
    half = tmp_path / "half"
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.float16, add_watermarker=False
    )
    pipeline.save_pretrained(half, variant="fp16")
    assert (half / "text_encoder_2/model.fp16.safetensors").is_file()
    model = load(half, train=True)
    pictures = torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    assert model.encode(pictures)[0].dtype == model.embed(["a"]).tensors["pooled"].dtype
    assert model.embed(["a"]).tensors["pooled"].dtype == torch.float32
    model.export(tmp_path / "export")
    StableDiffusionXLPipeline.from_pretrained(
        tmp_path / "export", use_safetensors=True, add_watermarker=False
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_answers_in_float32(folder, model, precision):
    exact, near = ask(model), ask(load(folder, precision=precision))
    assert near.dtype == torch.float32
    assert 0 < (exact - near).abs().max() < 0.05 * exact.abs().max()


def test_recomputing_activations_changes_no_gradient(folder):
    gradients = []
    for recompute in (False, True):
        model = load(folder, train=True, gradient_checkpointing=recompute)
        ask(model).square().mean().backward()
        gradients.append({name: w.grad for name, w in model.trainable().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_an_autoencoder_with_a_mean_and_spread_per_channel_is_scaled_by_them(
    spoiled, model, pictures
):
    """Latents with mean 1 and spread 2 where they had 0 and 1: (x - 1 · scale) / 2."""
    rewrite(spoiled / "vae/config.json", latents_mean=[1.0] * 4, latents_std=[2.0] * 4)
    changed = load(spoiled)
    plain, mean = model.encode(pictures)[0], changed.encode(pictures)[0]
    torch.testing.assert_close(mean, (plain - 0.13025) / 2)
    assert (changed.decode(mean).int() - model.decode(plain).int()).abs().max() <= 1
    rewrite(spoiled / "vae/config.json", latents_std=[2.0] * 3)
    with pytest.raises(WeightsError, match="4 numbers each"):
        load(spoiled)


def test_the_longest_prompt_counts_and_released_parts_say_so(folder, model):
    counts, read = model.token_counts(["a red ball", "a red ball " * 40])
    assert (counts, read) == ([5, 122], 24)
    spent = load(folder)
    spent.release("text_encoder", "vae")
    with pytest.raises(StateError, match="the text_encoder, which was released"):
        spent.embed(["a"])


def test_every_part_has_a_digest(model):
    names = ["scheduler", "text_encoder", "text_encoder_2", "text_encoder_rules"]
    assert sorted(model.digests) == [*names, "tokenizer", "tokenizer_2", "unet", "vae"]
    assert (model.kind, model.resolution) == ("sdxl", 64)


@pytest.mark.parametrize(
    "change",
    [
        {"addition_embed_type": None},
        {"time_cond_proj_dim": 8},
        {"projection_class_embeddings_input_dim": 40},
        {"addition_time_embed_dim": "8"},
    ],
)
def test_a_network_that_hears_other_things_is_refused_before_it_is_read(spoiled, change):
    rewrite(spoiled / "unet/config.json", **change)
    (spoiled / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"not read")
    with pytest.raises(WeightsError, match="Need text_time with 6 sizes"):
        load(spoiled)


def test_encoders_of_another_model_are_refused(spoiled):
    """The projection of the second encoder cut to half: pooled 10 where 20 are heard."""
    rewrite(spoiled / "text_encoder_2/config.json", projection_dim=10)
    file = spoiled / "text_encoder_2/model.safetensors"
    tensors = load_file(file)
    tensors["text_projection.weight"] = tensors["text_projection.weight"][:10].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"together 40 wide, pooled 10\. Need equally many"):
        load(spoiled)


@pytest.mark.parametrize("gone", ["text_encoder_2/model.safetensors", "tokenizer_2"])
def test_a_missing_second_part_is_named(spoiled, gone):
    path = spoiled / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(WeightsError, match=f"without {gone.split('/')[0]}/"):
        load(spoiled)


def test_the_published_networks_numbers_are_understood(folder):
    """2816 inputs for sizes of 256 each leave 1280 for the pooled text; tokens are 768 + 1280."""
    part = Folder.open(folder).parts({"unet": ("UNet2DConditionModel",)})["unet"]
    published = {
        **part.settings,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "cross_attention_dim": 2048,
    }
    heard = Heard.by(replace(part, settings=published))
    assert (heard.text, heard.pooled) == (2048, 1280)
    told = heard(heard.question(), 1024, 768)["added_cond_kwargs"]
    assert told["time_ids"].tolist() == [[1024, 768, 0, 0, 1024, 768]] * 2
    assert told["text_embeds"].shape == (2, 1280)


@pytest.mark.slow
def test_mutated_folders_load_or_are_refused_cleanly(folder, tmp_path):
    """Any single change of a byte or a value: our own error or a model, never another exception."""
    draw, refused = random.Random(7), 0
    for number in range(80):
        changed = tmp_path / str(number)
        shutil.copytree(folder, changed)
        file = draw.choice(sorted(p for p in changed.rglob("*") if p.is_file()))
        raw = bytearray(file.read_bytes())
        raw[draw.randrange(min(len(raw), 4000))] = draw.randrange(256)
        file.write_bytes(raw[: draw.choice([len(raw), len(raw) // 2])])
        try:
            load(changed)
        except WeightsError:
            refused += 1
        shutil.rmtree(changed)
    assert refused > 25
