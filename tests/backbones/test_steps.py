"""Steps of the sampler: their width, their mean, how probable they are, and drawing them."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from backbones.analytic import latents, stable_diffusion
from palate.backbones.steps import Grid, Step, deviation, draw, log_probability, transition
from palate.core.path import PREDICTIONS, Path
from palate.core.problems import SettingError

GRID = Grid.leading(1000, 20)
LEVELS, PREVIOUS = torch.tensor(GRID.levels), torch.tensor(GRID.previous)
# From the notes on D3PO and SPO: level, width of its step, and how much a change of ε moves the
# log-probability of the step, k² / 2s².
PRINTED = {
    951: (0.644, 0.36),
    751: (0.558, 0.26),
    501: (0.429, 0.20),
    251: (0.284, 0.24),
    101: (0.167, 0.65),
    51: (0.041, 14.7),
    1: (0.021, 0.50),
}


def slopes(path, level, previous):
    """How far the mean moves per change of ε: the k of the closed form."""
    kept, before = path.alpha[level].square(), path.alpha[previous].square()
    variance = (1 - before) / (1 - kept) * (1 - kept / before)
    return (1 - before - variance).sqrt() - (before * (1 - kept) / kept).sqrt()


def test_twenty_steps_end_on_level_zero_and_not_beyond():
    assert GRID.levels == tuple(range(951, 0, -50))
    assert GRID.previous == (*range(901, 0, -50), 0)
    assert len(GRID) == 20
    assert Grid.leading(1000, 3).levels == (667, 334, 1)
    assert Grid.leading(10, 2, offset=0) == Grid(levels=(5, 0), previous=(0, 0))


@pytest.mark.parametrize(("level", "printed"), PRINTED.items())
def test_widths_and_sensitivities_are_those_in_the_notes(level, printed):
    path, at = stable_diffusion(), GRID.levels.index(level)
    width = deviation(path, LEVELS, PREVIOUS)
    assert width[at].item() == pytest.approx(printed[0], abs=5e-4)
    sensitivity = slopes(path, LEVELS, PREVIOUS).square() / (2 * width.square())
    assert sensitivity[at].item() == pytest.approx(printed[1], abs=0.05 if level == 51 else 5e-3)


def test_the_width_is_the_published_formula_and_eta_scales_it():
    path = stable_diffusion()
    kept, before = path.alpha[LEVELS].square(), path.alpha[PREVIOUS].square()
    formula = ((1 - before) / (1 - kept) * (1 - kept / before)).sqrt()
    for eta in (0.0, 0.3, 1.0):
        found = deviation(path, LEVELS, PREVIOUS, eta)
        torch.testing.assert_close(found, eta * formula, rtol=1e-10, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_step_is_the_one_diffusers_takes(kind, eta):
    """Parity with DDIMScheduler, level by level, with the same noise; its last step lands on 0."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=kind,
    )
    scheduler.set_timesteps(20)
    assert tuple(scheduler.timesteps.tolist()) == GRID.levels
    path = Path.from_alphas_cumprod(scheduler.alphas_cumprod, kind)
    noisy, predicted, noise = (latents(20, seed, torch.float32) for seed in range(3))
    ours = draw(transition(path, noisy, predicted, LEVELS, PREVIOUS, eta), noise)
    for row, level in enumerate(GRID.levels):
        told = {"eta": eta, "variance_noise": noise[row : row + 1], "return_dict": False}
        one = slice(row, row + 1)
        theirs = scheduler.step(predicted[one], level, noisy[one], **told)[0]
        torch.testing.assert_close(ours[one], theirs, rtol=1e-4, atol=1e-4)


def test_the_means_of_two_models_differ_by_the_closed_form():
    path, noisy = stable_diffusion(), latents(20)
    policy, reference = latents(20, 1), latents(20, 2)
    moved = transition(path, noisy, policy, LEVELS, PREVIOUS).mean
    moved = moved - transition(path, noisy, reference, LEVELS, PREVIOUS).mean
    factor = slopes(path, LEVELS, PREVIOUS).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(moved, factor * (policy - reference), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("path", [stable_diffusion(), Path.rectified(1000)], ids=["vp", "straight"])
@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_a_perfect_prediction_keeps_the_noise_level(path, kind, eta):
    """Mean and width together have the picture's and the noise's share of the level landed on."""
    path = Path(alpha=path.alpha, sigma=path.sigma, prediction=kind)
    clean, noise = latents(20, 1), latents(20, 2)
    noisy = path.noisy(clean, noise, LEVELS)
    step = transition(path, noisy, path.target(clean, noise, LEVELS), LEVELS, PREVIOUS, eta)
    alpha, sigma = path.coefficients(PREVIOUS, clean)
    width = step.sigma.reshape(-1, 1, 1, 1)
    left = (step.mean - alpha * clean) / noise
    torch.testing.assert_close(left.square() + width.square(), sigma.square().expand_as(left))


def test_the_log_probability_is_that_of_a_normal_distribution():
    step = Step(mean=latents(3, 1), sigma=torch.tensor([0.02, 0.3, 1.7], dtype=torch.float64))
    taken = draw(step, latents(3, 2))
    theirs = torch.distributions.Normal(step.mean, step.sigma.reshape(-1, 1, 1, 1))
    expected = theirs.log_prob(taken).flatten(1).mean(1)
    torch.testing.assert_close(log_probability(step, taken), expected, rtol=1e-12, atol=1e-12)
    joint = torch.distributions.Independent(theirs, 3).log_prob(taken)
    torch.testing.assert_close(log_probability(step, taken) * 24, joint)


def test_one_element_by_hand():
    """Mean 1, width 2, taken 5: −(4/2)²/2 − log 2 − ½ log 2π = −2 − 0.6931 − 0.9189."""
    step = Step(mean=torch.ones(1, 1, 1, 1), sigma=torch.tensor([2.0]))
    found = log_probability(step, torch.full((1, 1, 1, 1), 5.0)).item()
    assert found == pytest.approx(-2 - math.log(2) - 0.5 * math.log(2 * math.pi), abs=1e-6)


def test_the_log_ratio_of_two_models_is_the_difference_of_their_distances():
    path, noisy = stable_diffusion(), latents(20)
    policy = transition(path, noisy, latents(20, 1), LEVELS, PREVIOUS)
    reference = transition(path, noisy, latents(20, 2), LEVELS, PREVIOUS)
    taken = draw(reference, latents(20, 3))
    near, far = ((taken - s.mean).square().flatten(1).sum(1) for s in (policy, reference))
    expected = (far - near) / (2 * policy.sigma.square() * 24)
    ratio = log_probability(policy, taken) - log_probability(reference, taken)
    torch.testing.assert_close(ratio, expected, rtol=1e-9, atol=1e-9)


def test_the_expected_log_ratio_is_the_sensitivity_times_the_squared_difference():
    """On the reference's own step without noise: −k²/2s² · mean (ε_θ − ε_ref)²."""
    path, noisy = stable_diffusion(), latents(20)
    said, other = latents(20, 1), latents(20, 2)
    policy = transition(path, noisy, said, LEVELS, PREVIOUS)
    reference = transition(path, noisy, other, LEVELS, PREVIOUS)
    ratio = log_probability(policy, reference.mean) - log_probability(reference, reference.mean)
    width = deviation(path, LEVELS, PREVIOUS)
    golden = slopes(path, LEVELS, PREVIOUS).square() / (2 * width.square())
    expected = -golden * (said - other).square().flatten(1).mean(1)
    torch.testing.assert_close(ratio, expected, rtol=1e-9, atol=1e-9)


def test_the_gradient_flows_into_the_mean_and_not_into_the_step_taken():
    said, taken = latents(20, 1).requires_grad_(), latents(20, 2).requires_grad_()
    step = transition(stable_diffusion(), latents(20), said, LEVELS, PREVIOUS)
    log_probability(step, taken).sum().backward()
    assert taken.grad is None
    width = deviation(stable_diffusion(), LEVELS, PREVIOUS)
    factor = (slopes(stable_diffusion(), LEVELS, PREVIOUS) / width.square()).reshape(-1, 1, 1, 1)
    expected = factor * (taken - step.mean).detach() / 24
    torch.testing.assert_close(said.grad, expected, rtol=1e-9, atol=1e-9)


def test_half_precision_is_widened_before_anything_is_subtracted():
    path = stable_diffusion()
    noisy, said = latents(20, 0, torch.bfloat16), latents(20, 1, torch.bfloat16)
    narrow = transition(path, noisy, said, LEVELS, PREVIOUS)
    wide = transition(path, noisy.double(), said.double(), LEVELS, PREVIOUS)
    assert narrow.mean.dtype == narrow.sigma.dtype == torch.float32
    torch.testing.assert_close(narrow.mean.double(), wide.mean, rtol=1e-5, atol=1e-5)
    taken = latents(20, 2, torch.bfloat16)
    found = log_probability(narrow, taken)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), log_probability(wide, taken.double()), rtol=1e-5, atol=0
    )


def test_each_row_is_its_own():
    path, noisy, said, noise = stable_diffusion(), latents(20), latents(20, 1), latents(20, 2)
    together = transition(path, noisy, said, LEVELS, PREVIOUS)
    taken = draw(together, noise)
    for row in (0, 7, 19):
        one = slice(row, row + 1)
        alone = transition(path, noisy[one], said[one], LEVELS[one], PREVIOUS[one])
        assert torch.equal(draw(alone, noise[one]), taken[one])
        assert torch.equal(
            log_probability(alone, noisy[one]), log_probability(together, noisy)[one]
        )


@pytest.mark.parametrize(
    ("level", "previous", "eta", "message"),
    [
        (1, -49, 1.0, r"Got steps from \[1\] to \[-49\]\. Need levels of 0 to 999"),
        (100, 101, 1.0, "never upwards"),
        (1000, 3, 1.0, "levels of 0 to 999"),
        (100, 50, 1.5, r"Got eta 1\.5\. Need 0"),
        (100, 50, float("nan"), "Got eta nan"),
    ],
)
def test_steps_that_cannot_be_taken_are_refused(level, previous, eta, message):
    with pytest.raises(SettingError, match=message):
        transition(
            stable_diffusion(),
            latents(1),
            latents(1),
            torch.tensor([level]),
            torch.tensor([previous]),
            eta,
        )


def test_a_deterministic_step_has_no_density():
    step = transition(stable_diffusion(), latents(20), latents(20), LEVELS, PREVIOUS, 0.0)
    with pytest.raises(SettingError, match="Need a width above 0 in every row"):
        log_probability(step, latents(20))


@pytest.mark.parametrize("settings", [(1000, 0), (1000, 1001), (1000, 1000), (1000, 20, -1)])
def test_grids_that_do_not_fit_are_refused(settings):
    with pytest.raises(SettingError, match="Take fewer steps, or offset 0"):
        Grid.leading(*settings)


@pytest.mark.parametrize(
    ("levels", "previous"),
    [((), ()), ((5,), (6,)), ((5,), (-1,)), ((9, 5), (4, 0)), ((9, 5), (5,)), ((5, 5), (5, 0))],
)
def test_grids_that_do_not_lead_down_are_refused(levels, previous):
    with pytest.raises(SettingError, match="each step landing where the next one starts"):
        Grid(levels=levels, previous=previous)


def shifted(levels: int = 1000, shift: float = 3.0) -> Path:
    """The straight path of Stable Diffusion 3."""
    time = torch.arange(1, levels + 1, dtype=torch.float64) / levels
    sigma = shift * time / (1 + (shift - 1) * time)
    return Path(alpha=1 - sigma, sigma=sigma, prediction="flow")


def test_on_a_straight_path_the_step_without_noise_is_eulers():
    """To x + (σ' − σ) · u, whatever the shift; also from the last level, which is all noise."""
    path, noisy, flow = shifted(), latents(3), latents(3, seed=1)
    level, previous = torch.tensor([999, 501, 1]), torch.tensor([951, 451, 0])
    change = (path.sigma[previous] - path.sigma[level]).reshape(-1, 1, 1, 1)
    step = transition(path, noisy, flow, level, previous, eta=0.0)
    torch.testing.assert_close(step.mean, noisy + change * flow, rtol=1e-9, atol=1e-12)
    assert step.sigma.tolist() == [0.0] * 3


def test_on_a_straight_path_the_step_with_noise_is_the_true_posterior():
    """Where x₀ is known, x' given x and x₀ is normal with the mean and width of Bayes' rule."""
    path, clean, noise = shifted(), latents(2), latents(2, seed=1)
    level, previous = torch.tensor([901, 301]), torch.tensor([851, 251])
    noisy = path.noisy(clean, noise, level)
    step = transition(path, noisy, noise - clean, level, previous)
    a, s = (t[level].reshape(-1, 1, 1, 1) for t in (path.alpha, path.sigma))
    b, r = (t[previous].reshape(-1, 1, 1, 1) for t in (path.alpha, path.sigma))
    added = s.square() - (a / b * r).square()
    variance = 1 / (1 / r.square() + (a / b).square() / added)
    mean = variance * (b * clean / r.square() + (a / b) * noisy / added)
    torch.testing.assert_close(step.mean, mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(step.sigma, variance.sqrt().flatten(), rtol=1e-9, atol=0)
