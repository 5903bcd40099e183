"""CaPO: a margin regressed on a gap in calibrated rewards, weighted by the noise level."""

import math

import pytest
import torch

from objectives.golden_pairs import LOGITS, golden, slopes, tensor
from palate.core.problems import SettingError
from palate.objectives import CaPO


def level(alpha: list[float]) -> dict[str, torch.Tensor]:
    """Alpha and sigma of a variance-preserving path."""
    kept = tensor(*alpha)
    return {"alpha": kept, "sigma": (1 - kept.square()).sqrt()}


def test_the_golden_vector_with_gaps_and_levels_by_hand():
    """α = .8, σ = .6: SNR 16/9, so w = 1 / (1 + 16/9) = .36; α = .6, σ = .8: w = .64."""
    gaps = [0.5, 0.25, -0.5, 1.0]
    pairs = golden(facts={"reward_gap": gaps}, **level([0.8, 0.8, 0.6, 0.6]))
    verdict = CaPO(beta=2000.0)(pairs)
    weights = [0.36, 0.36, 0.64, 0.64]
    worth = [w * m for w, m in zip(weights, LOGITS, strict=True)]
    expected = [(gap - value) ** 2 for gap, value in zip(gaps, worth, strict=True)]
    assert verdict.loss.tolist() == pytest.approx(expected, abs=1e-10)
    assert verdict.extras["worth"].tolist() == pytest.approx(worth, abs=1e-10)


def test_the_bias_moves_the_level_that_counts_half():
    """At b = log(16/9) the weight at α = .8 is one half."""
    pairs = golden(facts={"reward_gap": [0.0] * 4}, **level([0.8] * 4))
    worth = CaPO(beta=2000.0, bias=math.log(16 / 9))(pairs).extras["worth"]
    assert worth.tolist() == pytest.approx([0.5 * m for m in LOGITS], abs=1e-10)


def test_without_scorers_the_label_is_the_gap_and_it_is_ipo():
    """A hard label is a gap of 1, a tie of 0; without a level the weight is 1."""
    assert CaPO()(golden()).loss.tolist() == pytest.approx([(1 - m) ** 2 for m in LOGITS])
    assert CaPO()(golden(0.5)).loss.tolist() == pytest.approx([m**2 for m in LOGITS])
    assert slopes(CaPO(), golden(), 1000.0) == pytest.approx([2 * (m - 1) for m in LOGITS])


def test_its_start_is_the_square_of_the_gap():
    assert CaPO().at_init() is None
    assert CaPO()(golden(facts={"reward_gap": [0.3] * 4})).loss[3].item() == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": -1.0}, r"Need beta > 0\. Use 2000"),
        ({"bias": math.nan}, r"Need a bias between -100 and 100\. Use 0"),
    ],
)
def test_bad_settings_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        CaPO(**settings)
