"""Diffusion-KTO: pictures one by one, against what the whole step has got used to."""

import math

import pytest
import torch

from objectives.golden_pairs import golden, slopes
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import KTO

# Gains of the four golden pairs: chosen .001, −.001, .0005, 0; rejected −.0005, .0005, 0, 0.
CHOSEN = [0.001, -0.001, 0.0005, 0.0]
REJECTED = [-0.0005, 0.0005, 0.0, 0.0]


def odds(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_the_golden_vector_is_the_plain_mean_over_pictures():
    """Mean gain (.0005 + 0) / 8 = .0000625; ½ (1 − σ(g − Q)) + ½ (1 − σ(Q − g)), times 1000."""
    usual = (sum(CHOSEN) + sum(REJECTED)) / 8
    assert usual == pytest.approx(0.0000625)
    expected = [
        0.5 * (1 - odds(1000 * (win - usual))) + 0.5 * (1 - odds(1000 * (usual - lose)))
        for win, lose in zip(CHOSEN, REJECTED, strict=True)
    ]
    found = KTO()(golden()).loss
    assert found.tolist() == pytest.approx(expected, abs=1e-10)
    pictures = [1 - odds(1000 * (gain - usual)) for gain in CHOSEN]
    pictures += [1 - odds(1000 * (usual - gain)) for gain in REJECTED]
    assert found.mean().item() == pytest.approx(sum(pictures) / 8, abs=1e-10)


def test_desirable_pictures_weigh_as_often_as_the_code_draws_them():
    """At 0.8: Q = mean of .8 g_w + .2 g_l = .0001, and the losses weigh 4 to 1."""
    usual = sum(0.8 * win + 0.2 * lose for win, lose in zip(CHOSEN, REJECTED, strict=True)) / 4
    assert usual == pytest.approx(0.0001)
    expected = [
        0.8 * (1 - odds(1000 * (win - usual))) + 0.2 * (1 - odds(1000 * (usual - lose)))
        for win, lose in zip(CHOSEN, REJECTED, strict=True)
    ]
    assert KTO(positives=0.8)(golden()).loss.tolist() == pytest.approx(expected, abs=1e-10)


def test_what_is_usual_is_never_below_zero():
    """Gains of −.001 and −.003: Q is 0, not −.002."""
    pair = Contrast.from_errors([0.101], [0.1], [0.103], [0.1])
    expected = 0.5 * (1 - odds(-1.0)) + 0.5 * (1 - odds(3.0))
    assert KTO()(pair).loss.item() == pytest.approx(expected, abs=1e-10)


def test_what_is_usual_is_the_mean_of_the_whole_step_and_of_both_pictures():
    """It asks once, for the weighted gain of each pair, and takes the answer as given."""
    asked = []

    def mean(values: torch.Tensor) -> torch.Tensor:
        asked.append(values.tolist())
        return torch.tensor(0.0005, dtype=torch.float64)

    found = KTO()(golden(mean=mean)).loss
    assert len(asked) == 1
    assert asked[0] == pytest.approx([0.00025, -0.00025, 0.00025, 0.0], abs=1e-15)
    expected = 0.5 * (1 - odds(0.5)) + 0.5 * (1 - odds(1.0))
    assert found[0].item() == pytest.approx(expected, abs=1e-10)


def test_what_is_usual_carries_no_gradient():
    """One pair, g_w = .001, Q = .8 · .001: the slope is that of the chosen picture alone."""
    pair = Contrast.from_errors([0.099], [0.1], [0.1], [0.1])
    usual = 0.8 * 0.001
    expected = -0.8 * odds(1000 * (0.001 - usual)) * odds(-1000 * (0.001 - usual))
    assert slopes(KTO(positives=0.8), pair, 1000.0)[0] == pytest.approx(expected, abs=1e-10)


def test_a_loser_that_won_elsewhere_counts_as_desirable():
    """Both pictures desirable: ½ and ½, and a better rejected picture now pays."""
    pairs = golden(facts={"redeemed": [1.0, 1.0, 0.0, 0.0]})
    usual = (0.5 * (0.001 - 0.0005) + 0.5 * (-0.001 + 0.0005) + 0.8 * 0.0005) / 4
    expected = 0.5 * (1 - odds(1000 * (0.001 - usual))) + 0.5 * (1 - odds(1000 * (-0.0005 - usual)))
    assert KTO(positives=0.8)(pairs).loss[0].item() == pytest.approx(expected, abs=1e-10)


def test_pairs_without_that_fact_have_losers_only():
    nobody = golden(facts={"redeemed": [0.0] * 4})
    assert torch.equal(KTO()(golden()).loss, KTO()(nobody).loss)


def test_the_order_of_the_pairs_does_not_matter():
    """Every picture enters the mean alike."""
    pairs = [([0.100], [0.101], [0.110], [0.1095]), ([0.120], [0.119], [0.090], [0.0905])]
    sides = [[*first, *second] for first, second in zip(*pairs, strict=True)]
    turned = [[*second, *first] for first, second in zip(*pairs, strict=True)]
    plain, other = (KTO()(Contrast.from_errors(*each)).loss for each in (sides, turned))
    assert plain.tolist() == pytest.approx(other.flip(0).tolist(), abs=1e-15)


@pytest.mark.parametrize(
    ("utility", "start"),
    [("kahneman-tversky", 0.5), ("loss-averse", math.log(2)), ("risk-seeking", -math.log(2))],
)
def test_each_utility_starts_where_it_says(utility, start):
    still = Contrast.from_errors([0.1, 0.3], [0.1, 0.3], [0.2, 0.4], [0.2, 0.4])
    objective = KTO(utility=utility)
    assert objective.at_init() == pytest.approx(start, abs=1e-15)
    assert objective(still).loss.tolist() == pytest.approx([start] * 2, abs=1e-15)


def test_loss_aversion_weighs_the_undesirable():
    """λ_U = 2 doubles the rejected picture's part: ½ · ½ + ½ · 2 · ½ = 0.75 at the start."""
    still = Contrast.from_errors([0.1], [0.1], [0.2], [0.2])
    assert KTO(undesirable=2.0)(still).loss.item() == pytest.approx(0.75, abs=1e-15)
    assert KTO(undesirable=2.0).at_init() is None


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, r"Use 2000, which is 1000 without the factor"),
        ({"desirable": 0.0}, r"Need desirable > 0\. Use 1"),
        ({"undesirable": -1.0}, r"Need undesirable > 0\. Use 1"),
        ({"positives": 1.0}, r"positives < 1\. Use 0\.5, which weighs both alike"),
        ({"utility": "loss-avers"}, r"Did you mean loss-averse\?"),
    ],
)
def test_bad_settings_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        KTO(**settings)
