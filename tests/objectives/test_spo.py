"""SPO: D3PO's loss at a larger beta; what is its own is where the pairs come from."""

import math

import pytest

from objectives.examples import steps
from palate.core.problems import SettingError
from palate.objectives import SPO


def test_one_pair_by_hand():
    """Log-ratios +0.05 and −0.03: logit 10 · 0.08 = 0.8."""
    found = float(SPO()(steps([0.05], [-0.03])).loss)
    assert found == pytest.approx(math.log1p(math.exp(-0.8)), abs=1e-12)


def test_the_logit_reaches_two_at_most():
    """10 · log(1.1/0.9) = 2.007."""
    assert round(float(SPO()(steps([1.0], [-1.0])).extras["logit"]), 3) == 2.007


def test_it_asks_for_labels_at_each_step_and_a_scorer():
    asked = dict(SPO.needs.settings)
    assert SPO.needs.evidence == ("steps",)
    assert SPO.needs.scorer
    assert SPO.needs.generation
    assert asked["rollout.labels"] == "steps"
    assert (asked["rollout.candidates"], asked["rollout.skip_first"]) == (4, 4)
    assert asked["rollout.threshold"] == 0.3


def test_a_bad_beta_says_what_to_do():
    with pytest.raises(SettingError, match=r"Need beta > 0\. The released code uses 10"):
        SPO(beta=-1.0)
