"""Stable Diffusion 3 folders as a backbone, against diffusers' own pipeline on them."""

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from backbones import tiny_sd3
from backbones.asking import (
    LEVELS,
    WORDS,
    ask,
    ask_reference,
    generator,
    rewrite,
    train_a_little,
)
from palate.backbones import Adapter, Mixture, load
from palate.backbones.folder import Folder
from palate.backbones.guidance import guided
from palate.backbones.inversion import invert
from palate.backbones.opposed import Opposed
from palate.backbones.patches import Patches
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.backbones.sd3 import PARTS, Joint
from palate.core.problems import SettingError, StateError, WeightsError
from palate.evaluate.draw import identity
from palate.recipes.preflight import _step

PROMPTS = ["a red ball", "a blue box on green", "two small yellow stars"]
NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of 3.0's form, without T5. Read only."""
    folder = tmp_path_factory.mktemp("sd3") / "model"
    tiny_sd3.build(PROMPTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of 3.5's form, with T5. Read only."""
    folder = tmp_path_factory.mktemp("sd35") / "model"
    tiny_sd3.build(PROMPTS, t5=True, newer=True, seed=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    """The model, loaded once. Ask it; do not train, change or release it."""
    return load(folder)


@pytest.fixture
def spoiled(whole, tmp_path):
    """A copy of the folder with every part, to be spoiled."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def encoded(pipeline, prompts):
    """Text and pooled of prompts and of the unconditional branch, by the pipeline's own way."""
    with torch.no_grad():
        text, no_text, pooled, no_pooled = pipeline.encode_prompt(prompts, None, None)
    return (text, pooled), (no_text, no_pooled)


@pytest.mark.parametrize("which", ["folder", "whole"])
def test_embeddings_are_the_pipelines_own_bit_for_bit(which, request):
    place = request.getfixturevalue(which)
    prompts = ["a red ball", "a red ball " * 100, " "]
    theirs, unconditional = encoded(tiny_sd3.plain(place), prompts)
    model = load(place)
    ours, empty = model.embed(prompts), model.embed(["", "", ""])
    assert ours.tensors["text"].shape == (3, 24 + 256, 48)
    assert ours.tensors["pooled"].shape == (3, 12 + 20)
    for condition, rows in ((ours, theirs), (empty, unconditional)):
        assert torch.equal(condition.tensors["text"], rows[0])
        assert torch.equal(condition.tensors["pooled"], rows[1])
    assert empty.tensors["text"].any()
    assert ours.tensors["text"][:, 24:].any() == (which == "whole")


def test_t5_reads_on_where_clip_has_stopped(whole):
    model, long = load(whole), "a red ball " * 20
    first, second = model.embed([long + "two", long + "green"]).tensors["text"]
    assert torch.equal(first[:24], second[:24])
    assert not torch.equal(first[24:], second[24:])
    counts, read = model.token_counts(["a red ball", long])
    assert (counts, read) == ([5, 62], 24)


def test_noise_on_the_straight_path_by_hand(model):
    """Shift 3: t = 1/1000 is 3·0.001 / (1 + 2·0.001), the middle is 0.75, the end all noise."""
    path = model.path
    assert (path.levels, path.prediction) == (1000, "flow")
    level = torch.tensor([0, 499, 999])
    sigma = torch.tensor([0.003 / 1.002, 1.5 / 2, 1.0], dtype=torch.float64)
    torch.testing.assert_close(path.sigma[level], sigma, rtol=1e-6, atol=0)
    torch.testing.assert_close(path.alpha[level], 1 - sigma, rtol=1e-6, atol=0)
    clean, noise = torch.full((3, 1), 2.0), torch.full((3, 1), -6.0)
    expected = (2 * (1 - sigma) - 6 * sigma)[:, None].float()
    torch.testing.assert_close(path.noisy(clean, noise, level), expected, rtol=1e-5, atol=1e-5)
    assert path.target(clean, noise, level).unique().tolist() == [-8.0]


def test_levels_are_those_of_the_pipelines_scheduler(model):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert torch.equal(model.path.sigma.float(), scheduler.sigmas.flip(0))


@pytest.mark.parametrize("which", ["folder", "whole"])
def test_a_prediction_is_the_networks_own_at_a_thousand_times_the_noise(which, request):
    place = request.getfixturevalue(which)
    model, pipeline = load(place), tiny_sd3.plain(place)
    noisy = torch.randn((3, 16, 16, 12), generator=generator())
    (text, pooled), _ = encoded(pipeline, PROMPTS)
    time = 1000 * model.path.sigma[LEVELS].float()
    with torch.no_grad():
        theirs = pipeline.transformer(
            noisy, text, pooled_projections=pooled, timestep=time, return_dict=False
        )[0]
    condition = model.embed(PROMPTS)
    assert torch.equal(model.predict(noisy, LEVELS, condition), theirs)
    assert torch.equal(model.predict(noisy, time, condition), theirs)
    assert not torch.equal(model.predict(noisy, LEVELS.float(), condition), theirs)


def test_latents_and_pictures_are_the_autoencoders_own(model, folder, pictures):
    vae = tiny_sd3.plain(folder).vae
    with torch.no_grad():
        posterior = vae.encode(pictures.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
        pixels = vae.decode(posterior.mean).sample
    mean, spread = model.encode(pictures)
    assert mean.shape == (3, *model.latent_shape(64, 64)) == (3, 16, 16, 16)
    torch.testing.assert_close(mean, (posterior.mean - 0.0609) * 1.5305)
    torch.testing.assert_close(spread, posterior.std * 1.5305)
    theirs = ((pixels / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1)
    assert (model.decode(mean).float() - theirs).abs().max() <= 0.51


@NUMPY
@pytest.mark.parametrize(
    ("which", "scheduler", "guidance", "size"),
    [
        ("folder", "saved", 4.0, (64, 64)),
        pytest.param("whole", "saved", 1.0, (64, 64), marks=pytest.mark.slow),
        ("whole", "euler", 4.0, (32, 96)),
        ("folder", "dpm++", 4.0, (64, 64)),
    ],
)
def test_pictures_are_those_of_the_plain_pipeline(which, scheduler, guidance, size, request):
    """To half a grey level of 255: the same picture, once rounded to bytes."""
    place = request.getfixturevalue(which)
    model, pipeline = load(place), tiny_sd3.plain(place)
    noise = starting_noise(model, [("one", 0), ("two", 0)], seed=0, size=size)
    sampler = Sampler(steps=5, guidance=guidance, scheduler=scheduler)
    ours = sample(model, PROMPTS[:2], noise, sampler)
    if scheduler == "dpm++":
        pipeline.scheduler = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
    theirs = pipeline(
        PROMPTS[:2], height=size[0], width=size[1], latents=noise.clone(),
        num_inference_steps=5, guidance_scale=guidance, output_type="np",
    ).images  # fmt: skip
    assert (ours.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51
    assert ours.float().std() > 5


@NUMPY
def test_a_scheduler_that_draws_gives_a_picture_that_does_not_depend_on_its_company(spoiled):
    rewrite(spoiled / SCHEDULER, stochastic_sampling=True)
    model = load(spoiled)
    noise = starting_noise(model, [("one", 0), ("two", 0)], seed=0)
    sampler = Sampler(steps=3, scheduler="saved")
    together = sample(model, PROMPTS[:2], noise, sampler)
    alone = sample(model, PROMPTS[1:2], noise[1:], sampler)
    assert (together[1:].int() - alone.int()).abs().max() <= 1
    assert torch.equal(sample(model, PROMPTS[:2], noise, sampler), together)
    calm = sample(model, PROMPTS[:2], noise, Sampler(steps=3, scheduler="euler"))
    assert not torch.equal(calm, together)
    rewrite(spoiled / SCHEDULER, stochastic_sampling=False)
    assert torch.equal(sample(load(spoiled), PROMPTS[:2], noise, sampler), calm)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_samplers_of_diffusion_are_refused_by_name(model, scheduler):
    noise = starting_noise(model, [("one", 0)], seed=0)
    with pytest.raises(SettingError, match=rf"{scheduler} for a model of rectified.*Use euler"):
        sample(model, PROMPTS[:1], noise, Sampler(scheduler=scheduler))


FORMS = {
    "full": None,
    "lora": Adapter(rank=4, alpha=40.0),
    "everywhere": Adapter(rank=2, targets=("to_k", "add_v_proj", "to_add_out", "ff.net", "proj")),
    "dora": Adapter(rank=4, dora=True),
}
forms = pytest.mark.parametrize(
    "form",
    ["full", "lora", *(pytest.param(name, marks=pytest.mark.slow) for name in list(FORMS)[2:])],
)


@pytest.mark.parametrize(
    ("form", "precision"),
    [("full", "fp32"), ("lora", "bf16"), pytest.param("full", "bf16", marks=pytest.mark.slow)],
)
def test_before_the_first_step_the_policy_is_the_reference_bit_for_bit(whole, form, precision):
    model = load(whole, adapter=FORMS[form], train=True, precision=precision)
    assert torch.equal(ask(model).detach(), ask_reference(model))
    assert torch.equal(ask_reference(model), ask(load(whole, precision=precision)))
    assert all(weight.dtype == torch.float32 for weight in model.trainable().values())


@NUMPY
@pytest.mark.parametrize(
    "form",
    [form if form == "full" else pytest.param(form, marks=pytest.mark.slow) for form in FORMS],
)
def test_plain_diffusers_draws_the_same_picture_from_the_export(form, whole, tmp_path):
    """To half a grey level of 255: the same picture, once rounded to bytes."""
    model = load(whole, adapter=FORMS[form], train=True)
    train_a_little(model, steps=4)
    noise = starting_noise(model, [("picture", 0)], seed=1)
    ours = sample(model, ["a red ball"], noise, Sampler(steps=4, guidance=3.0, scheduler="saved"))
    model.release("vae", "text_encoder")
    model.export(tmp_path / "export")
    trained_whole = FORMS[form] is None
    pipeline = tiny_sd3.plain(tmp_path / "export" if trained_whole else whole)
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np"}
    if not trained_whole:
        without = pipeline("a red ball", latents=noise, **settings).images
        assert (ours.float() - 255 * torch.from_numpy(without)).abs().max() > 2
        pipeline.load_lora_weights(tmp_path / "export")
    theirs = pipeline("a red ball", latents=noise, **settings).images
    assert (ours.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51


@forms
def test_training_moves_the_policy_never_the_reference_and_comes_back(form, whole, tmp_path):
    """Weights bit for bit; answers to rounding, as torch folds products where none is trained."""
    model = load(whole, adapter=FORMS[form], train=True)
    before, probe = ask_reference(model), model.reference_probe()
    train_a_little(model, rate=0.02)
    assert (ask(model) - before).abs().max() > 1e-3
    assert torch.equal(ask_reference(model), before)
    assert model.reference_probe() == probe == load(whole).reference_probe()
    model.export(tmp_path / "export")
    again = load(whole, weights=tmp_path / "export")
    held = dict(again._policy.network.named_parameters())
    assert all(torch.equal(held[name], weight) for name, weight in model.state().items())
    torch.testing.assert_close(ask(again), ask(model).detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(ask_reference(again), before)
    folded = load(whole, weights=Mixture.whole(tmp_path / "export"))
    torch.testing.assert_close(ask(folded), ask(model).detach(), rtol=1e-4, atol=1e-5)


def test_training_goes_on_from_saved_adapters(whole, tmp_path):
    model = load(whole, adapter=FORMS["lora"], train=True)
    train_a_little(model)
    model.export(tmp_path / "export")
    again = load(whole, adapter=FORMS["lora"], train=True, weights=tmp_path / "export")
    assert torch.equal(ask(again), ask(model))
    with pytest.raises(WeightsError, match="adapters for this network"):
        load(whole, adapter=Adapter(rank=4), train=True, weights=tmp_path / "export")


def test_adapters_of_another_kind_of_model_are_refused(eps, folder, tmp_path):
    load(eps, adapter=FORMS["lora"], train=True).export(tmp_path / "other")
    with pytest.raises(WeightsError, match=r"weights for unet\. Need .*\(transformer\) only"):
        load(folder, weights=tmp_path / "other")
    load(folder, adapter=FORMS["lora"], train=True).export(tmp_path / "own")
    with pytest.raises(WeightsError, match=r"weights for transformer\. Need .*\(unet\) only"):
        load(eps, weights=tmp_path / "own")


def test_a_whole_export_says_that_there_is_no_t5_and_copies_the_rest(folder, tmp_path):
    model = load(folder, train=True)
    model.export(tmp_path / "export")
    again = load(tmp_path / "export")
    assert {n for n in again.digests if again.digests[n] != model.digests[n]} <= {"transformer"}
    assert again.digests.keys() == model.digests.keys()
    assert Folder.open(tmp_path / "export").index["text_encoder_3"] == [None, None]


def test_recomputing_activations_changes_no_gradient(whole):
    gradients = []
    for recompute in (False, True):
        model = load(whole, train=True, gradient_checkpointing=recompute)
        ask(model).square().mean().backward()
        gradients.append({name: w.grad for name, w in model.trainable().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_half_precision_files_load_as_float32(whole, tmp_path):
    half = tmp_path / "half"
    pipeline = tiny_sd3.plain(whole).to(torch.float16)
    pipeline.save_pretrained(half, variant="fp16")
    assert (half / "text_encoder_3/model.fp16.safetensors").is_file()
    model = load(half)
    assert model.embed(["a"]).tensors["text"].dtype == torch.float32
    assert torch.isfinite(ask(model)).all()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_answers_in_float32(folder, model, precision):
    exact, near = ask(model), ask(load(folder, precision=precision))
    assert near.dtype == torch.float32
    assert 0 < (exact - near).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"use_dynamic_shifting": True}, "levels depend on a picture's size. Need one table"),
        ({"invert_sigmas": True}, "the path begins at the picture"),
        ({"shift": 0.0}, r"shift 0\.0\. Need noise levels that rise"),
        ({"shift": "three"}, "scheduler"),
        ({"num_train_timesteps": 0}, "scheduler"),
    ],
)
def test_schedules_that_are_no_table_are_refused_before_any_weight_is_read(spoiled, changes, why):
    rewrite(spoiled / SCHEDULER, **changes)
    (spoiled / "transformer/diffusion_pytorch_model.safetensors").write_bytes(b"not read")
    with pytest.raises(WeightsError, match=why):
        load(spoiled)


@pytest.mark.parametrize("levels", [1, 100])
def test_a_folder_with_fewer_levels_is_asked_within_them(spoiled, levels):
    """The fixed questions of probe, identity and doctor are shares of the path."""
    rewrite(spoiled / SCHEDULER, num_train_timesteps=levels)
    model = load(spoiled)
    assert model.path.levels == levels
    assert model.reference_probe() == load(spoiled).reference_probe()
    assert identity(model)["answer"] == identity(load(spoiled))["answer"]
    assert "margin 0 at the first step" in _step(str(spoiled))


def test_another_kind_of_scheduler_is_refused(spoiled):
    rewrite(spoiled / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    with pytest.raises(WeightsError, match=r"DDIMScheduler\. Need one of FlowMatchEuler"):
        load(spoiled)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"in_channels": 32}, "noisy latents and nothing else"),
        ({"patch_size": 0}, "whole numbers"),
        ({"sample_size": [16, 16]}, r"transformer.*\[16, 16\].*whole numbers"),
    ],
)
def test_a_network_of_another_kind_is_refused_before_it_is_read(spoiled, changes, why):
    rewrite(spoiled / "transformer/config.json", **changes)
    (spoiled / "transformer/diffusion_pytorch_model.safetensors").write_bytes(b"not read")
    with pytest.raises(WeightsError, match=why):
        load(spoiled)


def test_sizes_that_do_not_fit_patches_or_places_are_refused(model):
    assert model.latent_shape(32, 96) == (16, 8, 24)
    with pytest.raises(SettingError, match=r"multiples of 8. Use 64×64"):
        model.latent_shape(64, 60)
    with pytest.raises(SettingError, match="sides of at most 96"):
        model.latent_shape(64, 104)


def test_encoders_of_another_model_are_refused(spoiled):
    """The projection of the second encoder cut to half: pooled 22 where 32 are heard."""
    rewrite(spoiled / "text_encoder_2/config.json", projection_dim=10)
    file = spoiled / "text_encoder_2/model.safetensors"
    tensors = load_file(file)
    tensors["text_projection.weight"] = tensors["text_projection.weight"][:10].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"together 40 wide, pooled 22, .* Need equally many"):
        load(spoiled)


def test_half_of_the_third_text_encoder_is_refused(spoiled):
    rewrite(spoiled / "model_index.json", tokenizer_3=[None, None])
    with pytest.raises(WeightsError, match=r"text_encoder_3 alone\. Need text_encoder_3 and"):
        load(spoiled)


def unnamed(folder):
    """An index that does not speak of the third text encoder."""
    index = json.loads((folder / "model_index.json").read_text())
    kept = {name: entry for name, entry in index.items() if not name.endswith("_3")}
    (folder / "model_index.json").write_text(json.dumps(kept))


def test_an_index_without_the_third_text_encoder_is_as_good_as_one_that_denies_it(
    spoiled, folder, tmp_path
):
    unnamed(spoiled)
    with pytest.raises(WeightsError, match=r'does not speak.*T5EncoderModel.*"text_encoder_3": \['):
        load(spoiled)
    shutil.copytree(folder, tmp_path / "two")
    unnamed(tmp_path / "two")
    assert load(tmp_path / "two").digests == load(folder).digests


def test_a_third_part_that_is_named_and_missing_is_said(spoiled):
    (spoiled / "text_encoder_3/model.safetensors").unlink()
    with pytest.raises(WeightsError, match="without text_encoder_3/") as caught:
        load(spoiled)
    assert "text_encoder_2" in str(caught.value)


def test_a_model_can_be_guided_away_from_another_training_of_it(folder, tmp_path):
    other = load(folder, adapter=FORMS["lora"], train=True)
    train_a_little(other)
    other.export(tmp_path / "export")
    both = Opposed(load(folder), load(folder, weights=tmp_path / "export"))
    assert "negative transformer" in both.digests
    noisy = torch.randn((1, *both.latent_shape(64, 64)), generator=generator())
    told, empty = both.embed(PROMPTS[:1]), both.embed([""])
    found = guided(both, noisy, LEVELS[1:2], told, empty, 3.0)
    plain = load(folder)
    given = plain.predict(noisy, LEVELS[1:2], plain.embed(PROMPTS[:1]))
    with torch.no_grad():
        without = other.predict(noisy, LEVELS[1:2], other.embed([""]))
    torch.testing.assert_close(found, without + 3 * (given - without), rtol=1e-4, atol=1e-4)


def test_released_parts_say_so(folder):
    spent = load(folder)
    spent.release("text_encoder", "vae")
    with pytest.raises(StateError, match="the text_encoder, which was released"):
        spent.embed(["a"])


def test_every_part_that_is_there_has_a_digest(model, whole):
    two = ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"]
    assert sorted(model.digests) == ["scheduler", *two, "transformer", "vae"]
    assert model.digests.keys() | {"text_encoder_3", "tokenizer_3"} == load(whole).digests.keys()
    assert (model.kind, model.resolution) == ("sd3", 64)


def test_the_published_networks_numbers_are_understood(whole):
    """3.5 medium: latents of 128, places for 384 patches of 16 pixels; text of 4096."""
    parts = Folder.open(whole).parts(PARTS)
    published = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 384,
    }
    network = replace(parts["transformer"], settings=published)
    vae = replace(
        parts["vae"], settings={**parts["vae"].settings, "block_out_channels": [128, 256, 512, 512]}
    )
    heard = Joint.by(network)
    assert (heard.text, heard.pooled) == (4096, 2048)
    geometry = Patches.of({"transformer": network, "vae": vae})
    assert (geometry.resolution, geometry.shape(1024, 768)) == (1024, (16, 128, 96))


def test_the_way_to_noise_can_be_walked_back(model):
    """Up to the last level, which is all noise: moves undone with the noise they were made with."""
    clean = torch.randn((2, *model.latent_shape(32, 32)), generator=generator())
    grid = (250, 500, 750, 999)
    way = invert(model, clean, model.embed(PROMPTS[:2]), model.embed([""]), grid, guidance=2.0)
    state, sigma = way.last.double(), [model.path.sigma[i] for i in (0, *grid)]
    assert torch.isfinite(state).all()
    # All of x is gone at the top: where it stood below is told by the noise alone.
    state = way.states[:, -2].double()
    for move in (2, 1, 0):
        noise = way.predicted[:, move].double()
        picture = (state - sigma[move + 1] * noise) / (1 - sigma[move + 1])
        state = (1 - sigma[move]) * picture + sigma[move] * noise
    torch.testing.assert_close(state.float(), clean, rtol=1e-4, atol=1e-4)


def test_noise_and_words_change_the_answer(model):
    noisy = torch.randn((3, *model.latent_shape(64, 64)), generator=generator())
    answer = model.predict(noisy, LEVELS, model.embed(WORDS))
    for other in (
        model.predict(noisy, LEVELS.flip(0), model.embed(WORDS)),
        model.predict(noisy, LEVELS, model.embed(WORDS[::-1])),
    ):
        assert (answer - other).flatten(1).abs().amax(1)[0] > 1e-4


@pytest.mark.slow
def test_mutated_folders_load_or_are_refused_cleanly(whole, tmp_path):
    """Any single change of a byte or a value: our own error or a model, never another exception."""
    draw, refused = random.Random(7), 0
    for number in range(80):
        changed = tmp_path / str(number)
        shutil.copytree(whole, changed)
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
