import math
from pathlib import Path
from typing import Any

import pytest

import palate
from label.asked import Table, answers, every_two, name
from palate.core.problems import SettingError
from palate.label.by_score import ScoreLabeler

PROMPT = "a red ball"


def test_a_soft_label_is_the_logistic_of_the_difference_over_the_temperature(
    tmp_path: Path,
) -> None:
    """Scores 2.0 and 1.5, temperature 1/4: sigma(4 · 0.5) = 0.8808 for the first."""
    scorer = Table({1: 2.0, 2: 1.5})
    (answer,) = answers(ScoreLabeler(scorer, sharpness=4.0), every_two(PROMPT, [1, 2]), tmp_path)
    assert answer.agreement == pytest.approx(1 / (1 + math.exp(-2)))
    assert answer.signature["scores"] == [2.0, 1.5]
    assert answer.signature["palate"] == palate.__version__
    assert answer.shown is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.0, 0.5, 1.0]),
        ({"indifference": 0.25}, [0.5, 0.5, 1.0]),
        ({"margin": 0.25}, [0.0, None, 1.0]),
        ({"margin": 1.0}, [None, None, 1.0]),
        ({"margin": 1.1}, [None, None, None]),
    ],
)
def test_small_differences_are_ties_or_no_label_as_told(
    tmp_path: Path, settings: dict[str, Any], expected: list[float | None]
) -> None:
    """Differences −0.25, 0 and 1."""
    scorer = Table({1: 1.0, 2: 1.25, 3: 1.0, 4: 0.0})
    questions = [every_two(PROMPT, two)[0] for two in ([1, 2], [1, 3], [1, 4])]
    found = answers(ScoreLabeler(scorer, sharpness=None, **settings), questions, tmp_path)
    assert [answer.agreement for answer in found] == expected
    assert [answer.reason for answer in found] == [
        "margin" if agreement is None else "" for agreement in expected
    ]
    assert [answer.signature["scores"] for answer in found] == [[1, 1.25], [1, 1], [1, 0]]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_makes_no_label_and_is_not_asked_again(
    tmp_path: Path, broken: float
) -> None:
    scorer = Table({1: 1.0, 2: broken, 3: 0.0})
    questions = every_two(PROMPT, [1, 2, 3])
    for _ in range(2):
        found = answers(ScoreLabeler(scorer), questions, tmp_path)
        assert [answer.reason for answer in found] == ["not-finite", "", "not-finite"]
        assert found[1].agreement is not None
    assert len(scorer.asked) == 3


def test_each_picture_is_scored_once_in_batches_whatever_is_made_of_it(tmp_path: Path) -> None:
    """20 pictures in 190 pairs, then with another sharpness, then with an 11th scorer's company."""
    scorer = Table({number: float(number % 7) for number in range(1, 21)})
    questions = every_two(PROMPT, range(1, 21))
    for sharpness in (1.0, None):
        answers(ScoreLabeler(scorer, sharpness=sharpness), questions, tmp_path)
    assert sorted(scorer.asked) == [(PROMPT, number) for number in range(1, 21)]
    assert scorer.batches == [20]


def test_the_same_picture_of_another_prompt_is_asked_again(tmp_path: Path) -> None:
    scorer = Table({1: 1.0, 2: 0.0})
    questions = [*every_two(PROMPT, [1, 2]), *every_two("a blue ball", [1, 2])]
    answers(ScoreLabeler(scorer), questions, tmp_path)
    assert len(scorer.asked) == 4


def test_an_interrupted_labeling_asks_only_for_the_rest(tmp_path: Path) -> None:
    """It stops after the first batch of 64 of 100 pictures."""

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert total == 100
        if done:
            raise StopError

    scorer = Table({number: float(number) for number in range(1, 101)})
    questions = every_two(PROMPT, range(1, 101))
    with pytest.raises(StopError):
        answers(ScoreLabeler(scorer), questions, tmp_path, stop)
    found = answers(ScoreLabeler(scorer), questions, tmp_path)
    assert scorer.batches == [64, 36]
    assert all((answer.agreement or 1) < 0.5 for answer in found)


def test_the_judge_is_named_after_scorer_and_manner_and_nobody_else() -> None:
    one, other = Table({1: 1.0}), Table({1: 2.0})
    made = [
        ScoreLabeler(one),
        ScoreLabeler(other),
        ScoreLabeler(one, sharpness=None),
        ScoreLabeler(one, sharpness=3.0),
        ScoreLabeler(one, margin=0.5),
        ScoreLabeler(one, indifference=0.5),
    ]
    assert len({each.judge for each in made}) == len({each.identity for each in made}) == 6
    assert len({each.asks for each in made}) == 1
    assert made[0].judge.startswith("table ")
    assert made[4].judge.endswith("at 1 margin 0.5")
    assert {each.source for each in made} == {"scorer"}


def test_settings_that_differ_in_the_last_digit_have_different_names() -> None:
    scorer = Table({1: 1.0})
    third, more = 1 / 3, math.nextafter(1 / 3, 1)
    for setting in ("sharpness", "margin", "indifference"):
        made = [ScoreLabeler(scorer, **{setting: value}) for value in (third, more, 0.333333)]
        assert len({each.judge for each in made}) == 3
        assert made[2].judge.endswith(f"{'at' if setting == 'sharpness' else ''} 0.333333")


@pytest.mark.parametrize(
    ("sharpness", "words"),
    [(1, "at 1"), (1.0, "at 1"), (10.0, "at 10"), (0.25, "at 0.25"), (1e-7, "at 1e-07")],
)
def test_ordinary_numbers_are_named_as_people_write_them(sharpness: float, words: str) -> None:
    """Names in stores and snapshots that are there stay what they were."""
    labeler = ScoreLabeler(Table({1: 1.0}), sharpness=sharpness)
    assert labeler.judge.endswith(f" {words}")
    assert labeler.identity == ScoreLabeler(Table({1: 1.0}), sharpness=float(sharpness)).identity


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sharpness": 0.0}, "Got sharpness 0"),
        ({"sharpness": math.inf}, "Got sharpness inf"),
        ({"margin": -1.0}, "Got margin -1"),
        ({"indifference": math.nan}, "Got indifference nan"),
        ({"margin": 1.0, "indifference": 1.0}, "Need one of them"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ScoreLabeler(Table({}), **settings)


def test_labels_follow_the_picture_not_its_place(tmp_path: Path) -> None:
    """The picture with the smaller digest is first, and scores lower here."""
    (question,) = every_two(PROMPT, [9, 3])
    assert [image.sha256 for image in question.images] == [name(3), name(9)]
    (answer,) = answers(ScoreLabeler(Table({9: 1.0, 3: 0.0}), sharpness=None), [question], tmp_path)
    assert answer.agreement == 0.0
