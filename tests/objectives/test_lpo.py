"""LPO: SPO's loss with a nearly hard margin."""

import math

import pytest

from objectives.examples import steps
from palate.core.problems import SettingError
from palate.objectives import LPO


def test_one_pair_by_hand():
    """Log-ratios +0.005 and −0.003: logit 500 · 0.008 = 4."""
    found = float(LPO()(steps([0.005], [-0.003])).loss)
    assert found == pytest.approx(math.log1p(math.exp(-4)), abs=1e-12)


def test_the_logit_reaches_a_hundred_at_most_and_the_loss_stays_finite():
    """500 · log(1.1/0.9) = 100.3."""
    verdict = LPO()(steps([1.0, -1.0], [-1.0, 1.0]))
    assert [round(value, 1) for value in verdict.extras["logit"].tolist()] == [100.3, -100.3]
    assert float(verdict.loss[1]) == pytest.approx(500 * math.log(1.1 / 0.9))


def test_it_skips_no_step_and_wants_more_certainty_where_there_is_more_noise():
    asked = dict(LPO.needs.settings)
    assert asked["rollout.skip_first"] == 0
    assert (asked["rollout.threshold"], asked["rollout.threshold_high"]) == (0.35, 0.5)


def test_a_bad_beta_says_what_to_do():
    with pytest.raises(SettingError, match=r"Need beta > 0\. The released code uses 500"):
        LPO(beta=0.0)
