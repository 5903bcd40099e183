import math
from pathlib import Path
from typing import Any

import pytest

from label.asked import Table, answers, every_two, name
from palate.core.problems import SettingError
from palate.data.synthetic import agreement_of
from palate.label.by_score import ScoreLabeler
from palate.label.together import Calibrated, Majority, Pareto, Rule, Together

PROMPT = "a red ball"


def said(tmp_path: Path, rule: Rule, *scores: tuple[float, float]) -> tuple[float | None, str]:
    """What some scorers together say of two pictures, given each one's two scores."""
    scorers = tuple(
        Table({1: first, 2: second}, name=f"scorer {number}")
        for number, (first, second) in enumerate(scores)
    )
    (answer,) = answers(Together(scorers=scorers, rule=rule), every_two(PROMPT, [1, 2]), tmp_path)
    return answer.agreement, answer.reason


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(1, 0), (1, 0), (0, 9)], (1.0, "")),
        ([(0, 1), (0, 1), (9, 0)], (0.0, "")),
        ([(1, 0), (0, 1)], (None, "split")),
        ([(1, 0), (0, 1), (5, 5)], (None, "split")),
        ([(1, 0), (5, 5), (5, 5)], (1.0, "")),
        ([(5, 5), (5, 5)], (0.5, "")),
        ([(1, 0), (math.nan, 0), (1, 0)], (None, "not-finite")),
    ],
)
def test_the_majority_decides_and_an_even_split_is_no_label(
    tmp_path: Path, scores: Any, expected: Any
) -> None:
    assert said(tmp_path, Majority(), *scores) == expected


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(1, 0), (1, 0), (1, 0)], (1.0, "")),
        ([(1, 0), (5, 5), (5, 5)], (1.0, "")),
        ([(0, 1), (5, 5)], (0.0, "")),
        ([(1, 0), (1, 0), (0, 0.1)], (None, "no-dominance")),
        ([(5, 5), (5, 5)], (0.5, "")),
        ([(1, 0), (math.inf, 0)], (None, "not-finite")),
    ],
)
def test_pareto_labels_only_where_no_scorer_objects(
    tmp_path: Path, scores: Any, expected: Any
) -> None:
    assert said(tmp_path, Pareto(), *scores) == expected


def test_a_difference_that_a_scorer_would_not_notice_is_no_vote(tmp_path: Path) -> None:
    scores = [(1, 0), (1, 0), (0, 0.1)]
    assert said(tmp_path, Pareto(indifference=0.1), *scores) == (1.0, "")
    assert said(tmp_path, Majority(indifference=1.0), *scores) == (0.5, "")


def test_calibrated_labels_of_three_pictures_by_hand(tmp_path: Path) -> None:
    """Plain wins of two scorers among three pictures.

    One ranks 1 > 2 > 3: win rates 1, ½, 0. The other ranks 2 > 1 > 3: ½, 1, 0. Means ¾, ¾, 0: a
    tie between 1 and 2, and ½ + ½ · ¾ = 0.875 for either against 3.
    """
    scorers = (Table({1: 3, 2: 2, 3: 1}), Table({1: 20, 2: 30, 3: 10}))
    rule = Calibrated(sharpness=None)
    found = answers(Together(scorers=scorers, rule=rule), every_two(PROMPT, [1, 2, 3]), tmp_path)
    assert [answer.agreement for answer in found] == [0.5, 0.875, 0.875]
    assert found[1].signature["worth"] == [[0.75], [0.0]]
    assert found[1].signature["scores"] == [[3.0, 20.0], [1.0, 10.0]]
    assert found[1].signature["pictures"] == 3


def test_two_pictures_calibrated_are_the_mean_of_the_scorers_soft_labels(tmp_path: Path) -> None:
    agreement, _ = said(tmp_path, Calibrated(sharpness=2.0), (1.0, 0.0), (0.0, 0.25))
    expected = (agreement_of(1.0, 2.0) + agreement_of(-0.25, 2.0)) / 2
    assert agreement == pytest.approx(expected)


def test_calibrated_labels_look_at_pictures_of_other_pairs_too(tmp_path: Path) -> None:
    """Alone, 1 always beats 2. Beside a third that beats both, rates are ½ and 0: 0.75."""
    scorers = (Table({1: 2, 2: 1, 3: 3}), Table({1: 5, 2: 4, 3: 6}))
    rule, questions = Calibrated(sharpness=None), every_two(PROMPT, [1, 2])
    (alone,) = answers(Together(scorers=scorers, rule=rule), questions, tmp_path)
    others = {PROMPT: [name(number) for number in (1, 2, 3)], "another prompt": [name(9)]}
    together = Together(scorers=scorers, rule=rule, others=lambda: others)
    (beside,) = answers(together, questions, tmp_path)
    assert (alone.agreement, beside.agreement) == (1.0, 0.75)


@pytest.mark.parametrize("rule", [Majority(), Pareto()])
def test_who_compares_no_pictures_asks_for_no_others(tmp_path: Path, rule: Rule) -> None:
    def others() -> dict[str, list[str]]:
        pytest.fail("asked for other pictures")

    scorers = (Table({1: 2, 2: 1}), Table({1: 5, 2: 4}))
    together = Together(scorers=scorers, rule=rule, others=others)
    (answer,) = answers(together, every_two(PROMPT, [1, 2]), tmp_path)
    assert answer.agreement == 1.0


def test_a_pair_without_a_label_is_signed_too(tmp_path: Path) -> None:
    scorers = (Table({1: 2, 2: 1, 3: math.nan}), Table({1: 5, 2: 6, 3: 0}))
    together = Together(scorers=scorers, rule=Majority())
    split, broken, _ = answers(together, every_two(PROMPT, [1, 2, 3]), tmp_path)
    assert (split.reason, split.signature["scores"]) == ("split", [[2, 5], [1, 6]])
    assert (broken.reason, broken.signature["scores"]) == ("not-finite", [[2, 5], ["nan", 0]])


def test_a_picture_without_a_finite_score_takes_nothing_from_the_others(tmp_path: Path) -> None:
    scorers = (Table({1: 2, 2: 1, 3: math.nan}), Table({1: 5, 2: 4, 3: 6}))
    together = Together(scorers=scorers, rule=Calibrated(sharpness=None))
    found = answers(together, every_two(PROMPT, [1, 2, 3]), tmp_path)
    assert [(a.agreement, a.reason) for a in found] == [
        (1.0, ""), (None, "not-finite"), (None, "not-finite"),
    ]  # fmt: skip


@pytest.mark.parametrize(("margin", "expected"), [(0.7, 0.875), (0.8, None)])
def test_a_margin_of_calibrated_rewards_is_a_gap_in_win_rates(
    tmp_path: Path, margin: float, expected: float | None
) -> None:
    """The gap is ¾, as above."""
    scorers = (Table({1: 3, 2: 2, 3: 1}), Table({1: 20, 2: 30, 3: 10}))
    rule = Calibrated(sharpness=None, margin=margin)
    found = answers(Together(scorers=scorers, rule=rule), every_two(PROMPT, [1, 2, 3]), tmp_path)
    assert [answer.agreement for answer in found] == [None, expected, expected]
    assert found[0].reason == "margin"


def test_what_one_scorer_said_alone_is_not_asked_again_in_company(tmp_path: Path) -> None:
    one, other = Table({1: 2, 2: 1}), Table({1: 5, 2: 4}, name="other")
    questions = every_two(PROMPT, [1, 2])
    answers(ScoreLabeler(one), questions, tmp_path)
    for rule in (Majority(), Pareto(), Calibrated()):
        answers(Together(scorers=(one, other), rule=rule), questions, tmp_path)
    assert (len(one.asked), len(other.asked)) == (2, 2)


def test_the_judge_says_rule_and_scorers_and_the_order_of_scorers_means_nothing() -> None:
    one, other = Table({1: 2}, name="one"), Table({1: 5}, name="other")
    rules = [Majority(), Majority(indifference=1), Pareto(), Calibrated(), Calibrated(margin=0.1)]
    made = [Together(scorers=(one, other), rule=rule) for rule in rules]
    assert len({each.judge for each in made}) == len({each.identity for each in made}) == 5
    assert made[0].judge.startswith("majority of one, other ")
    turned = Together(scorers=(other, one), rule=Pareto())
    assert (turned.identity, turned.judge) == (made[2].identity, made[2].judge)


def test_fewer_than_two_different_scorers_are_refused() -> None:
    one = Table({1: 2}, name="one")
    for scorers in ((one,), (one, one)):
        with pytest.raises(SettingError, match="two or more different ones"):
            Together(scorers=scorers, rule=Majority())


@pytest.mark.parametrize("rule", [Majority, Pareto, Calibrated])
def test_a_negative_indifference_is_refused(rule: Any) -> None:
    with pytest.raises(SettingError, match="Got indifference -1"):
        rule(indifference=-1.0)
