from typing import Any

import pytest

from palate.core.problems import DataError
from palate.data.comparison import ImageRef
from palate.label import Answer, Question

SMALL, LARGE = (ImageRef(sha256=letter * 64, width=8, height=8) for letter in "ab")


def test_a_question_names_its_pair() -> None:
    question = Question(prompt="a cat", images=(SMALL, LARGE))
    assert question.key == ("a cat", "a" * 64, "b" * 64)


@pytest.mark.parametrize("images", [(LARGE, SMALL), (SMALL, SMALL)])
def test_a_question_has_two_pictures_in_one_order(images: Any) -> None:
    with pytest.raises(DataError, match="the smaller digest first"):
        Question(prompt="a cat", images=images)


@pytest.mark.parametrize("agreement", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_answer_is_a_probability(agreement: float) -> None:
    with pytest.raises(DataError, match="Need a probability"):
        Answer(agreement=agreement)


def test_an_answer_is_a_label_or_the_reason_why_there_is_none() -> None:
    assert Answer(agreement=0.0).reason == ""
    assert Answer(agreement=None, reason="margin").agreement is None
    for agreement, reason in ((None, ""), (0.5, "margin")):
        with pytest.raises(DataError, match="a label, or the reason"):
            Answer(agreement=agreement, reason=reason)
