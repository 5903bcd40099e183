"""Paths: what is noisy, what should have been predicted, and the way between four predictions."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palate.core.path import PREDICTIONS, Path
from palate.core.problems import SettingError


def stable_diffusion() -> Path:
    """Stable Diffusion's scaled-linear schedule, written out."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return Path.from_alphas_cumprod((1 - beta).cumprod(0), "epsilon")


PATHS = {"variance preserving": stable_diffusion(), "rectified": Path.rectified(1000)}
# Where α or σ vanishes a prediction does not determine the rest; the last level of the straight
# path is pure noise.
LEVELS = torch.tensor([1, 10, 250, 500, 750, 990])


def picture(name: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(name)
    return torch.randn(len(LEVELS), 4, 5, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(("source", "to"), list(itertools.product(PREDICTIONS, repeat=2)))
def test_there_and_back(path, source, to):
    """Not only perfect predictions: any network output survives the way there and back."""
    guess, noisy = picture(1), picture(2)
    there = path.convert(guess, noisy, LEVELS, source=source, to=to)
    back = path.convert(there, noisy, LEVELS, source=to, to=source)
    torch.testing.assert_close(back, guess, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(("source", "to"), list(itertools.product(PREDICTIONS, repeat=2)))
def test_a_perfect_prediction_stays_perfect(path, source, to):
    clean, noise = picture(1), picture(2)
    noisy = path.noisy(clean, noise, LEVELS)
    found = path.convert(
        path.target(clean, noise, LEVELS, source), noisy, LEVELS, source=source, to=to
    )
    torch.testing.assert_close(found, path.target(clean, noise, LEVELS, to), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_a_perfect_prediction_gives_picture_and_noise_back(path, kind):
    clean, noise = picture(3), picture(4)
    noisy = path.noisy(clean, noise, LEVELS)
    target = path.target(clean, noise, LEVELS, kind)
    found_clean, found_noise = path.to_clean_and_noise(target, noisy, LEVELS, kind)
    torch.testing.assert_close(found_clean, clean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found_noise, noise, rtol=1e-8, atol=1e-8)


def test_velocity_by_hand():
    """α = 0.8, σ = 0.6, picture 2, noise 1: x = 2.2, v = 0.8·1 − 0.6·2 = −0.4, flow = −1."""
    path = Path(
        alpha=torch.tensor([0.8], dtype=torch.float64),
        sigma=torch.tensor([0.6], dtype=torch.float64),
    )
    two, one = torch.full((1, 1), 2.0).double(), torch.ones(1, 1).double()
    level = torch.zeros(1, dtype=torch.long)
    assert float(path.noisy(two, one, level)) == pytest.approx(2.2)
    assert float(path.target(two, one, level, "v_prediction")) == pytest.approx(-0.4)
    assert float(path.target(two, one, level, "flow")) == pytest.approx(-1.0)
    assert float(path.target(two, one, level)) == 1.0


def test_the_table_of_stable_diffusion_is_what_diffusers_computes():
    """ᾱ at the ends of the schedule, as printed everywhere: 0.9991 and 0.0047."""
    path = PATHS["variance preserving"]
    assert round(float(path.alpha[0] ** 2), 4) == 0.9991
    assert round(float(path.alpha[-1] ** 2), 4) == 0.0047
    torch.testing.assert_close(path.alpha**2 + path.sigma**2, torch.ones(1000).double())


def test_the_straight_path_ends_in_pure_noise():
    path = Path.rectified(4)
    assert path.alpha.tolist() == [0.75, 0.5, 0.25, 0.0]
    assert path.sigma.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert path.levels == 4


def test_each_row_has_its_own_level():
    """Also where the batch is as long as the picture is wide, the classic broadcast trap."""
    path = Path.rectified(1000)
    clean, noise = torch.ones(3, 1, 3, 3).double(), torch.zeros(3, 1, 3, 3).double()
    found = path.noisy(clean, noise, torch.tensor([99, 499, 899]))
    for row, alpha in enumerate([0.9, 0.5, 0.1]):
        torch.testing.assert_close(found[row], torch.full((1, 3, 3), alpha).double())


@given(
    level=st.integers(0, 998),
    path=st.sampled_from(sorted(PATHS)),
    kinds=st.tuples(st.sampled_from(PREDICTIONS), st.sampled_from(PREDICTIONS)),
    values=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
)
def test_perfect_predictions_agree_at_any_level(level, path, kinds, values):
    clean, noise = (torch.full((1, 1), value, dtype=torch.float64) for value in values)
    table, index = PATHS[path], torch.tensor([level])
    noisy = table.noisy(clean, noise, index)
    found = table.convert(
        table.target(clean, noise, index, kinds[0]), noisy, index, source=kinds[0], to=kinds[1]
    )
    expected = table.target(clean, noise, index, kinds[1])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_half_precision_pictures_stay_in_half_precision():
    path = PATHS["variance preserving"]
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    assert path.noisy(half, half, torch.tensor([5, 500])).dtype == torch.bfloat16


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_mistyped_prediction_names_the_nearest():
    with pytest.raises(SettingError, match="Did you mean v_prediction"):
        Path(alpha=torch.ones(2), sigma=torch.ones(2), prediction="v_predicton")  # pyright: ignore


@pytest.mark.usefixtures("shapes_unchecked")
def test_tables_of_different_lengths_are_refused():
    with pytest.raises(SettingError, match="two lists of the same length"):
        Path(alpha=torch.ones(2), sigma=torch.ones(3))
