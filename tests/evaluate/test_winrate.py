"""Counting by hand: wins, ties, broken pictures, p-values."""

import numpy as np
import pytest

from palate.evaluate.measurements import Measurements
from palate.evaluate.winrate import holm, judge, sign_flip, smallest_visible


def measured(before, after, *, prompts=None, broken_before=None, broken_after=None):
    n = len(before)
    no = np.zeros(n, dtype=bool)
    return Measurements(
        prompts=tuple(prompts or [f"prompt {at}" for at in range(n)]),
        indices=(0,) * n,
        scores={"taste": (np.array(before, dtype=float), np.array(after, dtype=float))},
        broken_before=no if broken_before is None else np.array(broken_before),
        broken_after=no if broken_after is None else np.array(broken_after),
    )


def test_two_wins_a_loss_and_a_tie_are_five_eighths():
    """(1 + 1 + 0 + 1/2) / 4 = 0.625, a quarter of the pairs tied, mean change 3 / 4."""
    found = judge(measured([0, 0, 1, 2], [2, 2, 0, 2]), "taste")
    assert found["win_rate"].value == 0.625
    assert found["win_rate"].n == 4
    assert found["ties"] == 0.25
    assert found["difference"].value == 0.75


def test_two_pictures_of_one_prompt_are_one_unit():
    """Prompt a: 1 of 2 won; prompt b: 1 of 1. The mean of 0.5 and 1 is 0.75, not 2 / 3."""
    found = judge(measured([0, 1, 0], [1, 0, 1], prompts=["a", "a", "b"]), "taste")
    assert found["win_rate"].value == 0.75
    assert found["win_rate"].n == 2


def test_a_broken_picture_loses_whatever_its_score():
    """After scores higher twice; its broken picture loses, and two broken ones tie: 1/2 of 2."""
    scores = measured([0, 0], [9, 9], broken_after=[True, True], broken_before=[False, True])
    found = judge(scores, "taste")
    assert found["win_rate"].value == 0.25
    assert found["ties"] == 0.5


def test_a_score_that_is_not_finite_loses_and_stays_out_of_the_mean():
    found = judge(measured([0, 0, 0], [1, np.nan, 1]), "taste")
    assert found["win_rate"].value == pytest.approx(2 / 3)
    assert found["unscored"] == 1
    assert found["difference"].value == 1.0
    assert found["difference"].n == 2


def test_no_finite_score_at_all_gives_no_mean():
    found = judge(measured([np.nan], [np.nan]), "taste")
    assert found["difference"] is None
    assert found["win_rate"].value == 0.5


def test_three_prompts_the_same_way_have_p_one_quarter():
    """Of the 8 assignments of signs, 2 are as extreme as all three alike."""
    assert sign_flip([0.5, 0.5, 0.5]) == 0.25


def test_ties_say_nothing_in_the_sign_flip_test():
    assert sign_flip([0.5, 0.0, 0.5, 0.0, 0.5]) == 0.25
    assert sign_flip([0.0, 0.0]) == 1.0


def test_random_signs_agree_with_the_exact_value():
    """15 wins and 5 losses: the binomial test gives 2 · P(X ≥ 15 of 20) = 0.0414."""
    assert sign_flip([0.5] * 15 + [-0.5] * 5) == pytest.approx(0.0414, abs=0.006)


def test_a_sure_thing_never_has_p_zero():
    assert 0 < sign_flip([0.5] * 200) < 0.001


def test_holm_by_hand():
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1, and never falling: 0.03, 0.06, 0.06."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )


@pytest.mark.parametrize(("n", "rate"), [(194, 0.60), (783, 0.55), (4904, 0.52)])
def test_what_n_prompts_can_see(n, rate):
    """The inverse of the sample sizes in the reliability notes (§6.2), to a tenth of a point."""
    assert smallest_visible(n) == pytest.approx(rate, abs=0.0015)


def test_two_prompts_can_see_nothing():
    assert smallest_visible(2) is None
