"""Attention to a user beside the joint attention of Stable Diffusion 3 and 3.5."""

import pytest
import torch
from torch.nn import functional

from backbones import tiny_sd3
from backbones.asking import LEVELS, WORDS, generator
from palate.backbones import Backbone, Personal, load
from palate.backbones.listening import Listening
from palate.backbones.personal import listen
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.backbones.user_attention import layers_of
from palate.core.streams import Streams

PROMPTS = ["a red ball", "a blue box on green"]
SETTINGS = Personal(user_width=6, tokens=3, width=5, about={"users": "made in a test"})


@pytest.fixture(scope="module", params=["3.0", "3.5"])
def folder(request, tmp_path_factory):
    """A folder of each form: without T5, and with T5, normed queries and dual attention."""
    folder = tmp_path_factory.mktemp("sd3") / "model"
    newer = request.param == "3.5"
    tiny_sd3.build(PROMPTS, t5=newer, newer=newer).save_pretrained(folder)
    return folder


def users(rows: int = 3) -> torch.Tensor:
    """Different users of three tokens each."""
    return Streams(5)("users").normal((rows, SETTINGS.tokens, SETTINGS.user_width))


def question(model: Backbone, user: torch.Tensor | None = None):
    """Noisy latents, levels and prompts, with users where there are any."""
    noisy = torch.randn(3, *model.latent_shape(64, 64), generator=generator())
    return noisy, LEVELS, model.embed(WORDS).with_user(user)


def trained(folder, **told) -> Backbone:
    """A model after one step of training for three users, which it must answer differently."""
    model = load(folder, personal=SETTINGS, train=True, **told)
    answer = model.predict(*question(model, users()))
    (answer - torch.ones_like(answer)).square().mean().backward()
    with torch.no_grad():
        for weight in model.trainable().values():
            assert weight.grad is not None
            weight -= 20 * weight.grad
            weight.grad = None
    return model


def test_before_the_first_step_every_user_gets_the_base_to_the_bit(folder):
    model, base = load(folder, personal=SETTINGS, train=True), load(folder)
    asked = question(model, users())
    assert torch.equal(model.predict(*asked), base.predict(*question(base)))


def test_one_step_moves_those_who_are_somebody_and_nobody_else(folder):
    model, base = trained(folder), load(folder)
    some = users()
    some[1] = 0
    with torch.no_grad():
        found, plain = model.predict(*question(model, some)), base.predict(*question(base))
    assert torch.equal(found[1], plain[1])
    assert (found[[0, 2]] - plain[[0, 2]]).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(model.predict(*question(model)), plain)
    with model.as_reference():
        assert torch.equal(model.predict(*question(model, users())), plain)
    assert model.reference_probe() == base.reference_probe()


def test_only_joint_attention_hears_users_and_only_pictures_answer(folder):
    """Not the second, picture-only attention of 3.5; and what text answers is the base's."""
    model = trained(folder)
    network = model._policy.network
    layers = layers_of(network)
    assert sorted(layers.keys) == ["transformer_blocks_0_attn", "transformer_blocks_1_attn"]
    attention = network.transformer_blocks[0].attn
    pixels = torch.randn(3, 7, 32, generator=generator())
    words = torch.randn(3, 5, 32, generator=generator())
    with torch.no_grad():
        alone = attention(pixels, encoder_hidden_states=words)
        layers.hear(users(), 3)
        heard = attention(pixels, encoder_hidden_states=words)
        user = layers.projection(users())
        layers.forget()
        query = attention.to_q(pixels).unflatten(-1, (4, 8)).transpose(1, 2)
        if attention.norm_q is not None:
            query = attention.norm_q(query)
        key, value = (
            part["transformer_blocks_0_attn"](user).unflatten(-1, (4, 8)).transpose(1, 2)
            for part in (layers.keys, layers.values)
        )
        weights = torch.softmax(query @ key.transpose(2, 3) / 8**0.5, dim=-1)
        added = functional.linear(
            (weights @ value).transpose(1, 2).flatten(2), attention.to_out[0].weight
        )
    assert torch.equal(heard[1], alone[1])
    torch.testing.assert_close(heard[0], alone[0] + added, rtol=1e-5, atol=1e-6)
    assert (heard[0] - alone[0]).abs().max() > 1e-3


@pytest.mark.slow
def test_recomputing_activations_hears_the_same_users_again(folder):
    gradients = []
    for recompute in (False, True):
        model = trained(folder, gradient_checkpointing=recompute)
        model.predict(*question(model, users())).square().mean().backward()
        gradients.append({name: weight.grad for name, weight in model.trainable().items()})
    assert all(gradient.abs().max() > 0 for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pictures", [1, 2])
def test_leaving_layers_out_for_guidance_keeps_the_user(folder, pictures, tmp_path):
    """The pipeline then asks once more for the prompt alone, which is no half of anything."""
    model, user = trained(folder), users(1)
    model.export(tmp_path / "export")
    pipeline = tiny_sd3.plain(folder)
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np",
                "skip_guidance_layers": [0], "skip_layer_guidance_start": 0.0,
                "skip_layer_guidance_stop": 1.0}  # fmt: skip
    noise = starting_noise(model, [("one", 0), ("two", 0)], seed=0)[:pictures]

    def drawn() -> torch.Tensor:
        found = pipeline(PROMPTS[:pictures], latents=noise.clone(), **settings).images
        return torch.from_numpy(found)

    without = drawn()
    heard: list[tuple[int, list[bool] | None]] = []
    listener = listen(pipeline, tmp_path / "export")
    pipeline.transformer.transformer_blocks[1].register_forward_pre_hook(
        lambda _block, _given, named: heard.append((len(named["hidden_states"]), whom(listener))),
        with_kwargs=True,
    )
    listener.draw_for(user)
    assert (drawn() - without).abs().max() > 2 / 255
    both = (2 * pictures, [False] * pictures + [True] * pictures)
    assert set(map(str, heard)) == {str(both), str((pictures, [True] * pictures))}
    listener.draw_for(None)
    assert torch.equal(drawn(), without)


def whom(listener) -> list[bool] | None:
    """Which rows of the present call are for somebody; None where none is."""
    return None if listener._heard is None else listener.present().tolist()


@pytest.mark.parametrize("guidance", [pytest.param(1.0, marks=pytest.mark.slow), 4.0])
def test_the_plain_pipeline_draws_the_same_picture_for_the_same_user(folder, guidance, tmp_path):
    """To half a grey level of 255; for nobody, the base's own picture to the bit."""
    model, user = trained(folder), users(1)[0]
    model.export(tmp_path / "export")
    noise = starting_noise(model, [("one", 0), ("two", 0)], seed=0)
    sampler = Sampler(steps=4, guidance=guidance, scheduler="saved")
    ours = sample(Listening(model, user), PROMPTS, noise, sampler)
    again = load(folder, weights=tmp_path / "export")
    assert torch.equal(sample(Listening(again, user), PROMPTS, noise, sampler), ours)
    pipeline = tiny_sd3.plain(folder)

    def drawn() -> torch.Tensor:
        settings = {"num_inference_steps": 4, "guidance_scale": guidance, "output_type": "np"}
        return torch.from_numpy(pipeline(PROMPTS, latents=noise.clone(), **settings).images)

    without = drawn()
    listener = listen(pipeline, tmp_path / "export")
    assert torch.equal(drawn(), without)
    listener.draw_for(user[None])
    theirs = drawn()
    assert (ours.float() - 255 * theirs).abs().max() <= 0.51
    assert (255 * (theirs - without)).abs().max() > 2
    listener.draw_for(None)
    assert torch.equal(drawn(), without)
