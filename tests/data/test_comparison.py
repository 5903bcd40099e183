import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.core.problems import DataError
from palate.data.comparison import Comparison, ImageRef, compare, from_json, relabelled

A, B, C = (ImageRef(sha256=letter * 64, width=8, height=8) for letter in "abc")


def test_an_agreement_implies_ranks_and_ranks_an_agreement() -> None:
    assert compare(prompt="p", images=[A, B], agreement=0.8).ranks == (1, 2)
    assert compare(prompt="p", images=[A, B], agreement=0.2).ranks == (2, 1)
    assert compare(prompt="p", images=[A, B], ranks=[2, 1]).agreement == 0.0
    assert compare(prompt="p", images=[A, B], ranks=[4, 4]).agreement == 0.5
    assert compare(prompt="p", images=[A, B, C], ranks=[7, 3, 7]).ranks == (2, 1, 2)
    assert compare(prompt="p", images=[A, B, C], ranks=[1, 2, 3]).agreement is None


def test_a_tie_is_a_tie_and_a_missing_label_is_not() -> None:
    assert compare(prompt="p", images=[A, B], agreement=0.5).tie
    assert compare(prompt="p", images=[A, B, C], ranks=[1, 1, 1]).tie
    assert not compare(prompt="p", images=[A, B]).tie
    assert not compare(prompt="p", images=[A, B]).labelled


def test_the_same_judgement_with_its_sides_swapped_has_the_same_id() -> None:
    one = compare(prompt="p", images=[A, B], agreement=0.75, judge="j")
    other = compare(prompt="p", images=[B, A], agreement=0.25, judge="j", origin="elsewhere")
    assert one.id == other.id


def test_everything_that_makes_another_judgement_makes_another_id() -> None:
    base = {"prompt": "p", "images": [A, B], "agreement": 1.0, "judge": "j"}
    others = [
        {"prompt": "q"},
        {"images": [A, C]},
        {"agreement": 0.0},
        {"agreement": 0.9},
        {"judge": "k"},
        {"source": "human"},
        {"shown": (0, 1)},
        {"shown": (1, 0)},
        {"judged_at": "yesterday"},
    ]
    ids = {compare(**base).id, *(compare(**{**base, **change}).id for change in others)}
    assert len(ids) == len(others) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [A]}, "at least two"),
        ({"images": [A, A]}, "same picture twice"),
        ({"images": [A, B, C], "agreement": 0.7}, "on two pictures"),
        ({"agreement": 1.2}, "a probability"),
        ({"agreement": float("nan")}, "a probability"),
        ({"ranks": [1]}, "one rank per picture"),
        ({"ranks": [1, 2], "agreement": 0.1}, "says one thing"),
        ({"shown": (0, 0)}, "every picture's index once"),
        ({"generation": (None,)}, "one per picture"),
        ({"source": "oracle"}, "human"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compare(**{"prompt": "p", "images": [A, B], **change})


@given(
    prompt=st.text(max_size=30),
    agreement=st.none() | st.floats(0, 1),
    judge=st.text(max_size=9),
    facts=st.none() | st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4)),
)
def test_a_record_is_read_back_as_it_was_written(
    prompt: str, agreement: float | None, judge: str, facts: dict | None
) -> None:
    made = compare(
        prompt=prompt, images=[B, A], agreement=agreement, judge=judge, generation=[facts, None]
    )
    assert from_json(made.to_json()) == made


def test_a_changed_record_is_noticed() -> None:
    line = compare(prompt="p", images=[A, B], agreement=1.0).to_json()
    value = json.loads(line)
    value["ranks"], value["agreement"] = [2, 1], 0.0
    with pytest.raises(DataError, match="content was changed"):
        from_json(json.dumps(value))
    with pytest.raises(DataError, match="not a comparison"):
        from_json(line[:-20])
    assert isinstance(from_json(line), Comparison)


def test_another_label_by_the_same_judge_keeps_everything_else() -> None:
    row = compare(
        prompt="p", images=[ImageRef(sha256=c * 64, width=1, height=1) for c in "ba"],
        agreement=1.0, judge="anna", source="human", shown=(1, 0), judged_at="now",
        generation=[{"seed": 1}, None], origin="here", signature={"asked": []},
    )  # fmt: skip
    softer = relabelled(row, 0.75)
    assert (softer.agreement, softer.ranks, softer.judge) == (0.75, (1, 2), "anna")
    assert relabelled(softer, 1.0) == row


def test_what_an_old_judge_was_shown_is_not_said_of_a_new_one() -> None:
    row = compare(
        prompt="p", images=[ImageRef(sha256=c * 64, width=1, height=1) for c in "ab"],
        agreement=1.0, judge="anna", source="human", shown=(1, 0), judged_at="now",
        generation=[{"seed": 1}, None], origin="here", signature={"asked": []},
    )  # fmt: skip
    other = relabelled(row, None, judge="clip", source="scorer", origin="there")
    assert (other.judge, other.source, other.origin) == ("clip", "scorer", "there")
    assert (other.shown, other.judged_at, other.signature, other.labelled) == (
        None, None, None, False,
    )  # fmt: skip
    assert (other.images, other.generation) == (row.images, row.generation)
