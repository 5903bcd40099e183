"""Inversion: the way up is the way down walked backwards."""

import pytest
import torch
from diffusers import DDIMInverseScheduler

from backbones.analytic import Gaussian, latents, spread
from backbones.asking import generator, train_a_little
from palate.backbones import Adapter, load
from palate.backbones.inversion import NOISE_SHARE, inversion_grid, invert
from palate.backbones.steps import transition
from palate.core.problems import DataError, SettingError

GRID = inversion_grid(1000, 10)
SPREADS = [0.5, 1.0, 2.0]


def walk_down(path, state, grid, noises):
    """Deterministic DDIM with the given noise in each step, back to level 0."""
    for start, end, noise in zip(
        reversed(grid), [*reversed(grid[:-1]), 0], reversed(noises), strict=True
    ):
        rows = torch.full((len(state),), 1)
        said = path.convert(noise, state, start * rows, source="epsilon", to=path.prediction)
        state = transition(path, state, said, start * rows, end * rows, 0.0).mean
    return state


def test_the_grids_of_the_two_papers():
    assert inversion_grid(1000, 80) == tuple(range(0, 949, 12))
    assert inversion_grid(1000, 10, offset=1) == tuple(range(1, 902, 100))
    with pytest.raises(SettingError, match="Got 10 steps from level 200"):
        inversion_grid(1000, 10, offset=200)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
@pytest.mark.parametrize("renoise", [False, True])
def test_sampling_with_the_noise_that_was_used_returns_the_latents(kind, renoise):
    model, clean = Gaussian(kind), latents(3)
    found = invert(model, clean, spread(SPREADS), None, GRID, renoise=renoise)
    assert found.states.shape == (3, 11, 2, 3, 4)
    assert found.predicted.shape == (3, 10, 2, 3, 4)
    assert found.levels == GRID
    assert torch.equal(found.states[:, 0], clean)
    back = walk_down(model.path, found.last, GRID, list(found.predicted.unbind(1)))
    torch.testing.assert_close(back, clean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("renoise", [False, True])
def test_networks_that_mean_the_same_go_the_same_way(renoise):
    ways = [
        invert(Gaussian(kind), latents(3), spread(SPREADS), None, GRID[1:], renoise=renoise).states
        for kind in ("epsilon", "v_prediction", "sample", "flow")
    ]
    for way in ways[1:]:
        torch.testing.assert_close(way, ways[0], rtol=1e-9, atol=1e-9)


def test_many_small_steps_follow_the_differential_equation():
    """For Gaussian pictures its solution is known: x stays as many deviations out as it was."""
    model, clean = Gaussian(), latents(3)

    def width(level):
        alpha, sigma = model.path.alpha[level], model.path.sigma[level]
        return ((alpha * torch.tensor(SPREADS)).square() + sigma.square()).sqrt()

    def missed(steps):
        grid = inversion_grid(1000, steps)
        last = invert(model, clean, spread(SPREADS), None, grid).last
        exact = (width(grid[-1]) / width(0)).reshape(-1, 1, 1, 1) * clean
        return float((last - exact).abs().max())

    assert missed(500) < 0.02
    assert missed(500) < 0.3 * missed(100)


def test_renoise_halves_what_the_sampler_misses_on_the_way_back():
    """The sampler asks anew at every state it comes to, instead of being told the noise."""
    model, clean = Gaussian(), latents(3)
    condition, grid = spread(SPREADS), inversion_grid(1000, 80)

    def missed(renoise):
        state = invert(model, clean, condition, None, grid, renoise=renoise).last
        for high, low in zip(reversed(grid), [*reversed(grid[:-1]), 0], strict=True):
            level, landing = torch.full((3,), high), torch.full((3,), low)
            said = model.predict(state, level, condition)
            state = transition(model.path, state, said, level, landing, 0.0).mean
        return float((state - clean).abs().max())

    assert missed(renoise=False) < 0.1
    assert missed(renoise=True) < 0.6 * missed(renoise=False)


def test_a_move_by_hand():
    """From level 0 to 500, and from there to 900, written out with the noise asked for."""
    model, clean = Gaussian(), latents(3)
    found = invert(model, clean, spread(SPREADS), None, [500, 900])
    state, start = clean, 0
    for move, label in enumerate([500, 900]):
        noise = model.predict(state, torch.full((3,), label), spread(SPREADS))
        low, high = ((model.path.alpha[at], model.path.sigma[at]) for at in (start, label))
        state = high[0] * (state - low[1] * noise) / low[0] + high[1] * noise
        torch.testing.assert_close(found.predicted[:, move], noise)
        torch.testing.assert_close(found.states[:, move + 1], state)
        start = label
    labels = [levels for levels, _ in model.asked[:2]]
    assert labels == [[500] * 3, [900] * 3], "the label is that of the level gone to"
    assert torch.equal(model.asked[0][1], clean), "the state is that of the level left"


def test_renoise_moves_with_the_mean_of_two_predictions():
    model, clean = Gaussian(), latents(3)
    first = invert(model, clean, spread(SPREADS), None, [600])
    level = torch.full((3,), 600)
    again = model.predict(first.last, level, spread(SPREADS))
    found = invert(model, clean, spread(SPREADS), None, [600], renoise=True)
    torch.testing.assert_close(found.predicted, 0.5 * (first.predicted + again[:, None]))
    assert not torch.allclose(found.last, first.last)


def test_a_grid_from_zero_begins_by_standing_still():
    found = invert(Gaussian(), latents(3), spread(SPREADS), None, GRID)
    torch.testing.assert_close(found.states[:, 1], found.states[:, 0])
    assert found.predicted[:, 0].abs().max() > 0


@pytest.mark.parametrize("kind", ["eps", "velocity"])
def test_a_real_network_goes_the_way_of_the_inverse_scheduler(kind, request):
    """Parity with DDIMInverseScheduler, which is told the noise.

    Told the velocity, it would read it at the lower level, though it was said under the label of
    the higher one.
    """
    model = load(request.getfixturevalue(kind))
    clean = torch.randn((2, *model.latent_shape(64, 64)), generator=generator())
    condition, empty = model.embed(["a red ball", "a blue box on green"]), model.embed([""])
    grid = inversion_grid(1000, 5, offset=1)
    found = invert(model, clean, condition, empty, grid, guidance=2.0)
    scheduler = DDIMInverseScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(5)
    assert tuple(scheduler.timesteps.tolist()) == grid
    state = clean
    for move, label in enumerate(grid):
        level = torch.full((2,), label)
        given, without = (model.predict(state, level, c) for c in (condition, empty.rows([0, 0])))
        said = without + 2 * (given - without)
        noise = model.path.to_clean_and_noise(said, state, level)[1].detach()
        state = scheduler.step(noise, label, state, return_dict=False)[0]
        torch.testing.assert_close(found.states[:, move + 1], state, rtol=1e-3, atol=1e-3)
    assert not found.states.requires_grad


@pytest.mark.parametrize("renoise", [False, True])
def test_rows_stop_after_their_own_number_of_moves(renoise):
    """And are as they would be alone; the network is not asked about them any more."""
    model, clean, upto = Gaussian(), latents(3), torch.tensor([0, 4, 7])
    found = invert(model, clean, spread(SPREADS), None, GRID, upto=upto, renoise=renoise)
    rows_asked = sum(len(levels) for levels, _ in model.asked)
    assert rows_asked == (0 + 4 + 7) * (1 + renoise)
    whole = invert(model, clean, spread(SPREADS), None, GRID, renoise=renoise)
    for row, moves in enumerate(upto.tolist()):
        torch.testing.assert_close(found.states[row, : moves + 1], whole.states[row, : moves + 1])
        torch.testing.assert_close(found.predicted[row, :moves], whole.predicted[row, :moves])
        assert torch.equal(found.last[row], found.states[row, moves])
        assert not found.predicted[row, moves:].any()


def test_each_row_has_its_own_condition_and_empty_prompt_after_others_have_stopped():
    model, clean, upto = Gaussian(), latents(3), torch.tensor([1, 5, 3])
    condition, empty = spread(SPREADS), spread([0.7, 0.8, 0.9])
    found = invert(model, clean, condition, empty, GRID, guidance=3.0, upto=upto)
    for row in range(3):
        alone = invert(
            model,
            clean[[row]],
            condition.rows([row]),
            empty.rows([row]),
            GRID[: int(upto[row])],
            guidance=3.0,
        )
        torch.testing.assert_close(found.last[[row]], alone.last)


def test_added_noise_is_a_share_of_the_width_of_the_step_down_onto_the_level():
    """With the prediction held fixed, at 1, 101, …, 901; above the last stands level 999."""
    model, clean = Gaussian(), latents(3)
    grid = inversion_grid(1000, 10, offset=1)
    draws = [latents(3, seed) for seed in range(50, 60)]
    found = invert(model, clean, spread(SPREADS), None, grid, noise=draws.__getitem__)
    kept = model.path.alpha.square()
    for move, (level, above) in enumerate(zip(grid, [*grid[1:], 999], strict=True)):
        start = torch.full((3,), 0 if move == 0 else grid[move - 1])
        state, noise = found.states[:, move], found.predicted[:, move]
        picture, _ = model.path.to_clean_and_noise(noise, state, start, "epsilon")
        plain = model.path.noisy(picture, noise, torch.full((3,), level))
        variance = (1 - kept[level]) / (1 - kept[above]) * (1 - kept[above] / kept[level])
        expected = NOISE_SHARE * variance.sqrt() * draws[move]
        torch.testing.assert_close(
            found.states[:, move + 1] - plain, expected, rtol=1e-6, atol=1e-9
        )


def test_added_noise_stays_with_its_row_after_others_have_stopped():
    model, clean, upto = Gaussian(), latents(3), torch.tensor([1, 5, 3])
    draws = [latents(3, seed) for seed in range(50, 60)]
    noise = draws.__getitem__
    found = invert(model, clean, spread(SPREADS), None, GRID, noise=noise, upto=upto)
    whole = invert(model, clean, spread(SPREADS), None, GRID, noise=noise)
    for row, moves in enumerate(upto.tolist()):
        torch.testing.assert_close(found.last[row], whole.states[row, moves])


def test_it_speaks_with_the_present_voice(eps, still):
    model = load(eps, adapter=Adapter(alpha=60), train=True)
    train_a_little(model)
    clean = torch.randn((1, *still.latent_shape(64, 64)), generator=generator())
    words, empty = still.embed(["a red ball"]), still.embed([""])
    before = invert(still, clean, words, empty, [300, 700], guidance=2.0).states
    with model.as_reference():
        reference = invert(model, clean, words, empty, [300, 700], guidance=2.0).states
    policy = invert(model, clean, words, empty, [300, 700], guidance=2.0).states
    assert torch.equal(reference, before)
    assert not torch.equal(policy, before)
    assert not policy.requires_grad


def test_half_precision_latents_are_widened_and_the_callers_are_left_alone():
    clean = latents(3, dtype=torch.bfloat16)
    kept = clean.clone()
    found = invert(Gaussian(), clean, spread(SPREADS), None, [300, 700])
    assert found.states.dtype == found.predicted.dtype == torch.float32
    wide = latents(3)
    before = wide.clone()
    invert(Gaussian(), wide, spread(SPREADS), None, [300, 700])
    assert torch.equal(wide, before)
    assert torch.equal(clean, kept)


@pytest.mark.parametrize("grid", [[], [5, 5], [7, 3], [-1, 4], [0, 1000]])
def test_grids_that_do_not_ascend_within_the_path_are_refused(grid):
    with pytest.raises(SettingError, match="ascending levels of 0 to 999"):
        invert(Gaussian(), latents(3), spread(SPREADS), None, grid)


def test_rows_must_match():
    with pytest.raises(DataError, match="Got 3 latents, 2 conditions"):
        invert(Gaussian(), latents(3), spread([1, 2]), None, GRID)
    with pytest.raises(DataError, match=r"Got moves \[1, 2, 11\]\. Need 0 to 10"):
        invert(Gaussian(), latents(3), spread(SPREADS), None, GRID, upto=torch.tensor([1, 2, 11]))
