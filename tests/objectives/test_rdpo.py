"""Robust DPO: what random flips added, taken out again."""

import math

import pytest
import torch

from objectives.golden_pairs import LOGITS, golden, slopes, tensor
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DPO, RDPO


def test_the_golden_vector_as_printed():
    assert round(float(RDPO(beta=2000.0, epsilon=0.1)(golden()).loss.mean()), 6) == 0.751888


def test_the_golden_vector_to_ten_digits():
    """(0.9 · log(1 + e⁻ᵐ) − 0.1 · log(1 + eᵐ)) / 0.8."""
    expected = [
        (0.9 * math.log1p(math.exp(-m)) - 0.1 * math.log1p(math.exp(m))) / 0.8 for m in LOGITS
    ]
    found = RDPO(beta=2000.0, epsilon=0.1)(golden()).loss.tolist()
    assert found == pytest.approx(expected, abs=1e-10)


def test_the_slope_is_the_probability_minus_a_label_beyond_certainty():
    """σ(m) − 1.125: the pair is pushed however large its logit is."""
    expected = [1 / (1 + math.exp(-m)) - 1.125 for m in LOGITS]
    found = slopes(RDPO(beta=2000.0, epsilon=0.1), golden(), 1000.0)
    assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 0.45])
def test_over_random_flips_it_is_the_loss_of_the_clean_labels(epsilon):
    """(1 − ε) · loss of the kept label + ε · loss of the flipped one = DPO's, pair by pair."""
    objective = RDPO(epsilon=epsilon)
    kept, flipped = objective(golden(1.0)).loss, objective(golden(0.0)).loss
    mean = (1 - epsilon) * kept + epsilon * flipped
    torch.testing.assert_close(mean, DPO()(golden(1.0)).loss, rtol=1e-12, atol=1e-12)


def test_a_soft_label_averages_both_outcomes():
    kept, flipped = RDPO()(golden(1.0)).loss, RDPO()(golden(0.0)).loss
    torch.testing.assert_close(RDPO()(golden(0.7)).loss, 0.7 * kept + 0.3 * flipped)


def test_it_has_no_lower_bound():
    """At ε = 0.1 the loss falls by 1/8 for every further unit of the logit."""
    pairs = Contrast.from_errors([0.0, 0.0], [0.1, 0.2], [0.1, 0.1], [0.1, 0.1])
    near, far = RDPO(beta=2000.0, epsilon=0.1)(pairs).loss.tolist()
    assert near == pytest.approx(-100 / 8, abs=1e-9)
    assert far == pytest.approx(-200 / 8, abs=1e-9)


def test_without_flips_it_is_dpo():
    assert torch.equal(RDPO(epsilon=0.0)(golden(0.7)).loss, DPO()(golden(0.7)).loss)


def test_it_says_its_logit():
    torch.testing.assert_close(RDPO()(golden()).extras["logit"], tensor(*LOGITS))


@pytest.mark.parametrize("epsilon", [-0.01, 0.5, 0.7])
def test_a_flip_rate_of_one_half_is_refused(epsilon):
    with pytest.raises(SettingError, match=r"epsilon < 0\.5\. Give the share of flipped labels"):
        RDPO(epsilon=epsilon)
