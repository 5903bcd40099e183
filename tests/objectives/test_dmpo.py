"""DMPO: the reverse divergence, its finite target, and a gradient through both factors."""

import math

import pytest
import torch

from objectives.golden_pairs import LOGITS, golden, slopes
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DMPO

TARGET = math.log(0.99 / 0.01)


def test_the_golden_vector_as_printed():
    loss = DMPO(beta=2000.0, alpha=0.01)(golden()).loss
    assert [round(value, 6) for value in loss.tolist()] == [0.373266, 3.291851, 1.082048, 1.614463]
    assert round(float(loss.mean()), 6) == 1.590407


def test_the_golden_vector_to_ten_digits():
    """A coin against a coin: P log(P / 0.99) + (1 − P) log((1 − P) / 0.01)."""
    chances = [1 / (1 + math.exp(-m)) for m in LOGITS]
    expected = [p * math.log(p / 0.99) + (1 - p) * math.log((1 - p) / 0.01) for p in chances]
    found = DMPO(beta=2000.0, alpha=0.01)(golden()).loss.tolist()
    assert found == pytest.approx(expected, abs=1e-10)


def test_the_slopes_as_printed_and_in_closed_form():
    """σ(m) σ(−m) (m − m*), which needs the gradient of both factors."""
    found = slopes(DMPO(beta=2000.0, alpha=0.01), golden(), 1000.0)
    expected = [-TARGET if m == 0 else m - TARGET for m in LOGITS]
    expected = [
        gap / (1 + math.exp(-m)) / (1 + math.exp(m))
        for gap, m in zip(expected, LOGITS, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-10)
    assert [round(slope, 6) for slope in found] == [-0.461626, -0.909066, -0.962368, -1.148780]


def test_beyond_its_target_a_pair_is_pulled_back():
    """The lowest loss is at m* = log 99 = 4.595, where the two coins agree and the loss is 0."""
    best = TARGET / 1000
    at, past = (
        Contrast.from_errors([0.1 - margin], [0.1], [0.1], [0.1]) for margin in (best, best + 0.001)
    )
    assert DMPO()(at).loss.item() == pytest.approx(0, abs=1e-12)
    assert DMPO()(at).extras["target"].item() == pytest.approx(4.59511985, abs=1e-8)
    assert slopes(DMPO(), at, 1000.0)[0] == pytest.approx(0, abs=1e-10)
    assert slopes(DMPO(), past, 1000.0)[0] > 0


def test_a_pair_that_contradicts_its_label_strongly_is_hardly_pushed():
    """At m = −5 the slope is −0.064, where DPO's is −0.993."""
    pair = Contrast.from_errors([0.105], [0.1], [0.1], [0.1])
    assert round(slopes(DMPO(), pair, 1000.0)[0], 3) == -0.064


def test_a_soft_label_averages_both_outcomes_and_moves_the_target():
    win, lose = DMPO()(golden(1.0)).loss, DMPO()(golden(0.0)).loss
    soft = DMPO()(golden(0.7))
    torch.testing.assert_close(soft.loss, 0.7 * win + 0.3 * lose, rtol=1e-12, atol=1e-12)
    assert soft.extras["target"].tolist() == pytest.approx([0.4 * TARGET] * 4)


def test_it_starts_where_the_notes_say():
    assert round(DMPO().at_init(), 6) == 1.614463
    assert DMPO(alpha=0.25).at_init() == pytest.approx(-math.log(2) - 0.5 * math.log(0.1875))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, math.nan])
def test_a_bad_alpha_says_what_to_do(alpha):
    with pytest.raises(
        SettingError, match=r"Got alpha=\S+\. Need 1e-06 <= alpha < 0\.5\. Use 0\.01"
    ):
        DMPO(alpha=alpha)
