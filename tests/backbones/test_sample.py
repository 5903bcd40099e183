"""Sampling: diffusers' own pictures, each a function of its own noise and nothing else."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)

from backbones.asking import train_a_little
from palate.backbones import Adapter, load
from palate.backbones.sample import SCHEDULERS, Sampler, sample, starting_noise
from palate.core.problems import DataError, SettingError

PROMPTS = ["a red ball", "a blue box on green", "a red ball"]
NAMES = [(prompt, place) for place, prompt in enumerate(PROMPTS)]
THEIRS = {
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, {}),
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "scheduler", "guidance"),
    [
        ("eps", "dpm++", 4.0),
        ("eps", "ddim", 1.0),
        ("eps", "euler", 4.0),
        ("velocity", "dpm++", 1.0),
        ("velocity", "ddim", 4.0),
        ("velocity", "euler", 1.0),
    ],
)
def test_pictures_are_those_of_the_plain_pipeline(kind, scheduler, guidance, request):
    folder = request.getfixturevalue(kind)
    model = load(folder)
    noise = starting_noise(model, NAMES[:2], seed=0)
    ours = sample(
        model, PROMPTS[:2], noise, Sampler(steps=5, guidance=guidance, scheduler=scheduler)
    )
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    made, told = THEIRS[scheduler]
    pipeline.scheduler = made.from_config(pipeline.scheduler.config, **told)
    theirs = pipeline(
        PROMPTS[:2],
        latents=noise.clone(),
        num_inference_steps=5,
        guidance_scale=guidance,
        output_type="np",
    ).images
    assert (ours.float() - 255 * torch.from_numpy(theirs)).abs().max() <= 0.51
    assert ours.float().std() > 5


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_picture_does_not_depend_on_its_company(eps, still, scheduler):
    noise = starting_noise(still, NAMES, seed=0)
    told = []
    sampler = Sampler(steps=3, scheduler=scheduler)
    together = sample(still, PROMPTS, noise, sampler)
    apart = sample(still, PROMPTS, noise, sampler, batch=2, progress=lambda *a: told.append(a))
    last = sample(still, PROMPTS[2:], noise[2:], sampler)
    assert told == [(2, 3), (3, 3)]
    assert (together.float() - apart.float()).abs().max() <= 1
    assert (together[2:].float() - last.float()).abs().max() <= 1
    assert not torch.equal(together[0], together[2]), "same prompt, other noise"


def test_noise_is_a_function_of_seed_and_name(still):
    noise = starting_noise(still, NAMES, seed=3)
    assert noise.shape == (3, 4, 16, 16)
    assert torch.equal(noise[2], starting_noise(still, [NAMES[2]], seed=3)[0])
    assert not torch.equal(noise, starting_noise(still, NAMES, seed=4))
    assert starting_noise(still, NAMES, seed=3, size=(32, 64)).shape == (3, 4, 8, 16)


def test_stochastic_schedulers_repeat_themselves_and_leave_the_global_generator_alone(eps, still):
    noise = starting_noise(still, NAMES, seed=0)
    sampler = Sampler(steps=3, scheduler="ddpm")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = sample(still, PROMPTS, noise, sampler)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, sample(still, PROMPTS, noise, sampler))


def test_inside_as_reference_the_reference_draws(eps, still):
    model = load(eps, adapter=Adapter(alpha=60), train=True)
    train_a_little(model)
    noise, sampler = starting_noise(model, NAMES, seed=0), Sampler(steps=3)
    before = sample(still, PROMPTS, noise, sampler)
    with model.as_reference():
        assert torch.equal(sample(model, PROMPTS, noise, sampler), before)
    assert not torch.equal(sample(model, PROMPTS, noise, sampler), before)


def test_other_sizes_can_be_drawn(eps, still):
    noise = starting_noise(still, NAMES[:1], seed=0, size=(32, 96))
    assert sample(still, PROMPTS[:1], noise, Sampler(steps=2)).shape == (1, 32, 96, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"Got 0 sampling steps\. Need 1 to 1000"),
        ({"guidance": float("nan")}, r"Got guidance nan\. Need 1"),
        ({"guidance": 0.5}, r"Got guidance 0\.5"),
        ({"scheduler": "eulr"}, r"Did you mean euler\?"),
    ],
)
def test_settings_that_cannot_be_say_what_can(settings, message):
    with pytest.raises(SettingError, match=message):
        Sampler(**settings)


def test_prompts_and_noise_must_match(still):
    with pytest.raises(DataError, match="Got 2 prompts, noise for 3 pictures"):
        sample(still, PROMPTS[:2], starting_noise(still, NAMES, seed=0), Sampler())
    with pytest.raises(SettingError, match="no pictures"):
        starting_noise(still, [], seed=0)
