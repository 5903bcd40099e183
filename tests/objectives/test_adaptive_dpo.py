"""Adaptive-DPO: the printed numbers, the metric's blind spot, and what carries no gradient."""

import math

import pytest
import torch

from objectives.examples import FAST, POLICY, SLOW, annotated
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DPO, AdaptiveDPO

GOLDEN = AdaptiveDPO(sharpness=7.5)


def test_the_golden_vector_as_printed():
    """Metric, weights, margins and the mean loss, to all printed digits."""
    verdict = GOLDEN(annotated())
    minority, weight = verdict.extras["minority"], verdict.extras["weight"]
    assert f"{float(minority[0]):.4g}" == "1.926e-05"
    assert minority[1:].tolist() == pytest.approx([0.999342, 0.0132690, 0.432415], abs=6e-7)
    assert weight.tolist() == pytest.approx([0.999807, 0.0909635, 0.882854, 0.187823], abs=6e-7)
    margins = GOLDEN.bonus(annotated(), minority, 2000.0).tolist()
    assert margins == pytest.approx([1.75e-4, -8.2369e-4, 1.7482e-4, -1.1983e-5], abs=6e-9)
    assert round(float(verdict.loss.mean()), 7) == 0.2217635
    without = AdaptiveDPO(sharpness=7.5, margin="none")(annotated())
    assert round(float(without.loss.mean()), 7) == 0.2217565
    assert round(float(DPO()(annotated()).loss.mean()), 7) == 0.7437606


def test_one_pair_by_hand():
    """Alone, a pair's scaled margins are ±ρ: here +2, +2 and −2, so that u needs no root.

    σ(2) = 0.880797, σ(−2) = 0.119203: doubt 1 − (2 · 0.880797 + 0.119203)/3 = 0.373068. The
    spread of (2, 2, −2) is √(16/3) = 2.309, held at 1. So u = 0.373068 and W = 1/4.73068.
    """
    pairs = Contrast.from_errors([0.098], [0.1], [0.1], [0.1], averages=([0.001], [-0.004]), step=9)
    verdict = AdaptiveDPO(sharpness=2.0, margin="none")(pairs)
    high, low = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    minority = 1 - (2 * high + low) / 3
    assert float(verdict.extras["minority"]) == pytest.approx(minority, abs=1e-12)
    expected = math.log1p(math.exp(-2)) / (10 * minority + 1)  # 1000 · 0.002 = 2
    assert float(verdict.loss) == pytest.approx(expected, abs=1e-10)


def test_three_annotators_that_agree_find_no_minority_however_wrong_the_label():
    """The blind spot: std is 0, so u is 0 and the wrong pair has full weight."""
    verdict = GOLDEN(annotated(averages=(POLICY, POLICY)))
    assert verdict.extras["minority"].abs().max() < 1e-12
    assert verdict.extras["weight"].tolist() == pytest.approx([1.0] * 4, abs=1e-11)


def test_nothing_is_suspect_while_warming_up():
    for step, quiet in ((0, True), (1, True), (2, False)):
        assert bool((GOLDEN(annotated(step=step)).extras["minority"] == 0).all()) is quiet


def test_a_formula_tried_on_numbers_is_past_the_warm_up():
    """Without a step nobody would see the method; asked for, the first one is still quiet."""
    sides = ([0.098], [0.1], [0.1], [0.1])
    averages = ([0.001], [-0.004])
    found = [
        AdaptiveDPO()(Contrast.from_errors(*sides, averages=averages, **step)).extras["minority"]
        for step in ({}, {"step": 1})
    ]
    assert float(found[0]) > 0.1
    assert float(found[1]) == 0


def test_margins_that_are_all_zero_are_no_division_by_zero():
    """A policy that has not moved, warmed up or not: 0/0 in the released code."""
    zero = [0.0] * 4
    pairs = Contrast.from_errors(
        [0.1] * 4, [0.1] * 4, [0.1] * 4, [0.1] * 4, averages=(zero, zero), step=9
    )
    assert AdaptiveDPO()(pairs).loss.tolist() == [math.log(2)] * 4


def test_the_size_of_the_micro_batch_changes_nothing():
    """Two parts of a step that know the means of the whole get the losses of the whole."""
    answers: list[torch.Tensor] = []

    def remember(values: torch.Tensor) -> torch.Tensor:
        answers.append(values.mean())
        return answers[-1]

    whole = GOLDEN(annotated(mean=remember)).loss
    for part in (slice(0, 1), slice(1, 4)):
        replay = iter(answers)
        size = len(POLICY[part])
        pairs = Contrast.from_errors(
            [0.1 - margin for margin in POLICY[part]],
            *([0.1] * size for _ in range(3)),
            averages=(SLOW[part], FAST[part]),
            step=2,
            mean=lambda _, replay=replay: next(replay),
        )
        torch.testing.assert_close(GOLDEN(pairs).loss, whole[part], rtol=1e-12, atol=0)


def test_only_the_logit_carries_a_gradient():
    """dℓ/d(error of the chosen image) = W · (β/2) · σ(Γ − logit), W and Γ held fixed."""
    policy = torch.tensor([0.1 - m for m in POLICY], dtype=torch.float64, requires_grad=True)
    same = torch.full_like(policy, 0.1, requires_grad=False)
    pairs = Contrast.from_errors(policy, same, same, same, averages=(SLOW, FAST), step=2)
    verdict = GOLDEN(pairs)
    verdict.loss.sum().backward()
    assert policy.grad is not None
    raised = verdict.extras["logit"] - GOLDEN.bonus(pairs, verdict.extras["minority"], 2000.0)
    expected = verdict.extras["weight"] * 1000 * torch.sigmoid(-raised)
    torch.testing.assert_close(policy.grad, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", 1 / (10 * 0.25 + 1)),
        ("quadratic", 1 / (10 * 0.0625 + 1)),
        ("exponential", 1 / (math.exp(2.5) + 1)),
        ("square-root", 1 / (math.exp(5) + 1)),
    ],
)
def test_the_four_weights_at_a_quarter(shape, expected):
    minority = torch.tensor([0.25], dtype=torch.float64)
    found = AdaptiveDPO(weight=shape).weights(annotated(), minority)
    assert float(found) == pytest.approx(expected, abs=1e-15)


def test_the_loss_at_the_start_follows_the_weight():
    """1/(e⁰ + 1) = ½: every pair starts at half a coin; balanced weights are 1 on average."""
    assert AdaptiveDPO(weight="exponential").at_init() == pytest.approx(math.log(2) / 2)
    assert AdaptiveDPO(weight="exponential", balanced=True).at_init() == math.log(2)
    zero = annotated(averages=(POLICY, POLICY), step=0)
    assert AdaptiveDPO(weight="exponential").weights(zero, torch.zeros(4)).tolist() == [0.5] * 4


def test_balanced_weights_have_mean_one():
    found = AdaptiveDPO(sharpness=7.5, balanced=True)(annotated()).extras["weight"]
    assert float(found.mean()) == pytest.approx(1.0, abs=1e-12)


def test_margins_in_logit_units_by_hand():
    """Γ = mean(β/2 · h) − u: the mean margin is 0.000175, so 0.175 − 0.5 = −0.325."""
    half = torch.full((4,), 0.5, dtype=torch.float64)
    linear = AdaptiveDPO(margin="linear", margin_units="logit")
    assert linear.bonus(annotated(), half, 2000.0).tolist() == pytest.approx(
        [-0.325] * 4, abs=1e-12
    )
    square = AdaptiveDPO(margin_units="logit", margin_scale=2.0)
    assert square.bonus(annotated(), half, 2000.0).tolist() == pytest.approx(
        [-0.325] * 4, abs=1e-12
    )


def test_without_normalising_the_margins_are_scaled_as_they_are():
    """ρ = 1e4 on margins of 1e-4 and twice 0: logits 1, 0, 0 with spread 1/√3."""
    pairs = Contrast.from_errors([0.0999], [0.1], [0.1], [0.1], averages=([0.0], [0.0]), step=5)
    found = AdaptiveDPO(normalise=False, sharpness=1e4)(pairs).extras["minority"]
    expected = (1 - (1 / (1 + math.exp(-1)) + 1) / 3) / math.sqrt(3)
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_margins_of_averages_must_be_there():
    with pytest.raises(SettingError, match=r"Got 1 averaged margins\. Need two"):
        AdaptiveDPO()(annotated(averages=(SLOW,)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, r"Got beta=0\.0\. Need beta > 0\. Use 2000"),
        ({"slow": 1.0}, r"Got slow=1\.0\. Need 0 <= slow < 1\. The released code uses 0\.9999"),
        ({"fast": -0.1}, r"Got fast=-0\.1\. Need 0 <= fast < 1"),
        ({"sharpness": math.nan}, "Use 3.75"),
        ({"warm_up": -1}, "Got warm_up=-1"),
        ({"margin_scale": -1.0}, "Leave it out, or use 1"),
    ],
)
def test_settings_that_cannot_be_used_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        AdaptiveDPO(**settings)
