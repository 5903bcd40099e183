"""Attention to a user: what it adds, when it adds nothing, and that plain pipelines can have it."""

import shutil

import pytest
import torch
from diffusers import (
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from torch.nn import functional

from backbones import tiny_sdxl
from backbones.asking import LEVELS, WORDS, generator
from palate.backbones import Adapter, Backbone, Mixture, Personal, load
from palate.backbones.listening import Listening
from palate.backbones.personal import WEIGHTS, listen
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.backbones.user_attention import layers_of
from palate.core.files import load_weights, read_about, save_weights
from palate.core.problems import SettingError, WeightsError
from palate.core.streams import Streams

PROMPTS = ["a red ball", "a blue box on green", "two small yellow stars"]
SETTINGS = Personal(user_width=6, tokens=3, width=5, about={"users": "made in a test"})
KINDS = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    """An XL pipeline folder. Read only."""
    folder = tmp_path_factory.mktemp("sdxl") / "model"
    tiny_sdxl.build(PROMPTS).save_pretrained(folder)
    return folder


@pytest.fixture(params=KINDS)
def kind(request):
    """Which family."""
    return request.param


@pytest.fixture
def folder(kind, eps, xl):
    """A pipeline folder of that family. Read only."""
    return {"sd": eps, "sdxl": xl}[kind]


def users(rows: int = 3) -> torch.Tensor:
    """Different users of three tokens each."""
    return Streams(5)("users").normal((rows, SETTINGS.tokens, SETTINGS.user_width))


def question(model: Backbone, rows: int = 3, user: torch.Tensor | None = None):
    """Noisy latents, levels and prompts, with users where there are any."""
    noisy = torch.randn(rows, 4, 16, 16, generator=generator())
    told = model.embed(WORDS[:1] * rows)
    return noisy, LEVELS[:1].repeat(rows), told.with_user(user)


def taught(model: Backbone) -> Backbone:
    """The model after its values have become other than zero."""
    with torch.no_grad():
        for name, weight in model.trainable().items():
            weight.add_(Streams(7)("taught", name).normal(tuple(weight.shape)) / 2)
    return model


def test_before_the_first_step_every_user_gets_the_base_to_the_bit(folder):
    model, base = load(folder, personal=SETTINGS, train=True), load(folder)
    assert torch.equal(model.predict(*question(model, user=users())), base.predict(*question(base)))


def test_nobody_gets_the_base_to_the_bit_beside_users_who_do_not(folder):
    model, base = taught(load(folder, personal=SETTINGS, train=True)), load(folder)
    some = users()
    some[1] = 0
    found, plain = model.predict(*question(model, user=some)), base.predict(*question(base))
    assert torch.equal(found[1], plain[1])
    assert (found[[0, 2]] - plain[[0, 2]]).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(model.predict(*question(model)), plain)
    assert torch.equal(model.predict(*question(model, user=torch.zeros_like(some))), plain)


def test_the_reference_hears_nobody_and_never_moves(folder):
    model, base = load(folder, personal=SETTINGS, train=True), load(folder)
    probe = model.reference_probe()
    taught(model)
    with model.as_reference():
        assert torch.equal(
            model.predict(*question(model, user=users())), base.predict(*question(base))
        )
    assert probe == model.reference_probe() == base.reference_probe()


def test_only_the_new_layers_are_trained_and_every_one_of_them_learns(folder):
    model = taught(load(folder, personal=SETTINGS, train=True))
    assert all(name.startswith("user_attention.") for name in model.trainable())
    model.predict(*question(model, user=users())).square().mean().backward()
    for name, weight in model.trainable().items():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    frozen = [p for n, p in model._policy.network.named_parameters() if n not in model.trainable()]
    assert frozen
    assert all(p.grad is None and not p.requires_grad for p in frozen)


def test_at_the_start_the_values_alone_have_a_gradient(folder):
    model = load(folder, personal=SETTINGS, train=True)
    model.predict(*question(model, user=users())).square().mean().backward()
    for name, weight in model.trainable().items():
        moved = weight.grad is not None and weight.grad.abs().max() > 0
        assert moved == (".values." in name), name


def test_there_is_one_new_attention_for_each_attention_to_the_prompt(folder):
    plain = load(folder)._policy.network
    texts = [name for name, _ in plain.named_modules() if name.endswith("attn2")]
    network = load(folder, personal=SETTINGS)._policy.network
    layers = layers_of(network)
    assert (
        sorted(layers.keys) == sorted(layers.values) == sorted(n.replace(".", "_") for n in texts)
    )


@NUMPY
def test_the_answer_is_that_of_diffusers_own_decoupled_attention(eps):
    """The same keys and values in its IP-Adapter processor: equal to rounding, layer by layer."""
    model, plain = taught(load(eps, personal=SETTINGS, train=True)), load(eps)
    layers, user = layers_of(model._policy.network), users()
    network = plain._policy.network
    for name, module in list(network.named_modules()):
        if not name.endswith("attn2"):
            continue
        own = IPAdapterAttnProcessor2_0(
            module.to_q.out_features, SETTINGS.width, num_tokens=(SETTINGS.tokens,)
        )
        key = name.replace(".", "_")
        own.to_k_ip[0].weight.data.copy_(layers.keys[key].weight)
        own.to_v_ip[0].weight.data.copy_(layers.values[key].weight)

        def both(attn, hidden_states, encoder_hidden_states=None, attention_mask=None, own=own):
            told = (encoder_hidden_states, [layers.projection(user)[:, None]])
            return own(attn, hidden_states, told, attention_mask)

        module.set_processor(both)
    ours = model.predict(*question(model, user=user))
    torch.testing.assert_close(ours, plain.predict(*question(plain)), rtol=1e-5, atol=1e-5)
    assert (ours - load(eps).predict(*question(plain))).abs().max() > 1e-2


def test_an_absent_token_is_as_if_it_had_never_been_there(eps):
    model, two = taught(load(eps, personal=SETTINGS, train=True)), users()
    two[:, 2] = 0
    short = two[:, :2].clone()
    torch.testing.assert_close(
        model.predict(*question(model, user=two)),
        model.predict(*question(model, user=short)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_one_token_is_answered_by_its_value_whatever_is_asked(eps):
    """By hand: the softmax over one token is 1, so the layer adds W_out W_v P u everywhere."""
    model = taught(load(eps, personal=SETTINGS, train=True))
    network = model._policy.network
    layers, one = layers_of(network), users(2)[:, :1]
    name = next(n for n, _ in network.named_modules() if n.endswith("attn2"))
    attention = network.get_submodule(name)
    hidden = torch.randn(2, 9, attention.to_q.in_features, generator=generator())
    layers.hear(one, 2)
    found = layers.answer(name, attention, hidden)
    layers.forget()
    value = one[:, 0] @ layers.projection.weight.T @ layers.values[name.replace(".", "_")].weight.T
    added = functional.linear(value, attention.to_out[0].weight)
    torch.testing.assert_close(found, added[:, None].expand_as(found))


def test_recomputing_activations_hears_the_same_users_on_the_way_back(folder):
    """The reference speaks in between, as it does in training; then comes the way back."""
    gradients = []
    for recompute in (False, True):
        model = taught(
            load(folder, personal=SETTINGS, train=True, gradient_checkpointing=recompute)
        )
        asked = question(model, user=users())
        answer = model.predict(*asked)
        with model.as_reference():
            model.predict(*asked)
        answer.square().mean().backward()
        gradients.append({name: w.grad for name, w in model.trainable().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_still_the_base_for_nobody(folder, precision):
    exact = taught(load(folder, personal=SETTINGS, train=True))
    near = taught(load(folder, personal=SETTINGS, train=True, precision=precision))
    whole, half = (m.predict(*question(m, user=users())) for m in (exact, near))
    assert half.dtype == torch.float32
    assert 0 < (whole - half).abs().max() < 0.05 * whole.abs().max()
    base = load(folder, precision=precision)
    assert torch.equal(near.predict(*question(near)), base.predict(*question(base)))


def test_what_was_saved_comes_back_and_says_who_made_the_embeddings(folder, tmp_path):
    model = taught(load(folder, personal=SETTINGS, train=True))
    written = model.export(tmp_path / "export")
    assert [path.name for path in written] == [WEIGHTS]
    again = load(folder, weights=tmp_path / "export")
    assert torch.equal(
        again.predict(*question(again, user=users())),
        model.predict(*question(model, user=users())).detach(),
    )
    assert again.personal.about == {"users": "made in a test"}
    assert again.personal.user_width == SETTINGS.user_width
    assert again.trainable() == {}
    model.export(tmp_path / "twice")
    assert (tmp_path / "export" / WEIGHTS).read_bytes() == (
        tmp_path / "twice" / WEIGHTS
    ).read_bytes()


@NUMPY
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_plain_pipeline_draws_the_same_pictures_for_the_same_user(
    kind, folder, guidance, tmp_path
):
    """To half a grey level of 255: the same pictures, once rounded to bytes."""
    model = taught(load(folder, personal=SETTINGS, train=True))
    noise = starting_noise(model, [("picture", 0), ("picture", 1)], seed=1)
    how = Sampler(steps=4, guidance=guidance, scheduler="saved")
    heard = Listening(model, users()[0])
    ours = sample(heard, PROMPTS[:2], noise, how)
    model.export(tmp_path / "export")
    pipeline = KINDS[kind].from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    settings = {
        "num_inference_steps": 4, "guidance_scale": guidance, "output_type": "np",
        "latents": noise,
    }  # fmt: skip
    base = pipeline(PROMPTS[:2], **settings).images
    layers = listen(pipeline, tmp_path / "export")
    assert (pipeline(PROMPTS[:2], **settings).images == base).all()
    layers.draw_for(users()[:1])
    theirs = torch.from_numpy(pipeline(PROMPTS[:2], **settings).images)
    assert (ours.float() - 255 * theirs).abs().max() <= 0.51
    assert (ours.float() - 255 * torch.from_numpy(base)).abs().max() > 2
    layers.draw_for(None)
    assert (pipeline(PROMPTS[:2], **settings).images == base).all()


@NUMPY
def test_in_a_plain_pipeline_every_prompt_can_be_for_somebody_else(eps, tmp_path):
    taught(load(eps, personal=SETTINGS, train=True)).export(tmp_path / "export")
    pipeline = StableDiffusionPipeline.from_pretrained(eps)
    pipeline.set_progress_bar_config(disable=True)
    layers = listen(pipeline, tmp_path / "export")
    noise = torch.randn(1, 4, 16, 16, generator=generator()).repeat(2, 1, 1, 1)
    settings = {"num_inference_steps": 2, "output_type": "np"}
    layers.draw_for(users()[:2])
    two = pipeline(PROMPTS[:1] * 2, latents=noise, **settings).images
    for row in range(2):
        layers.draw_for(users()[row : row + 1])
        alone = pipeline(PROMPTS[:1], latents=noise[:1], **settings).images
        assert abs(alone[0] - two[row]).max() < 1e-5
    assert abs(two[0] - two[1]).max() > 0.01
    layers.draw_for(users()[:2])
    with pytest.raises(SettingError, match="3 pictures for 2 users"):
        pipeline(PROMPTS, latents=noise[:1].repeat(3, 1, 1, 1), **settings)


def rows_heard(layers, rows: int, *, guided: bool, whole: bool = False) -> list[bool]:
    """Which rows of a call are for somebody."""
    layers._guided = lambda: guided
    layers.hear(None, rows, whole=whole)
    found = [] if layers._heard is None else layers.present().tolist()
    layers.forget()
    return found


def test_the_rows_of_a_call_are_those_of_prompts_or_the_call_is_refused(eps):
    """With guidance half of them; where a pipeline asks for prompts alone, all of them."""
    layers = layers_of(load(eps, personal=SETTINGS)._policy.network)
    layers.draw_for(users()[:1])
    assert rows_heard(layers, 4, guided=True) == [False, False, True, True]
    assert rows_heard(layers, 2, guided=False) == [True, True]
    assert rows_heard(layers, 1, guided=True, whole=True) == [True]
    for rows in (1, 3):
        with pytest.raises(SettingError, match=f"a call of {rows} rows"):
            rows_heard(layers, rows, guided=True)


def test_a_pipeline_whose_calls_have_other_parts_is_refused(eps, tmp_path):
    load(eps, personal=SETTINGS, train=True).export(tmp_path / "export")
    plain = StableDiffusionPipeline.from_pretrained(eps)
    other = StableDiffusionPAGPipeline(**plain.components, requires_safety_checker=False)
    with pytest.raises(SettingError, match="StableDiffusionPAGPipeline"):
        listen(other, tmp_path / "export")


def test_a_pipeline_that_listens_already_is_opened_again_for_another_file(eps, tmp_path):
    load(eps, personal=SETTINGS, train=True).export(tmp_path / "export")
    pipeline = StableDiffusionPipeline.from_pretrained(eps)
    listen(pipeline, tmp_path / "export")
    with pytest.raises(SettingError, match="Open the pipeline again"):
        listen(pipeline, tmp_path / "export")


def test_a_network_whose_attention_was_exchanged_draws_for_nobody_or_refuses(eps):
    model = load(eps, personal=SETTINGS)
    network = model._policy.network
    network.set_attn_processor(AttnProcessor2_0())
    model.predict(*question(model))
    with pytest.raises(SettingError, match="listen last"):
        model.predict(*question(model, user=users()))


@NUMPY
def test_attention_with_weights_of_its_own_is_left_alone(eps, tmp_path):
    load(eps, personal=SETTINGS, train=True).export(tmp_path / "export")
    pipeline = StableDiffusionPipeline.from_pretrained(eps)
    name = next(n for n in pipeline.unet.attn_processors if n.endswith("attn2.processor"))
    module = pipeline.unet.get_submodule(name.removesuffix(".processor"))
    module.set_processor(IPAdapterAttnProcessor2_0(module.to_q.out_features, 16))
    with pytest.raises(SettingError, match="IP-Adapter"):
        listen(pipeline, tmp_path / "export")


def test_who_made_the_embeddings_is_the_same_before_and_after_a_file(eps, tmp_path):
    told = Personal(user_width=6, tokens=3, width=5, about={"layers": (1, 2), "by": "a test"})
    load(eps, personal=told, train=True).export(tmp_path / "export")
    again = load(eps, personal=told, train=True, weights=tmp_path / "export")
    assert again.personal.about == told.about == {"layers": [1, 2], "by": "a test"}


@NUMPY
def test_a_network_in_half_precision_draws_for_somebody(eps, tmp_path):
    taught(load(eps, personal=SETTINGS, train=True)).export(tmp_path / "export")
    pipeline = StableDiffusionPipeline.from_pretrained(eps, dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    listen(pipeline, tmp_path / "export").draw_for(users()[:1])
    assert (
        pipeline(PROMPTS[:1], num_inference_steps=1, output_type="latent").images.isfinite().all()
    )


@pytest.mark.parametrize(
    ("user", "named"),
    [
        (torch.zeros(3, 4, 6), "at most 3 tokens of 6 numbers"),
        (torch.zeros(3, 3, 7), "at most 3 tokens of 6 numbers"),
        (torch.zeros(2, 3, 6), "[tokens, width] for each of 3 rows"),
        (torch.zeros(3, 6), "[tokens, width] for each of 3 rows"),
    ],
)
def test_embeddings_of_another_form_are_refused(eps, user, named):
    model = load(eps, personal=SETTINGS)
    with pytest.raises(SettingError) as caught:
        model.predict(*question(model, user=user))
    assert caught.value.need == named


def test_a_model_without_users_refuses_one(still):
    with pytest.raises(SettingError, match="knows no users"):
        still.predict(*question(still, user=users()))


def test_adapters_and_users_are_not_trained_together(eps):
    with pytest.raises(SettingError, match="together with an adapter"):
        load(eps, personal=SETTINGS, adapter=Adapter(), train=True)


def test_a_mixture_of_users_is_made_of_embeddings_and_not_of_weights(eps, tmp_path):
    load(eps, personal=SETTINGS, train=True).export(tmp_path / "export")
    with pytest.raises(SettingError, match="attention to users, in a mixture"):
        load(eps, weights=Mixture.whole(tmp_path / "export"))


def test_a_file_of_another_network_is_refused_by_name(eps, xl, tmp_path):
    load(xl, personal=SETTINGS, train=True).export(tmp_path / "export")
    with pytest.raises(WeightsError, match="weights that do not fit"):
        load(eps, weights=tmp_path / "export")


def test_files_that_are_not_what_they_say_are_refused(eps, tmp_path):
    load(eps, personal=SETTINGS, train=True).export(tmp_path / "export")
    whole = tmp_path / "export" / WEIGHTS
    shutil.copytree(tmp_path / "export", tmp_path / "cut")
    (tmp_path / "cut" / WEIGHTS).write_bytes(whole.read_bytes()[:-8])
    with pytest.raises(WeightsError, match=WEIGHTS):
        load(eps, weights=tmp_path / "cut")
    mute = tmp_path / "mute" / WEIGHTS
    save_weights(mute, load_weights(whole))
    with pytest.raises(WeightsError, match="does not say what its layers are"):
        load(eps, weights=mute)
    broken = {n: t.fill_(float("nan")) for n, t in load_weights(whole).items()}
    save_weights(tmp_path / "nan" / WEIGHTS, broken, read_about(whole))
    with pytest.raises(WeightsError, match="NaN"):
        load(eps, weights=tmp_path / "nan")


@pytest.mark.parametrize("wrong", [{"user_width": 0}, {"user_width": 4, "width": -1}])
def test_sizes_below_one_are_refused(wrong):
    with pytest.raises(SettingError, match="a size of at least 1"):
        Personal(**wrong)
