"""Whose embedding a pair is learned with: never one made from its own answer."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.core.problems import DataError, SettingError
from palate.data.loader import ByUser, Order
from palate.data.pairs import Pair, PreferencePairs
from palate.train.book import Book
from palate.train.choices import ALONE, CONTRADICTORY
from palate.train.examples import open_book
from palate.train.run import Run
from train.people import PEOPLE, people

BUSY = {"anna": [True] * 8, "ben": [False] * 7}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where embeddings are kept, for all tests together."""
    return tmp_path_factory.mktemp("cache")


def run_of(data: Path, **more: Any) -> Run:
    told = {"model": "m", "data": str(data), "objective.name": "ppd", "split.held_out": 0.25}
    return Run.from_values({**told, **more})


def opened(data: Path, kept: Path, **more: Any) -> tuple[Book, Any, Any]:
    """A book, and the pairs it was opened for: of training, and held out."""
    run, pairs = run_of(data, **more), PreferencePairs.open(data)
    book = open_book(run, pairs, kept, device="cpu", tell=lambda _text: None)
    assert book is not None
    sides = pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    return book, book.trained(sides[0]), book.asked(sides[1])


def pictures(pair: Pair) -> set[str]:
    return {pair.chosen, pair.rejected}


def test_no_pair_is_shown_an_example_of_its_own_two_pictures(data, kept):
    book, train, held_out = opened(data, kept, **{"personal.dropout": 0.0})
    assert len(train) > 8
    assert len(held_out) > 2
    for pair in (*train, *held_out):
        shown = book.away(pair)
        assert shown
        for choice in shown:
            assert {each.judge for each in choice} == {pair.judge}
            assert not any(pictures(each) & pictures(pair) for each in choice)
        rows = [book.read(pair.judge, choice) for choice in shown]
        for visit in range(4):
            assert any(torch.equal(book.of(pair, visit), row) for row in rows)


def test_one_choice_for_everybody_still_leaves_every_pair_one_away_from_itself(data, kept):
    """The pairs that are in the only choice get another one, of the person's other pairs."""
    book, train, _ = opened(data, kept, **{"personal.subsets": 1})
    one, many = len(train), len(opened(data, kept)[1])
    assert one == many
    assert all(book.away(pair) for pair in train)


def test_another_visit_is_shown_other_examples_and_the_same_visit_the_same(tmp_path, kept):
    data = people(tmp_path, {"anna": [True] * 10, "ben": [False] * 8})
    book, train, _ = opened(data, kept, **{"personal.dropout": 0.0})
    again, _, _ = opened(data, kept, **{"personal.dropout": 0.0})
    pair = max(train, key=lambda each: len(book.away(each)))
    rows = [book.of(pair, visit) for visit in range(12)]
    assert any(not torch.equal(row, rows[0]) for row in rows)
    assert all(torch.equal(row, again.of(pair, visit)) for visit, row in enumerate(rows))


def test_embeddings_tell_opposite_tastes_apart(data, kept):
    """Anna prefers bright pictures and Ben dark ones: their embeddings point apart."""
    book, _, _ = opened(data, kept)
    users = book.users()
    anna, ben = users["anna"].flatten(), users["ben"].flatten()
    assert float(torch.cosine_similarity(anna, ben, dim=0)) < -0.5
    assert torch.equal(book.user("anna"), users["anna"])
    with pytest.raises(SettingError, match="Did you mean anna"):
        book.user("ana")


def test_users_are_dropped_at_keyed_visits_and_never_in_a_health_check(data, kept):
    book, train, _ = opened(data, kept, **{"personal.dropout": 0.5})
    dropped = [not book.of(pair, visit).any() for pair in train for visit in range(40)]
    assert 0.4 < sum(dropped) / len(dropped) < 0.6
    still = book.still()
    assert all(still.of(pair, visit).any() for pair in train for visit in range(40))
    every, _, _ = opened(data, kept, **{"personal.dropout": 1.0})
    assert not any(every.of(pair, 0).any() for pair in train)


def test_who_cannot_be_learned_from_is_left_out_and_counted(data, kept):
    """Dora has one pair, Emma ties only, and Finn said the opposite of everything as well."""
    book, train, held_out = opened(data, kept, **{"split.held_out": 0.05})
    learned = {pair.judge for pair in train}
    assert learned <= {"anna", "ben", "cleo"}
    assert {pair.judge for pair in held_out} <= {"anna", "ben", "cleo"}
    assert set(book.people) == learned
    sides = PreferencePairs.open(data).split(by="prompt", held_out=0.05, seed=0)
    for name, side, used in zip(("training", "held out"), sides, (train, held_out), strict=True):
        assert sum(book.left_out[name].values()) + len(used) == len(side)
    lost = Counter(book.left_out["training"]) + Counter(book.left_out["held out"])
    assert lost[CONTRADICTORY] == 4
    assert lost[ALONE] >= 1
    facts = book.facts(train, held_out)
    assert (facts["people"], facts["pairs"]) == (len(learned), len(train))
    assert facts["held_out"] == len(held_out)
    assert facts["unseen"] == 0, "Dora's only pair makes nobody unseen"
    told = book.sentence(train, held_out)
    assert "4 contradictory pairs" in told
    assert f"checked by {len(held_out)} held-out ones" in told


def test_a_held_out_pair_is_asked_with_examples_of_training_where_there_are_any(data, kept):
    book, train, held_out = opened(data, kept, **{"personal.subsets": 3})
    seen = {pair.id for pair in train}
    asked = [pair for pair in held_out if pair.judge in ("anna", "ben")]
    assert asked
    for pair in asked:
        assert all(each.id in seen for choice in book.away(pair) for each in choice)


def test_somebody_unseen_is_asked_with_their_own_other_held_out_pairs(tmp_path, kept):
    data = people(tmp_path, {**BUSY, "cleo": [True] * 6})
    more = {"split.by": "judge", "split.held_out": 0.3}
    book, train, held_out = opened(data, kept, **more)
    (unseen,) = {pair.judge for pair in held_out}
    assert unseen not in {pair.judge for pair in train}
    assert unseen not in book.people
    for pair in held_out:
        assert book.away(pair)
        assert not any(pictures(each) & pictures(pair) for c in book.away(pair) for each in c)
    assert book.facts(train, held_out)["unseen"] == 1


def test_one_person_alone_has_nobody_to_be_told_apart_from(tmp_path, kept):
    data = people(tmp_path, {"anna": [True] * 8, "dora": [True]})
    with pytest.raises(DataError, match=r"Got 1 of 2 people.*Need two people or more"):
        opened(data, kept)


def test_ties_and_contradictions_alone_teach_nothing(tmp_path, kept):
    data = people(tmp_path, {name: PEOPLE[name] for name in ("emma", "finn")})
    with pytest.raises(DataError, match="2 ties, 4 contradictory pairs"):
        opened(data, kept)


def test_a_cap_and_an_even_order_keep_the_busy_from_deciding(tmp_path, kept):
    data = people(tmp_path, {"anna": [True] * 12, "ben": [False] * 4})
    book, train, _ = opened(data, kept, **{"personal.cap": 3, "split.held_out": 0.1})
    judges = [pair.judge for pair in train]
    assert judges.count("anna") == 3
    assert judges.count("ben") <= 3
    assert isinstance(book.order(train, 4), Order)
    even, train, _ = opened(data, kept, **{"personal.order": "uniform"})
    order = even.order(train, 4)
    assert isinstance(order, ByUser)
    drawn = [train[index].judge for step in range(8) for index in order.indices(step)]
    assert drawn.count("anna") == drawn.count("ben") == 16


def test_learned_vectors_are_one_number_for_each_person_and_none_for_others(data, kept):
    book, train, held_out = opened(data, kept, **{"personal.users": "learned"})
    assert book.form == (1, len(book.people))
    assert {pair.judge for pair in train} <= set(book.people)
    # Dora's only pair can be learned: her vector is not made from it.
    for pair in train:
        row = book.still().of(pair, 0)
        assert row.sum() == 1
        assert row[0, book.people.index(pair.judge)] == 1
    assert {pair.judge for pair in held_out} <= set(book.people)


def test_embeddings_are_made_once_and_read_again(data, tmp_path):
    said: list[str] = []
    run, pairs = run_of(data), PreferencePairs.open(data)
    first = open_book(run, pairs, tmp_path, device="cpu", tell=said.append)
    second = open_book(run, pairs, tmp_path, device="cpu", tell=said.append)
    assert first is not None
    assert second is not None
    assert first.digest == second.digest
    assert said[0].startswith("users: 0 reused, ")
    assert said[1].startswith("users: ")
    assert "computed" not in said[1]
    other = open_book(
        run_of(data, **{"personal.pooling": "pairs"}), pairs, tmp_path, device="cpu",
        tell=said.append,
    )  # fmt: skip
    assert other is not None
    assert other.digest != first.digest
    assert "rebuilt (encoder changed" in said[2]


def test_a_run_without_people_has_no_book(data, tmp_path):
    run = Run.from_values({"model": "m", "data": str(data)})
    pairs = PreferencePairs.open(data)
    assert open_book(run, pairs, tmp_path, device="cpu", tell=print) is None
