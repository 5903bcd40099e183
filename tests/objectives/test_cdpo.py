"""Conservative DPO: a label smoothed towards a coin."""

import math

import pytest
import torch

from objectives.golden_pairs import LOGITS, golden, slopes
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import CDPO, DPO


def test_the_golden_vector_as_printed():
    assert round(float(CDPO(beta=2000.0, epsilon=0.1)(golden()).loss.mean()), 6) == 0.780013


def test_the_golden_vector_to_ten_digits():
    """0.9 · log(1 + e⁻ᵐ) + 0.1 · log(1 + eᵐ)."""
    expected = [0.9 * math.log1p(math.exp(-m)) + 0.1 * math.log1p(math.exp(m)) for m in LOGITS]
    found = CDPO(beta=2000.0, epsilon=0.1)(golden()).loss.tolist()
    assert found == pytest.approx(expected, abs=1e-10)


def test_the_slope_is_the_probability_minus_the_smoothed_label():
    expected = [1 / (1 + math.exp(-m)) - 0.9 for m in LOGITS]
    found = slopes(CDPO(beta=2000.0, epsilon=0.1), golden(), 1000.0)
    assert found == pytest.approx(expected, abs=1e-10)


def test_it_wants_a_finite_margin():
    """Its lowest loss is at the logit log((1 − ε)/ε): log 9 at 0.1."""
    best = math.log(9) / 1000
    losses = [
        float(CDPO()(Contrast.from_errors([0.1 - m], [0.1], [0.1], [0.1])).loss)
        for m in (best - 1e-4, best, best + 1e-4)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_without_wrong_labels_it_is_dpo():
    pairs = golden(0.7)
    assert torch.equal(CDPO(epsilon=0.0)(pairs).loss, DPO()(pairs).loss)


def test_a_soft_label_is_smoothed_too():
    """0.8 becomes 0.8 · 0.9 + 0.2 · 0.1 = 0.74, the label DPO would be given."""
    torch.testing.assert_close(CDPO()(golden(0.8)).loss, DPO()(golden(0.74)).loss)


@pytest.mark.parametrize("epsilon", [-0.1, 0.5, math.nan])
def test_a_bad_epsilon_says_what_to_do(epsilon):
    with pytest.raises(SettingError, match=r"Need 0 <= epsilon < 0\.5\. Use the share of wrong"):
        CDPO(epsilon=epsilon)


def test_a_bad_beta_says_what_to_do():
    with pytest.raises(SettingError, match=r"Got beta=0\.0\. Need beta > 0\. Use 2000"):
        CDPO(beta=0.0)
