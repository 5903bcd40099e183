"""Adaptive-IPO: the printed numbers, and the two signs of its margin."""

import pytest
import torch

from objectives.examples import annotated
from palate.core.problems import SettingError
from palate.objectives import AdaptiveIPO


def test_the_golden_vector_as_printed():
    """A target of 1/(2 · 100) = 0.005; with and without margin, to all printed digits."""
    with_margin = AdaptiveIPO(sharpness=7.5)(annotated()).loss.mean()
    without = AdaptiveIPO(sharpness=7.5, margin="none")(annotated()).loss.mean()
    assert float(with_margin) == pytest.approx(9.573618e-6, abs=5e-13)
    assert float(without) == pytest.approx(9.574022e-6, abs=5e-13)


def test_the_two_signs_move_the_target_by_twice_the_margin():
    """√(ℓ/W) is the distance to the target: 2Γ/β apart, Γ here the mean margin 0.000175."""
    quiet = annotated(step=0)
    code, consistent = (
        AdaptiveIPO(margin_sign=sign)(quiet).loss for sign in ("code", "consistent")
    )
    apart = (consistent.sqrt() - code.sqrt()).tolist()
    assert apart == pytest.approx([2 * 0.000175 / 1000] * 4, rel=1e-6)


def test_a_loss_at_its_target_is_zero_and_has_no_gradient():
    pairs = annotated(step=0)
    aimed = AdaptiveIPO(margin="none", beta=1 / (2 * 0.0015))
    loss = aimed(pairs).loss
    assert float(loss[0]) == pytest.approx(0.0, abs=1e-20)
    assert (loss[1:] > 1e-8).all()


def test_it_starts_at_the_square_of_its_target():
    assert AdaptiveIPO().at_init() == pytest.approx(0.005**2)
    assert AdaptiveIPO(weight="exponential").at_init() == pytest.approx(0.005**2 / 2)
    assert AdaptiveIPO(weight="exponential", balanced=True).at_init() == pytest.approx(0.005**2)


def test_the_metric_and_the_weight_are_those_of_adaptive_dpo():
    extras = AdaptiveIPO(sharpness=7.5)(annotated()).extras
    torch.testing.assert_close(extras["weight"], 1 / (10 * extras["minority"] + 1))
    assert AdaptiveIPO.needs.kept == ("minority",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": -1.0}, r"Need beta > 0\. The released code uses 100"),
        ({"logit_beta": 0.0}, r"Need logit_beta > 0\. Use 2000"),
    ],
)
def test_settings_that_cannot_be_used_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        AdaptiveIPO(**settings)
