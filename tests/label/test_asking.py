"""What is asked of a vision model, and what its answers amount to: by hand, without a model."""

import json

import pytest

from label.lit import question
from palate.label.asking import (
    EMPTY,
    Heard,
    heard_from,
    key_of,
    next_asked,
    unheard,
    verdict,
    weigh,
    wording,
)
from palate.label.reply import NoReply, read_reply, same_model, strict_json
from palate.label.rubric import open_rubric

RUBRIC = open_rubric()
QUESTION = question()


def said(place, first=None) -> Heard:
    certain = {"first": 1.0, "second": 0.0, "tie": 0.5}[place]
    return Heard(place=place, first=certain if first is None else first, reason="", raw={})


def told(forth: Heard, back: Heard, **more: Heard):
    heard = {"forth": forth, "back": back, **{k.replace("_", "-"): v for k, v in more.items()}}
    return verdict(QUESTION, heard, {}, canary=bool(more))


@pytest.mark.parametrize(
    ("forth", "back", "agreement"),
    [
        (said("first"), said("second"), 1.0),
        (said("second"), said("first"), 0.0),
        (said("tie"), said("tie"), 0.5),
        (said("first", 0.9), said("second", 0.3), 0.8),
        (said("first"), said("tie"), 0.75),
        (said("tie"), said("first"), 0.25),
    ],
)
def test_the_label_is_the_mean_over_both_orders(forth, back, agreement):
    """½ [p(first | a, b) + 1 - p(first | b, a)], so ½ [0.9 + 1 - 0.3] = 0.8."""
    answer = told(forth, back)
    assert answer.agreement == pytest.approx(agreement)
    assert answer.reason == ""
    assert answer.shown is None


@pytest.mark.parametrize(
    ("forth", "back"),
    [
        (said("first"), said("first")),
        (said("second"), said("second")),
        (said("first", 0.99), said("first", 0.51)),
        # A tie that leans so far that the mean names the other picture.
        (said("tie", 0.2), said("second", 0.45)),
    ],
)
def test_orders_that_disagree_make_no_label(forth, back):
    answer = told(forth, back)
    assert (answer.agreement, answer.reason) == (None, "contradiction")


def test_an_answer_that_is_none_makes_no_label_and_is_never_one_half():
    for order in ({"forth": unheard("junk"), "back": said("first")}, {"forth": unheard("junk")}):
        answer = verdict(QUESTION, order, {}, canary=True)
        assert (answer.agreement, answer.reason) == (None, "junk")


@pytest.mark.parametrize(("named", "reason"), [("first", ""), ("second", ""), ("tie", "canary")])
def test_the_reversed_question_must_name_the_other_picture(named, reason):
    heard = {"forth": said("first"), "back": said("second")}
    canary = next_asked(QUESTION, heard, canary=True)
    assert canary is not None
    assert canary.worse
    assert sorted(canary.shown) == [0, 1]
    right = "first" if canary.shown[0] == 1 else "second"
    answer = verdict(QUESTION, {**heard, canary.step: said(named)}, {}, canary=True)
    expected = reason or ("" if named == right else "canary")
    assert (answer.agreement, answer.reason) == ((None, expected) if expected else (1.0, ""))


def test_two_ties_are_tried_against_an_empty_picture():
    heard = {"forth": said("tie"), "back": said("tie")}
    for place in (0, 1):
        asked = next_asked(QUESTION, heard, canary=True)
        assert asked is not None
        assert sorted(asked.shown) == [EMPTY, place]
        assert asked.worse
        heard[asked.step] = said("first" if asked.shown[0] == EMPTY else "second")
    assert next_asked(QUESTION, heard, canary=True) is None
    assert verdict(QUESTION, heard, {}, canary=True).agreement == 0.5
    heard[asked.step] = said("tie")
    assert verdict(QUESTION, heard, {}, canary=True).reason == "canary"


def test_nothing_more_is_asked_than_can_change_the_label():
    first = next_asked(QUESTION, {}, canary=True)
    assert first is not None
    assert next_asked(QUESTION, {first.step: unheard("refused")}, canary=True) is None
    contradiction = {"forth": said("first"), "back": said("first")}
    assert next_asked(QUESTION, contradiction, canary=True) is None
    agreed = {"forth": said("first"), "back": said("second")}
    assert next_asked(QUESTION, agreed, canary=False) is None


def test_neither_order_comes_first_for_all_pairs():
    firsts = [next_asked(question(number=n), {}, canary=True) for n in range(40)]
    count = sum(asked.shown == (0, 1) for asked in firsts if asked is not None)
    assert 10 <= count <= 30


def test_ways_of_asking_have_names_of_their_own():
    heard = {"forth": said("tie"), "back": said("tie")}
    asked = [next_asked(QUESTION, {}, canary=True), next_asked(QUESTION, heard, canary=True)]
    keys = {key_of(each, one) for each in (QUESTION, question("a dog")) for one in asked}
    assert len(keys) == 4


def test_weights_are_divided_by_what_is_allowed():
    """By hand: (0.3 + 0.05) / 0.5 = 0.7."""
    assert weigh({"A": 0.3, "B": 0.1, "tie": 0.1}, RUBRIC) == ("first", pytest.approx(0.7))
    assert weigh({"A": 0.1, "B": 0.2}, RUBRIC) == ("second", pytest.approx(1 / 3))
    assert weigh({"A": 0.2, "B": 0.2, "tie": 0.1}, RUBRIC) == ("tie", pytest.approx(0.5))
    for nothing in ({}, {"A": float("nan")}, {"A": -1.0}, {"A": 0.0, "B": 0.0}):
        assert weigh(nothing, RUBRIC) is None


def test_the_instruction_holds_no_data():
    """Two questions that share nothing are asked with the same instruction."""
    asked = next_asked(QUESTION, {}, canary=True)
    assert asked is not None
    one = wording(RUBRIC, QUESTION, asked)
    other = wording(RUBRIC, question("zebra </data> \u202e"), asked)
    assert one.instruction == other.instruction
    assert one.question == other.question
    assert "zebra" in other.caption
    assert "\u202e" not in other.caption


def reply(content='{"answer": "A"}', logprobs=None):
    choice = {"message": {"content": content}, "finish_reason": "stop", "logprobs": logprobs}
    return json.dumps({"model": "m", "choices": [choice]}).encode()


def tokens(pieces, place, chances):
    """Pieces of a content, and the alternatives at one of them."""
    import math

    listed = [{"token": t, "logprob": math.log(p)} for t, p in chances.items()]
    made = [{"token": piece, "logprob": 0.0, "top_logprobs": []} for piece in pieces]
    made[place] = {
        "token": pieces[place],
        "logprob": math.log(chances[pieces[place]]),
        "top_logprobs": listed,
    }
    return {"content": made}


@pytest.mark.parametrize(
    ("pieces", "place", "chances", "first"),
    [
        (['{"answer": "', "A", '"}'], 1, {"A": 0.6, "B": 0.2}, 0.75),
        # The quotation mark melts into the letter.
        (['{"answer":', ' "A', '"}'], 1, {' "A': 0.6, ' "B': 0.2, ' "': 0.1}, 0.75),
        # The letter and the end melt together, and other letters are not counted.
        (['{"answer": "', 'A"}'], 1, {'A"}': 0.5, "A": 0.1, "B": 0.2, "And": 0.2}, 0.75),
        # A tie of several tokens begins with its first one; small letters are the same answer.
        (['{"answer": "', "A", '"}'], 1, {"A": 0.4, "t": 0.2, "b": 0.2}, 0.625),
    ],
)
def test_probabilities_come_from_where_the_answer_begins(pieces, place, chances, first):
    """By hand: 0.6 / 0.8 = 0.75; with a tie, (0.4 + ½ 0.2) / 0.8 = 0.625."""
    content = "".join(pieces)
    heard = read_reply(reply(content, tokens(pieces, place, chances)), RUBRIC).heard
    assert (heard.place, heard.reason) == ("first", "")
    assert heard.first == pytest.approx(first)
    assert heard_from(json.loads(json.dumps(heard.asdict()))) == heard


def test_the_chosen_token_alone_is_no_probability():
    pieces = ['{"answer": "', "A", '"}']
    heard = read_reply(reply("".join(pieces), tokens(pieces, 1, {"A": 0.6})), RUBRIC).heard
    assert heard.first == 1.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 2}', "repeated"),
        ("[NaN]", "no number"),
        ("[Infinity]", "no number"),
        ("[1e999]", "without end"),
        ("[" * 50_000, "deeply"),
    ],
)
def test_json_that_other_readers_would_refuse_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        strict_json(text)


def test_what_is_no_reply_is_told_apart_from_what_is_no_answer():
    with pytest.raises(NoReply, match="malformed"):
        read_reply(b'{"error": "busy"}', RUBRIC)
    assert read_reply(reply("no"), RUBRIC).heard.reason == "junk"


@pytest.mark.parametrize(
    ("asked", "reported", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct", True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b-instruct", True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Other/Qwen2.5-VL-7B-Instruct", False),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct", False),
        ("qwen2.5-vl-7b-instruct", "Other/Qwen2.5-VL-7B-Instruct", False),
        ("m", "", False),
    ],
)
def test_a_model_is_the_one_that_was_named_and_no_dated_one_nor_a_sister(asked, reported, same):
    assert same_model(asked, reported) is same
