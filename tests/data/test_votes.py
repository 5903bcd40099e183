"""Votes: who said what of which two pictures, whichever way round it was recorded."""

import pytest

from palate.data.comparison import ImageRef, compare, from_json
from palate.data.votes import by_pair, two_by_two, votes_of

A, B, C = (ImageRef(sha256=letter * 64, width=8, height=8) for letter in "abc")


def test_two_records_of_the_same_pictures_are_votes_on_one_pair():
    """Judge one prefers A, judge two prefers B and saw B first."""
    one = compare(prompt="p", images=[A, B], ranks=(1, 2), judge="one", shown=(0, 1))
    two = compare(prompt="p", images=[B, A], ranks=(1, 2), judge="two", shown=(0, 1))
    votes = votes_of([one, two])
    assert {vote.pair for vote in votes} == {("p", A.sha256, B.sha256)}
    assert [vote.first for vote in votes] == [1.0, 0.0]
    assert [vote.shown_first for vote in votes] == [True, False]
    assert list(by_pair([one, two])) == [("p", A.sha256, B.sha256)]


def test_a_record_of_three_pictures_holds_three_votes_in_the_order_shown():
    """Ranked C, A, B and shown C, B, A: A before B by rank, B before A on the screen."""
    row = compare(prompt="p", images=[A, B, C], ranks=(2, 3, 1), judge="one", shown=(2, 1, 0))
    votes = {vote.pair[1:]: vote for vote in votes_of([row])}
    assert votes[A.sha256, B.sha256].first == 1.0
    assert votes[A.sha256, C.sha256].first == 0.0
    assert [votes[A.sha256, B.sha256].shown_first, votes[A.sha256, C.sha256].shown_first] == [
        False,
        False,
    ]
    assert {vote.row for vote in votes.values()} == {row.id}


def test_an_unlabelled_record_is_a_pair_without_a_vote():
    row = compare(prompt="p", images=[A, B])
    assert votes_of([row]) == []
    assert len(by_pair([row])) == 1


@pytest.mark.parametrize("signature", [None, {"version": "1", "answers": ["A", "B"]}])
def test_a_signature_is_kept_and_changes_the_content_but_not_the_identity(signature):
    bare = compare(prompt="p", images=[A, B], ranks=(1, 2), judge="m", source="vlm")
    row = compare(
        prompt="p", images=[A, B], ranks=(1, 2), judge="m", source="vlm", signature=signature
    )
    assert from_json(row.to_json()) == row
    assert row.id == bare.id
    assert (row.digest() == bare.digest()) == (signature is None)
    assert [two.signature for two in two_by_two(row)] == [signature]
