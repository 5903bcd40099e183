"""How levels are drawn on a straight path with a shift."""

import torch

from palate.core.path import Path
from palate.core.streams import Streams
from palate.train.groups import NoiseSettings
from palate.train.noise import Fresh
from train.micro import batch


def shifted(shift: float) -> Path:
    """The straight path of a scheduler with this shift."""
    time = torch.arange(1, 1001, dtype=torch.float64) / 1000
    sigma = shift * time / (1 + (shift - 1) * time)
    return Path(alpha=1 - sigma, sigma=sigma, prediction="flow")


def drawn(path: Path, **settings) -> torch.Tensor:
    """The levels of four hundred visits."""
    told = NoiseSettings(levels="logit-normal", **settings)
    return Fresh(streams=Streams(1), path=path, settings=told)(batch(400)).level


def test_the_shift_moves_the_noise_and_not_which_levels_are_drawn():
    """Half of them lie below the middle of the table; with shift 3 that is 75 % noise, not 50."""
    plain, moved = drawn(shifted(1.0)), drawn(shifted(3.0))
    assert torch.equal(plain, moved)
    assert 460 < moved.double().median() < 540
    assert 0.72 < shifted(3.0).sigma[moved].median() < 0.78


def test_without_a_shift_the_levels_are_those_of_the_share_of_noise():
    """Sigmoid of a standard normal: 15.9 % below 1 / (1 + e) = 0.269."""
    found = drawn(shifted(1.0))
    assert 0.10 < (found < 269).double().mean() < 0.22
    diffusion = Path(alpha=shifted(1.0).alpha, sigma=shifted(1.0).sigma, prediction="v_prediction")
    assert torch.equal(found, drawn(diffusion))


def test_the_part_of_the_noise_that_is_asked_for_is_kept_to():
    found = drawn(shifted(3.0), lowest=0.2, highest=0.6)
    assert 200 <= found.min() <= found.max() < 600
