"""Messages are output, so they are tested: got, need, fix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.core import problems
from palate.core.problems import Problem, SettingError, StateError, nearest, require, unknown

KINDS = [
    kind for kind in vars(problems).values() if isinstance(kind, type) and issubclass(kind, Problem)
]


def test_a_message_reads_as_three_sentences():
    problem = SettingError(got="beta=-1", need="beta > 0", fix="Use 2000")
    assert str(problem) == "Got beta=-1. Need beta > 0. Use 2000."
    assert (problem.got, problem.need, problem.fix) == ("beta=-1", "beta > 0", "Use 2000")


def test_a_part_that_is_a_sentence_keeps_its_own_stop():
    assert str(SettingError(got="x.", need="y!", fix=" Why? ")) == "Got x. Need y! Why?"


def test_every_kind_has_an_exit_code_of_its_own_that_is_not_success():
    codes = [kind.exit_code for kind in KINDS]
    assert len(KINDS) == 7
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


def test_require_is_silent_when_the_condition_holds():
    require(True, got="", need="", fix="")


def test_require_raises_the_kind_it_is_given():
    with pytest.raises(StateError, match=r"Got a\. Need b\. c\."):
        require(False, got="a", need="b", fix="c", kind=StateError)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("dop", "dpo"), ("DPO", None), ("kot", "kto"), ("mappo", "mapo"), ("zzzz", None)],
)
def test_the_nearest_name_is_what_was_probably_meant(typed, meant):
    assert nearest(typed, ["dpo", "ipo", "kto", "mapo"]) == meant


def test_an_unknown_name_lists_those_that_exist():
    assert str(unknown("objective", "dop", ["kto", "dpo"])) == (
        "Got objective='dop'. Need one of dpo, kto. Did you mean dpo?"
    )
    assert unknown("objective", "zzzz", ["dpo"]).fix == "Choose a objective from the list."


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=8), max_size=5))
def test_any_typo_gives_a_message(word, options):
    guess = nearest(word, options)
    assert guess is None or guess in options
    assert str(unknown("name", word, options)).startswith("Got name=")
