"""A model that draws for somebody, and how strongly it follows them."""

import pytest
import torch

from backbones.asking import LEVELS, WORDS, generator
from palate.backbones import Condition, Personal, load
from palate.backbones.guidance import guided
from palate.backbones.listening import Listening
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.core.problems import SettingError
from palate.core.streams import Streams

SETTINGS = Personal(user_width=6, tokens=3, width=5)
PROMPTS = [WORDS[0], WORDS[2]]
USER = Streams(5)("user").normal((3, 6))


@pytest.fixture(scope="module")
def model(eps):
    """A model that was taught users. Ask it only."""
    found = load(eps, personal=SETTINGS, train=True)
    with torch.no_grad():
        for name, weight in found.trainable().items():
            weight.add_(Streams(7)("taught", name).normal(tuple(weight.shape)) / 2)
            weight.requires_grad_(False)
    return found


def asked(model):
    noisy = torch.randn(2, 4, 16, 16, generator=generator())
    return noisy, LEVELS[:1].repeat(2)


def test_every_prompt_but_the_empty_one_comes_with_the_user(model):
    told = Listening(model, USER).embed(["a red ball", ""])
    assert torch.equal(told.user, torch.stack([USER, torch.zeros_like(USER)]))


@pytest.mark.parametrize("user_guidance", [0.0, 1.0, 3.0, 5.0])
def test_both_guidances_are_those_of_the_formula(model, user_guidance):
    """ε(∅,∅) + g·[ε(c,∅) − ε(∅,∅)] + g_u·[ε(c,u) − ε(c,∅)], with g = 3."""
    noisy, level = asked(model)
    heard = Listening(model, USER, strength=user_guidance / 3)
    found = guided(heard, noisy, level, heard.embed(PROMPTS), heard.embed([""]), 3.0)
    prompt, empty = model.embed(PROMPTS), model.embed(["", ""])
    neither, text = model.predict(noisy, level, empty), model.predict(noisy, level, prompt)
    both = model.predict(noisy, level, prompt.with_user(USER.expand(2, -1, -1)))
    wanted = neither + 3.0 * (text - neither) + user_guidance * (both - text)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (both - text).abs().max() > 0.01


def test_nobody_and_strength_0_give_the_base_model_to_the_bit(model, still):
    noise = starting_noise(model, [("a", 0)], seed=1)
    how = Sampler(steps=3, guidance=2.0)
    base = sample(still, PROMPTS[:1], noise, how)
    assert torch.equal(sample(model, PROMPTS[:1], noise, how), base)
    assert torch.equal(sample(Listening(model, 0 * USER), PROMPTS[:1], noise, how), base)
    assert torch.equal(sample(Listening(model, USER, strength=0.0), PROMPTS[:1], noise, how), base)
    assert not torch.equal(sample(Listening(model, USER), PROMPTS[:1], noise, how), base)


def test_inside_as_reference_nobody_is_heard(model, still):
    noise = starting_noise(model, [("a", 0)], seed=1)
    how = Sampler(steps=2, guidance=2.0)
    with model.as_reference():
        found = sample(Listening(model, USER, strength=2.0), PROMPTS[:1], noise, how)
    assert torch.equal(found, sample(still, PROMPTS[:1], noise, how))


def test_users_with_fewer_tokens_are_welcome(model):
    short = USER.clone()
    short[2] = 0
    noise = starting_noise(model, [("a", 0)], seed=1)
    how = Sampler(steps=2, guidance=1.0)
    assert torch.equal(
        sample(Listening(model, USER[:2]), PROMPTS[:1], noise, how),
        sample(Listening(model, short), PROMPTS[:1], noise, how),
    )


def test_what_was_applied_names_the_user_and_the_strength(model):
    digests = {
        Listening(model, USER).applied,
        Listening(model, USER, strength=2.0).applied,
        Listening(model, USER + 1).applied,
        model.applied,
    }
    assert len(digests) == 4
    assert Listening(model, USER).applied == Listening(model, USER).applied


@pytest.mark.parametrize(
    ("user", "strength", "need"),
    [
        (torch.zeros(4, 6), 1.0, "at most 3 tokens of 6 numbers"),
        (torch.zeros(3, 7), 1.0, "at most 3 tokens of 6 numbers"),
        (torch.zeros(6), 1.0, "one user"),
        (torch.full((3, 6), float("nan")), 1.0, "finite numbers"),
        (torch.zeros(3, 6), -0.5, "strength of 0 to 100"),
        (torch.zeros(3, 6), float("nan"), "strength of 0 to 100"),
    ],
)
def test_what_cannot_be_listened_to_is_refused(model, user, strength, need):
    with pytest.raises(SettingError, match=need):
        Listening(model, user, strength=strength)


def test_a_model_without_users_cannot_listen(still):
    with pytest.raises(SettingError, match="knows no users"):
        Listening(still, USER)


def test_conditions_keep_their_users_through_rows_and_batches():
    told = Condition({"text": torch.zeros(2, 1, 1)}).with_user(torch.arange(4.0).view(2, 1, 2))
    assert told.rows([1]).user.tolist() == [[[2.0, 3.0]]]
    assert told.repeat(2).user.shape == (4, 1, 2)
    assert told.with_user(None).user is None
