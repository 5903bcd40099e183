"""Guidance: one call of the network, the empty prompt first, and the gradient of both halves."""

import pytest
import torch

from backbones.analytic import Gaussian, latents, spread
from backbones.asking import generator, train_a_little
from palate.backbones import Adapter, Condition, load
from palate.backbones.guidance import guided
from palate.core.problems import SettingError

LEVELS = torch.tensor([20, 400, 980])
WORDS = ["a red ball", "a blue box on green", "two small yellow stars"]


def noisy_for(backbone):
    return torch.randn((3, *backbone.latent_shape(64, 64)), generator=generator())


def test_three_and_one_with_strength_two_is_five():
    """Without the prompt 1, with it 3: 1 + 2 · (3 − 1) = 5."""

    class Says:
        def predict(self, noisy, level, condition):
            return condition.tensors["answer"].reshape(-1, 1, 1, 1).expand_as(noisy)

    given, empty = Condition({"answer": torch.tensor([3.0])}), Condition({"answer": torch.ones(1)})
    answer = guided(Says(), torch.zeros(1, 1, 1, 1), torch.tensor([0]), given, empty, 2.0)
    assert answer.item() == 5.0


@pytest.mark.parametrize("kind", ["eps", "velocity"])
def test_it_is_what_two_separate_questions_give(kind, request):
    model = load(request.getfixturevalue(kind))
    noisy, condition, empty = noisy_for(model), model.embed(WORDS), model.embed([""])
    found = guided(model, noisy, LEVELS, condition, empty, 4.0)
    given = model.predict(noisy, LEVELS, condition)
    without = model.predict(noisy, LEVELS, model.embed([""] * 3))
    # Another batch rounds otherwise, by 1e-5; strength 4 multiplies that by 4 + 3.
    torch.testing.assert_close(found, without + 4 * (given - without), rtol=0, atol=7e-5)
    assert (found - given).abs().max() > 1e-3, "the prompt changes nothing, so nothing was tested"
    alike = guided(model, noisy, LEVELS, condition, empty.rows([0, 0, 0]), 4.0)
    assert torch.equal(alike, found)


def test_without_guidance_the_network_is_asked_once_about_the_prompt_only():
    model, noisy = Gaussian(), latents(2)
    level, condition, empty = torch.tensor([5, 900]), spread([1.0, 2.0]), spread([0.5])
    plain = model.predict(noisy, level, condition)
    assert torch.equal(guided(model, noisy, level, condition, empty, 1.0), plain)
    assert torch.equal(guided(model, noisy, level, condition, None, 7.0), plain)
    guided(model, noisy, level, condition, empty, 7.0)
    assert [levels for levels, _ in model.asked] == [[5, 900]] * 3 + [[5, 900, 5, 900]]


def test_what_only_the_condition_says_holds_for_both_halves():
    seen = []

    class Listens:
        def predict(self, noisy, level, condition):
            seen.append(condition.tensors)
            return noisy

    given = Condition({"text": torch.tensor([3.0, 4.0]), "sizes": torch.tensor([[8], [9]])})
    empty, noisy = Condition({"text": torch.zeros(1)}), torch.zeros(2, 1, 1, 1)
    guided(Listens(), noisy, torch.tensor([0, 1]), given, empty, 3.0)
    assert seen[0]["text"].tolist() == [0, 0, 3, 4]
    assert seen[0]["sizes"].tolist() == [[8], [9], [8], [9]]


def test_the_gradient_is_that_of_both_halves(eps):
    model = load(eps, adapter=Adapter(), train=True)
    train_a_little(model)
    noisy, condition, empty = noisy_for(model), model.embed(WORDS), model.embed([""])
    weights = list(model.trainable().values())

    def slope(answer):
        return torch.cat([g.flatten() for g in torch.autograd.grad(answer.square().sum(), weights)])

    together = slope(guided(model, noisy, LEVELS, condition, empty, 3.0))
    given = model.predict(noisy, LEVELS, condition)
    without = model.predict(noisy, LEVELS, empty.rows([0, 0, 0]))
    apart = slope(3 * given - 2 * without)
    assert (together - apart).norm() < 1e-5 * apart.norm()
    given = model.predict(noisy, LEVELS, condition)
    blind = slope(3 * given - 2 * without.detach())
    assert (together - blind).norm() > 0.01 * apart.norm()


def test_inside_as_reference_the_reference_is_guided(eps, still):
    model = load(eps, adapter=Adapter(alpha=60), train=True)
    train_a_little(model)
    noisy, condition, empty = noisy_for(still), still.embed(WORDS), still.embed([""])
    with model.as_reference():
        answer = guided(model, noisy, LEVELS, condition, empty, 3.0)
    assert torch.equal(answer, guided(still, noisy, LEVELS, condition, empty, 3.0))
    assert not answer.requires_grad
    assert not torch.equal(answer, guided(model, noisy, LEVELS, condition, empty, 3.0))


def test_an_empty_prompt_of_another_number_of_rows_is_refused():
    with pytest.raises(SettingError, match="an empty prompt of 3 rows for a batch of 2"):
        guided(Gaussian(), latents(2), torch.tensor([1, 2]), spread([1, 2]), spread([1, 1, 1]), 3.0)
