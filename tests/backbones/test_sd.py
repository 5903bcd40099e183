"""A Stable Diffusion folder as a backbone, against diffusers on the same weights."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, SD3Transformer2DModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from backbones.asking import ask, rewrite
from palate.backbones import Adapter, Condition, load
from palate.backbones.folder import Folder
from palate.backbones.sd import PARTS
from palate.backbones.sizes import row_of, sizes_of
from palate.core.problems import SettingError, StateError, WeightsError


def test_the_path_is_the_folders_schedule_and_prediction(eps, velocity):
    """Noisy pictures and targets as diffusers' scheduler makes them, to float32 rounding."""
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    level = torch.tensor([0, 500, 999])
    theirs = DDPMScheduler.from_pretrained(eps / "scheduler")
    for folder, target in ((eps, noise), (velocity, theirs.get_velocity(clean, noise, level))):
        path = load(folder).path
        torch.testing.assert_close(
            path.noisy(clean, noise, level), theirs.add_noise(clean, noise, level)
        )
        torch.testing.assert_close(path.target(clean, noise, level), target)
    assert load(velocity).path.prediction == "v_prediction"


def test_encoding_is_the_scaled_posterior_of_the_autoencoder(eps, still, copy, pictures):
    rewrite(copy / "vae/config.json", scaling_factor=0.5, shift_factor=0.25)
    vae = AutoencoderKL.from_pretrained(eps / "vae")
    with torch.no_grad():
        posterior = vae.encode(pictures.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
    mean, spread = load(copy).encode(pictures)
    assert mean.shape == (3, *still.latent_shape(64, 64)) == (3, 4, 16, 16)
    torch.testing.assert_close(mean, (posterior.mean - 0.25) * 0.5)
    torch.testing.assert_close(spread, posterior.std * 0.5)


def test_encoding_does_not_depend_on_company(still, pictures):
    model = still
    together, alone = model.encode(pictures)[0], model.encode(pictures[1:2])[0]
    torch.testing.assert_close(together[1:2], alone)


def test_decoding_undoes_the_scale_and_gives_bytes(eps, copy):
    rewrite(copy / "vae/config.json", scaling_factor=0.5, shift_factor=0.25)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 4
    with torch.no_grad():
        pixels = AutoencoderKL.from_pretrained(eps / "vae").decode(latents).sample
    theirs = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1)
    ours = load(copy).decode((latents - 0.25) * 0.5)
    assert ours.dtype == torch.uint8
    assert (ours.float() - theirs).abs().max() <= 1
    assert len(ours.unique()) > 20


def test_the_precision_setting_leaves_the_autoencoder_and_text_in_float32(eps, still, pictures):
    full, half = still, load(eps, precision="bf16")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(full.encode(pictures)[0], half.encode(pictures)[0])
        assert torch.equal(full.embed(["a"]).tensors["text"], half.embed(["a"]).tensors["text"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_answers_in_float32(eps, still, precision):
    exact, near = ask(still), ask(load(eps, precision=precision))
    assert near.dtype == torch.float32
    assert 0 < (exact - near).abs().max() < 0.05 * exact.abs().max()


def test_embedding_is_the_text_encoders_last_layer_also_of_nothing_and_of_too_much(eps, still):
    tokenizer = CLIPTokenizer.from_pretrained(eps / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(eps / "text_encoder")
    prompts = ["", "a red ball", "a red ball " * 40]
    rows = []
    for prompt in prompts:
        ids = tokenizer(prompt).input_ids[:24]
        ids[-1] = tokenizer.eos_token_id
        ids += [tokenizer.pad_token_id] * (24 - len(ids))
        with torch.no_grad():
            rows.append(encoder(torch.tensor([ids])).last_hidden_state[0])
    ours = still.embed(prompts)
    torch.testing.assert_close(ours.tensors["text"], torch.stack(rows))
    assert len(ours) == 3


def test_prediction_is_the_networks_own(velocity):
    model = load(velocity)
    unet = UNet2DConditionModel.from_pretrained(velocity / "unet")
    noisy = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    level, condition = torch.tensor([1, 500, 998]), model.embed(["a", "b", "a red ball"])
    with torch.no_grad():
        theirs = unet(noisy, level, condition.tensors["text"]).sample
    torch.testing.assert_close(model.predict(noisy, level, condition), theirs)


def test_a_size_that_does_not_fit_gets_the_nearest_that_does(still):
    assert still.latent_shape(32, 128) == (4, 8, 32)
    with pytest.raises(SettingError, match=r"Got pictures of 66×63 .* multiples of 4\. Use 64×64"):
        still.latent_shape(63, 66)


def test_released_parts_are_gone_and_say_so(eps, pictures):
    model = load(eps, adapter=Adapter(), train=True)
    probe = model.reference_probe()
    model.release("vae")
    model.release("text_encoder")
    with pytest.raises(StateError, match="the vae, which was released"):
        model.encode(pictures)
    with pytest.raises(StateError, match="the text_encoder, which was released"):
        model.embed(["a"])
    with pytest.raises(SettingError, match="Need vae or text_encoder"):
        model.release("unet")
    assert model.reference_probe() == probe


def test_digests_tell_which_part_changed(still, copy):
    base = still.digests
    assert sorted(base) == ["scheduler", "text_encoder", "tokenizer", "unet", "vae"]
    assert load(copy).digests == base
    rewrite(copy / "vae/config.json", scaling_factor=0.2, _diffusers_version="9.9")
    assert _changed(base, load(copy).digests) == {"vae"}
    rewrite(copy / "scheduler/scheduler_config.json", prediction_type="v_prediction")
    assert _changed(base, load(copy).digests) == {"vae", "scheduler"}
    rewrite(copy / "unet/config.json", _diffusers_version="9.9", _name_or_path="elsewhere")
    assert _changed(base, load(copy).digests) == {"vae", "scheduler"}


def test_a_part_whose_weights_changed_has_another_digest(copy):
    before = load(copy).digests
    file = copy / "unet/diffusion_pytorch_model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)
    assert _changed(before, load(copy).digests) == {"unet"}


@pytest.mark.parametrize(
    "change", [{"prediction_type": "x"}, {"beta_schedule": "y"}, {"num_train_timesteps": "many"}]
)
def test_a_scheduler_we_cannot_follow_is_refused(copy, change):
    rewrite(copy / "scheduler/scheduler_config.json", **change)
    with pytest.raises(WeightsError, match="scheduler"):
        load(copy)


@pytest.mark.parametrize(
    ("part", "changes", "why"),
    [
        ("unet", {"sample_size": [8, 8]}, r"unet.*sample_size.*whole numbers"),
        ("unet", {"sample_size": None}, r"unet.*sample_size.*whole numbers"),
        ("unet", {"block_out_channels": 32}, r"unet.*block_out_channels.*whole numbers"),
        ("vae", {"block_out_channels": []}, r"vae.*block_out_channels.*whole numbers"),
        ("vae", {"scaling_factor": "q"}, r"vae: scaling_factor 'q'"),
        ("vae", {"scaling_factor": 0}, r"vae: scaling_factor 0"),
        ("vae", {"shift_factor": "q"}, r"vae: .*shift_factor 'q'"),
    ],
)
def test_sizes_and_scales_that_are_no_numbers_are_refused_by_folder(copy, part, changes, why):
    rewrite(copy / part / "config.json", **changes)
    with pytest.raises(WeightsError, match=why):
        load(copy)


def test_what_a_configuration_leaves_out_is_what_diffusers_takes(copy):
    file = copy / "unet/config.json"
    told = json.loads(file.read_text())
    assert told.pop("in_channels") == 4
    file.write_text(json.dumps(told))
    assert load(copy).latent_shape(64, 64)[0] == 4
    part = Folder.open(copy).parts(PARTS)["unet"]
    bare = replace(part, settings={})
    assert row_of(bare, UNet2DConditionModel, "block_out_channels") == (320, 640, 1280, 1280)
    sizes = {"in_channels": 16, "patch_size": 2, "sample_size": 128, "pos_embed_max_size": 96}
    assert sizes_of(bare, SD3Transformer2DModel, *sizes) == sizes


def test_conditions_are_taken_apart_and_joined():
    """Rows 0, 1, 2 hold their own numbers; row 2 then 0, twice over, is 2 0 2 0."""
    rows = Condition({"text": torch.arange(3.0)[:, None], "size": torch.arange(3)[:, None]})
    twice = rows.rows([2, 0]).repeat(2)
    assert twice.tensors["text"].flatten().tolist() == [2, 0, 2, 0]
    assert len(Condition.concatenate([rows, twice])) == 7
    half = rows.to(dtype=torch.float16)
    assert (half.tensors["text"].dtype, half.tensors["size"].dtype) == (
        torch.float16,
        torch.int64,
    )
    with pytest.raises(SettingError, match="Do not mix"):
        Condition.concatenate([rows, Condition({"text": torch.zeros(1, 1)})])
    with pytest.raises(SettingError, match="the same number of rows"):
        Condition({"a": torch.zeros(2), "b": torch.zeros(3)})


def _changed(before, after):
    return {name for name in before if before[name] != after[name]}
