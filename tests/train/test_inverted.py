"""Pictures led back to noise: where they are judged, against what, and how much it counts."""

import dataclasses

import pytest
import torch

from palate.backbones.backbone import Condition
from palate.backbones.inversion import NOISE_SHARE, inversion_grid, invert
from palate.core.path import Path
from palate.core.problems import SettingError
from palate.core.streams import Streams
from palate.objectives import InversionDPO, Needs
from palate.train.denoise import denoise
from palate.train.groups import NoiseSettings, Plan
from palate.train.inverted import Inverted, grid_of
from palate.train.sources import InversionSettings
from palate.train.start import start_facts
from palate.train.step import Learner
from palate.train.targets import WEIGHTS
from palate.train.ways import Led, Route
from train.micro import Micro, batch

BOTH = Needs(reference=True, rejected=True)
EMPTY = Condition({"text": torch.zeros(1, 3, 6, dtype=torch.float64)})


def source(backbone: Micro, *, noise: NoiseSettings | None = None, **settings) -> Inverted:
    """Led by whoever speaks; five levels unless told otherwise."""
    told = InversionSettings(**{"steps": 5, "by": "policy", **settings})
    part = noise or NoiseSettings()
    grid = grid_of(backbone.path, told, part)
    empty = EMPTY if told.guidance > 1 else None
    route = Route(grid=grid, guidance=told.guidance, empty=empty, renoise=told.renoise)
    return Inverted(
        streams=Streams(4), path=backbone.path, settings=told, noise=part, grid=grid,
        leader=Led(backbone=backbone, route=route), empty=empty,
    )  # fmt: skip


def learner(backbone: Micro, inverted: Inverted, **plan) -> Learner:
    settings = {"batch": 6, "learning_rate": 1e-3, "steps": 10, "device": "cpu", **plan}
    return Learner(backbone, InversionDPO(), inverted, Plan(**settings))


def norm_of_first_gradient(backbone: Micro, **settings) -> float:
    """The gradient of the mean loss of two pairs, before anything was learned."""
    pairs = batch(2)
    question = source(backbone, **settings)(pairs)
    InversionDPO()(denoise(backbone, pairs, question, BOTH)).loss.mean().backward()
    squares = [weight.grad.square().sum() for weight in backbone.trainable().values()]
    return float(torch.stack(squares).sum().sqrt())


def test_judged_are_the_states_after_each_move_under_their_own_level():
    backbone, pairs = Micro().move(0.01), batch(3)
    question = source(backbone)(pairs)
    for side, clean in enumerate((pairs.chosen, pairs.rejected)):
        way = invert(backbone, clean, pairs.conditions[side], None, (0, 10, 20, 30, 40))
        torch.testing.assert_close(question.noisy[side], way.states[:, 1:], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(question.target[side], way.predicted, rtol=1e-9, atol=1e-9)
    assert question.levels.tolist() == [[0, 10, 20, 30, 40]] * 3
    assert question.level.tolist() == [20] * 3


def test_the_clean_target_is_the_noise_between_state_and_picture():
    backbone, pairs = Micro(), batch(3)
    question = source(backbone, target="clean", first=1)(pairs)
    alpha, sigma = backbone.path.alpha, backbone.path.sigma
    for place, level in enumerate((1, 11, 21, 31, 41)):
        state = question.noisy[1][:, place]
        told = (state - alpha[level] * pairs.rejected) / sigma[level]
        torch.testing.assert_close(question.target[1][:, place], told)


@pytest.mark.parametrize("target", ["trajectory", "clean"])
def test_targets_are_in_the_networks_own_kind_of_prediction(target):
    """X = αx₀ + σε must hold of what the target says, whatever it is a target of."""
    pairs = batch(2)
    for kind in ("epsilon", "v_prediction", "sample", "flow"):
        backbone = Micro(prediction=kind)
        question = source(backbone, target=target, first=1)(pairs)
        level = question.levels.flatten()
        noisy, told = question.noisy[0].flatten(0, 1), question.target[0].flatten(0, 1)
        clean, noise = backbone.path.to_clean_and_noise(told, noisy, level)
        torch.testing.assert_close(backbone.path.noisy(clean, noise, level), noisy)
        if target == "clean":
            given = pairs.chosen.repeat_interleave(5, 0)
            torch.testing.assert_close(clean, given, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("weight", ["uniform", "inv_alpha", "ddim"])
def test_an_error_is_the_weighted_mean_over_the_levels(weight):
    backbone, pairs = Micro().move(0.01), batch(3)
    question = source(backbone, weight=weight)(pairs)
    contrast = denoise(backbone, pairs, question, BOTH)
    counted = WEIGHTS[weight](backbone.path, (0, 10, 20, 30, 40))
    for row in range(3):
        policy = reference = 0.0
        for place, level in enumerate((0, 10, 20, 30, 40)):
            asked = (
                question.noisy[1][row, place][None],
                torch.tensor([level]),
                pairs.conditions[1].rows([row]),
            )
            said = backbone.predict(*asked)[0].detach()
            with backbone.as_reference():
                believed = backbone.predict(*asked)[0]
            told = question.target[1][row, place]
            policy += float(counted[place] * (said - told).square().mean()) / 5
            reference += float(counted[place] * (believed - told).square().mean()) / 5
        assert float(contrast.rejected.error[row].detach()) == pytest.approx(policy, rel=1e-9)
        assert float(contrast.rejected.reference_error[row]) == pytest.approx(reference, rel=1e-9)


def test_weights_of_the_released_script_on_stable_diffusions_levels():
    """Eighty steps: 59.3 at level 948 where ᾱ is 0.0084, 7.1 in the mean; 1/(2 · 0.99915) first."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    path = Path.from_alphas_cumprod((1 - betas).cumprod(0), "epsilon")
    weights = WEIGHTS["inv_alpha"](path, inversion_grid(1000, 80))
    assert float(weights[-1]) == pytest.approx(59.3, abs=0.05)
    assert float(weights.mean()) == pytest.approx(7.1, abs=0.05)
    assert float(weights[0]) == pytest.approx(0.5 / 0.99915)


def test_the_weight_of_a_step_is_its_closed_form():
    """K = √(1−ᾱ'−s²) − √(ᾱ'(1−ᾱ)/ᾱ), s² = (1−ᾱ')/(1−ᾱ) · (1−ᾱ/ᾱ'); a step that stands counts 0."""
    path, grid = Micro().path, (0, 10, 20, 30, 40)
    found = WEIGHTS["ddim"](path, grid)
    kept = path.alpha.square()
    assert float(found[0]) == 0.0
    for place in range(1, 5):
        t, p = kept[grid[place]], kept[grid[place - 1]]
        s2 = (1 - p) / (1 - t) * (1 - t / p)
        k = (1 - p - s2).sqrt() - (p * (1 - t) / t).sqrt()
        assert float(found[place]) == pytest.approx(float(k**2 / (2 * s2)), rel=1e-9)


@pytest.mark.parametrize("weight", ["inv_alpha", "ddim"])
@pytest.mark.parametrize("kind", ["v_prediction", "sample", "flow"])
def test_published_weights_weigh_errors_of_noise_whatever_is_predicted(weight, kind):
    grid, kept = (10, 20, 30), Micro().path.alpha.square()
    noise = Path.from_alphas_cumprod(kept, "epsilon")
    other = Path.from_alphas_cumprod(kept, kind)
    level, x = torch.tensor(grid), torch.zeros(3, dtype=torch.float64)
    moved = other.to_clean_and_noise(torch.ones_like(x), x, level)[1]
    torch.testing.assert_close(
        WEIGHTS[weight](other, grid), WEIGHTS[weight](noise, grid) * moved.square()
    )


def test_aiming_at_the_reference_has_no_error_and_no_gradient_at_the_start():
    backbone, pairs = Micro(), batch(2)
    question = source(backbone, target="reference")(pairs)
    contrast = denoise(backbone, pairs, question, BOTH)
    assert not contrast.chosen.error.any()
    assert not contrast.rejected.reference_error.any()
    assert norm_of_first_gradient(Micro(), target="reference") == 0.0
    assert norm_of_first_gradient(Micro().move(1e-3), target="reference") > 0.0


@pytest.mark.parametrize("target", ["trajectory", "clean"])
def test_other_targets_have_a_gradient_at_the_start(target):
    assert norm_of_first_gradient(Micro(), target=target) > 1e-2


def test_a_start_that_cannot_move_is_said_with_its_cure():
    backbone = Micro()
    facts = start_facts(learner(backbone, source(backbone, target="reference")), batch(2))
    assert "the first gradient is 0" in facts["warnings"][0]
    assert "inversion.target=trajectory" in facts["warnings"][0]
    assert start_facts(learner(backbone, source(backbone)), batch(2))["warnings"] == []


def test_a_target_nobody_gave_is_refused():
    backbone, pairs = Micro(), batch(2)
    question = source(backbone, target="reference")(pairs)
    with pytest.raises(SettingError, match="an objective without a reference"):
        denoise(backbone, pairs, question, Needs(reference=False, rejected=True))


def test_guidance_in_the_question_is_the_one_of_the_way():
    backbone, pairs = Micro(), batch(2)
    question = source(backbone, guidance=2.0, visits=1)(pairs)
    level, noisy = question.levels[:, 0], question.noisy[0][:, 0]
    given = backbone.predict(noisy, level, pairs.conditions[0])
    without = backbone.predict(noisy, level, EMPTY.rows([0, 0]))
    torch.testing.assert_close(question.ask(backbone, 1)[:, 0], 2 * given - without)


def test_visits_are_named_by_pair_and_visit_and_shared_by_both_sides():
    backbone, pairs = Micro(), batch(4)
    inverted = source(backbone, visits=2)
    whole = inverted(pairs)
    alone = inverted(pairs.rows([3, 1]))
    assert alone.levels.tolist() == whole.levels[[3, 1]].tolist()
    assert whole.levels.tolist() == [sorted(set(row)) for row in whole.levels.tolist()]
    later = inverted(dataclasses.replace(pairs, visits=tuple(v + 1 for v in pairs.visits)))
    assert later.levels.tolist() != whole.levels.tolist()
    # The state says which level it is at, so equal levels on both sides can be seen in the way.
    way = invert(backbone, pairs.rejected, pairs.conditions[1], None, inverted.grid)
    places = whole.levels // 10
    rows = torch.arange(4)[:, None]
    torch.testing.assert_close(whole.noisy[1], way.states[rows, places + 1], rtol=1e-9, atol=1e-9)


def test_only_the_asked_part_of_the_noise_is_visited_and_no_way_goes_beyond():
    backbone = Micro()
    inverted = source(backbone, noise=NoiseSettings(lowest=0.3, highest=0.7))
    assert inverted.grid == (0, 10, 20, 30)
    assert inverted(batch(2)).levels.tolist() == [[20, 30]] * 2
    with pytest.raises(SettingError, match=r"Got noise.lowest=0.85"):
        source(backbone, noise=NoiseSettings(lowest=0.85, highest=0.9))
    with pytest.raises(SettingError, match=r"Use inversion.visits=2"):
        source(backbone, visits=3, noise=NoiseSettings(lowest=0.3, highest=0.7))


def test_added_noise_is_a_share_of_the_samplers_own_and_the_same_for_both_pictures():
    backbone, pairs = Micro(), batch(3)
    twice, once = (source(backbone, jitter=NOISE_SHARE * n)(pairs) for n in (2, 1))
    plain = source(backbone)(pairs)
    first = [each.noisy[0][:, 1] - plain.noisy[0][:, 1] for each in (once, twice)]
    # The first move is the identity and its noise passes through it, so they are not quite twice.
    assert float(first[1].norm() / first[0].norm()) == pytest.approx(2.0, rel=0.02)
    same = dataclasses.replace(pairs, rejected=pairs.chosen)
    shared = source(backbone, jitter=0.1)(same)
    torch.testing.assert_close(shared.noisy[0], shared.noisy[1], rtol=1e-9, atol=1e-9)
    apart = source(backbone, jitter=0.1, noise=NoiseSettings(shared=False))(same)
    assert not torch.allclose(apart.noisy[0][:, 1:], apart.noisy[1][:, 1:])


@pytest.mark.parametrize(
    "settings", [{"jitter": 0.1, "visits": 1, "target": "clean"}, {"steps": 2}]
)
def test_a_step_in_parts_is_the_step_at_once(settings):
    moved = []
    for micro_batch in (3, 2):
        backbone = Micro().move(0.01)
        learner(backbone, source(backbone, **settings), micro_batch=micro_batch).step(batch(3), 0)
        moved.append(backbone.state())
    for name, weight in moved[0].items():
        torch.testing.assert_close(weight, moved[1][name], rtol=1e-7, atol=1e-9)
