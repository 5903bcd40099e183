"""Hinge: pushed to a logit of 1, and then left alone."""

import pytest

from objectives.golden_pairs import golden, slopes
from palate.core.problems import SettingError
from palate.objectives import Hinge


def test_the_golden_vector():
    """Logits 1.5, −1.5, 0.5 and 0: what they lack to 1 is 0, 2.5, 0.5 and 1."""
    found = Hinge(beta=2000.0)(golden()).loss.tolist()
    assert found == pytest.approx([0.0, 2.5, 0.5, 1.0], abs=1e-10)
    assert sum(found) / 4 == pytest.approx(1.0, abs=1e-10)


def test_a_pair_beyond_the_hinge_has_no_slope():
    assert slopes(Hinge(beta=2000.0), golden(), 1000.0) == pytest.approx([0, -1, -1, -1])


def test_a_soft_label_averages_both_outcomes():
    """Agreement 0.7 at logit 1.5: 0.7 · 0 + 0.3 · 2.5 = 0.75."""
    assert Hinge()(golden(0.7)).loss[0].item() == pytest.approx(0.75, abs=1e-10)


def test_a_bad_beta_says_what_to_do():
    with pytest.raises(SettingError, match=r"Need beta > 0\. Use 2000; larger is content"):
        Hinge(beta=float("nan"))
