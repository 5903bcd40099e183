"""Diffusion-IPO: a margin to aim at, on raw errors."""

import pytest

from objectives.golden_pairs import MARGINS, golden, slopes
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import IPO


def test_the_golden_vector_to_ten_digits():
    """Target 1 / 200 = 0.005: squares of −.0035, −.0065, −.0045 and −.005."""
    found = IPO(beta=100.0)(golden()).loss.tolist()
    assert found == pytest.approx([1.225e-5, 4.225e-5, 2.025e-5, 2.5e-5], abs=1e-15)
    assert sum(found) / 4 == pytest.approx(2.49375e-5, abs=1e-15)


def test_the_slope_is_twice_the_distance_and_turns_round_at_the_target():
    found = slopes(IPO(beta=100.0), golden(), 1.0)
    assert found == pytest.approx([2 * (m - 0.005) for m in MARGINS], abs=1e-12)
    past = Contrast.from_errors([0.090], [0.100], [0.1], [0.1])
    assert slopes(IPO(beta=100.0), past, 1.0)[0] == pytest.approx(2 * 0.005, abs=1e-12)


def test_a_soft_label_asks_for_less_and_a_tie_for_nothing():
    """Agreement 0.8 asks for 0.6 of the margin; one half for a margin of zero."""
    assert IPO()(golden(0.8)).extras["target"].tolist() == pytest.approx([0.003] * 4, abs=1e-15)
    found = IPO()(golden(0.5)).loss.tolist()
    assert found == pytest.approx([m * m for m in MARGINS], abs=1e-15)


def test_it_starts_at_the_square_of_the_target():
    """1 / (4 β²) = 2.5e-5 for a hard label; what it is for another depends on the label."""
    still = Contrast.from_errors([0.1], [0.1], [0.2], [0.2])
    assert float(IPO()(still).loss) == pytest.approx(2.5e-5, abs=1e-18)
    assert IPO().at_init() is None


def test_its_beta_is_not_that_of_dpo():
    with pytest.raises(SettingError, match=r"Got beta=-1\. Need beta > 0\. Use 100 for a target"):
        IPO(beta=-1)
