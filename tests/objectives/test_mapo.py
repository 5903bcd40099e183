"""MaPO: no reference, a squashed margin, and no 0/0 at a perfect prediction."""

import math
from decimal import Decimal, localcontext

import pytest
import torch

from objectives.golden_pairs import tensor
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import MaPO
from palate.objectives.mapo import squashed


def alone(chosen: list[float], rejected: list[float], agreement: float = 1.0) -> Contrast:
    """Pairs without a reference."""
    return Contrast.from_errors(chosen, None, rejected, None, agreement)


def test_one_pair_by_hand():
    """Errors .100 and .104: f(.05) − f(.052) = .000983, times 1000, a tenth of its softplus."""
    f = [0.05 / (math.exp(0.05) - 1), 0.052 / (math.exp(0.052) - 1)]
    odds = 1000 * (f[0] - f[1])
    assert odds == pytest.approx(0.9830, abs=1e-4)
    verdict = MaPO()(alone([0.100], [0.104]))
    assert verdict.extras["logit"].item() == pytest.approx(odds, abs=1e-10)
    assert verdict.loss.item() == pytest.approx(0.1 + 0.1 * math.log1p(math.exp(-odds)), abs=1e-10)


def test_a_worse_rejected_image_pays_and_a_better_one_costs():
    losses = MaPO()(alone([0.1, 0.1, 0.1], [0.09, 0.1, 0.11])).loss
    assert losses[0] > losses[1] > losses[2]
    assert losses[1].item() == pytest.approx(0.1 + 0.1 * math.log(2), abs=1e-12)


def test_a_soft_label_averages_both_outcomes():
    win = MaPO()(alone([0.1], [0.12])).loss
    lose = MaPO()(alone([0.12], [0.1])).loss
    torch.testing.assert_close(MaPO()(alone([0.1], [0.12], 0.7)).loss, 0.7 * win + 0.3 * lose)


def test_the_squash_is_one_at_zero_and_smooth_where_the_series_ends():
    """f(0) = 1, f′(0) = −½; on both sides of 1e-4 it agrees with 40-digit arithmetic."""
    values = [1e-9, 9.99e-5, 1.001e-4, 0.3, 5.0]
    with localcontext() as context:
        context.prec = 40
        exact = [float(Decimal(v) / (Decimal(v).exp() - 1)) for v in values]
    assert squashed(tensor(*values)).tolist() == pytest.approx(exact, rel=1e-12)
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    found = squashed(zero)
    found.backward()
    assert found.item() == 1.0
    assert zero.grad is not None
    assert zero.grad.item() == -0.5


def test_a_huge_error_neither_overflows_nor_loses_its_gradient_to_nan():
    pair = Contrast.from_errors(
        torch.tensor([5000.0], dtype=torch.float64, requires_grad=True), None, [0.0], None
    )
    loss = MaPO()(pair).loss
    loss.sum().backward()
    assert loss.item() == pytest.approx(5000 + 0.1 * 1000, abs=1e-6)
    assert pair.chosen.error.requires_grad


def test_it_never_looks_at_a_reference():
    with_one = Contrast.from_errors([0.1], [0.5], [0.2], [0.9])
    assert torch.equal(MaPO()(with_one).loss, MaPO()(alone([0.1], [0.2])).loss)


def test_it_needs_the_rejected_image():
    with pytest.raises(SettingError, match="Declare it in the objective's `needs`"):
        MaPO()(Contrast.from_errors([0.1], None, None, None))


@pytest.mark.parametrize("name", ["weight", "squash", "scale"])
def test_bad_settings_say_what_to_do(name):
    with pytest.raises(SettingError, match=rf"Got {name}=0\.0\. Need {name} > 0\. Use "):
        MaPO(**{name: 0.0})
