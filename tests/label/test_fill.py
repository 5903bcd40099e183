"""A store's pairs, put to a labeler: each once, in one order, and nothing half-done."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.core.problems import DataError, StateError
from palate.data.comparison import ImageRef, Source, compare
from palate.data.store import Store
from palate.data.votes import by_pair, key_of
from palate.label import Answer, Journal, Pictures, Question, Told
from palate.label.fill import fill, pictures_of, questions_of


def ignore(done: int, total: int) -> None:
    """Nobody listens."""


class Bright:
    """Prefers the brighter picture, is told what to refuse, and may break after some answers."""

    judge, identity, asks = "bright 1", "b" * 64, "a" * 64
    source: Source = "scorer"

    def __init__(self, refuse: frozenset[str] = frozenset(), breaks_after: int = 99) -> None:
        self.refuse, self.breaks_after = refuse, breaks_after
        self.asked: list[Question] = []

    def label(
        self, questions: Sequence[Question], pictures: Pictures, journal: Journal, told: Told
    ) -> Iterator[tuple[Question, Answer]]:
        for question in questions:
            if len(self.asked) == self.breaks_after:
                raise StateError(got="a break", need="none", fix="Try again.")
            self.asked.append(question)
            journal.keep(str(question.key), {"asked": True})
            first, second = (float(pictures(image.sha256).mean()) for image in question.images)
            signature = {"means": [first, second], "identity": self.identity}
            if question.prompt in self.refuse:
                yield question, Answer(agreement=None, reason="refused", signature=signature)
            else:
                agreement = 0.5 if first == second else float(first > second)
                yield question, Answer(agreement=agreement, signature=signature)


def kept(store: Store, *shades: int) -> list[ImageRef]:
    """Plain pictures in a store."""
    return [store.put(np.full((6, 6, 3), shade, np.uint8)) for shade in shades]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three prompts, nine pairs.

    One has a pair that three people judged, two for the bright picture, on either side; one has a
    pair nobody judged; one has four pictures, ranked from dark to bright.
    """
    store = Store(tmp_path / "store")
    with store.writing():
        bright, dark, other = kept(store, 200, 50, 90)
        four = kept(store, 10, 20, 30, 40)
        made = ({"model": "m", "seed": 1}, {"model": "m", "seed": 2})
        store.add(
            [
                compare(
                    prompt="one", images=[bright, dark], agreement=1.0, judge="p1", source="human",
                    generation=made,
                ),
                compare(prompt="one", images=[dark, bright], agreement=0.0, judge="p2"),
                compare(prompt="one", images=[dark, bright], agreement=1.0, judge="p3"),
                compare(prompt="two", images=[bright, other]),
                compare(prompt="three", images=four, ranks=[1, 2, 3, 4], judge="p1"),
                compare(prompt="four", images=[other, dark], agreement=0.5, judge="p1"),
            ]
        )  # fmt: skip
    return store


def machines(store: Store) -> list:
    return [row for row in store.rows() if row.source == "scorer"]


def test_every_pair_is_asked_once_in_the_order_of_its_digests(store: Store) -> None:
    labeler = Bright()
    filled = fill(store, labeler, told=ignore)
    assert (filled.pairs, filled.asked, filled.before) == (9, 9, 0)
    keys = [question.key for question in labeler.asked]
    assert len(set(keys)) == 9
    rows = machines(store)
    assert [key_of(row) for row in rows] == keys
    for row, question in zip(rows, labeler.asked, strict=True):
        assert row.images == question.images
        means = row.signature["means"]
        assert row.agreement == float(means[0] > means[1])
        assert (row.judge, row.shown, row.judged_at) == ("bright 1", None, None)


def test_what_is_known_of_how_a_picture_was_made_stays_with_it(store: Store) -> None:
    fill(store, Bright(), told=ignore, limit=1)
    (row,) = machines(store)
    seeds = {
        image.sha256: made["seed"] for image, made in zip(row.images, row.generation, strict=True)
    }
    first = next(iter(store.rows()))
    assert seeds == {first.images[0].sha256: 1, first.images[1].sha256: 2}


def test_agreement_with_people_by_hand(store: Store) -> None:
    """One of seven: people preferred the bright picture of `one` by two votes to one.

    In `three` they preferred the darker one of all six pairs, `two` nobody judged, and `four` they
    called a tie. Prompts count, so it is the mean of 1 and 0.
    """
    filled = fill(store, Bright(), told=ignore)
    assert filled.agree is not None
    assert (filled.agree.value, filled.agree.n, filled.agree.measurements) == (0.5, 2, 7)


def test_pairs_without_a_label_are_counted_and_written_nowhere(store: Store) -> None:
    filled = fill(store, Bright(frozenset(("three",))), told=ignore)
    assert (dict(filled.none), filled.labelled) == ({"refused": 6}, 3)
    assert {row.prompt for row in machines(store)} == {"one", "two", "four"}
    noted = store.imports()[-1]
    assert (noted["source"], noted["read"], noted["kept"], noted["dropped"]) == (
        "label", 9, 3, {"refused": 6},
    )  # fmt: skip
    again = fill(store, Bright(), told=ignore)
    assert (again.before, again.asked, again.labelled) == (3, 6, 6)


def test_a_labeler_without_any_label_adds_no_part(store: Store) -> None:
    """What it withheld is noted all the same, once: asked again, it says nothing new."""
    parts = sorted(path.name for path in (store.folder / "parts").iterdir())
    for _ in range(2):
        filled = fill(store, Bright(frozenset(("one", "two", "three", "four"))), told=ignore)
        assert (filled.labelled, filled.agree) == (0, None)
        assert sorted(path.name for path in (store.folder / "parts").iterdir()) == parts
        (noted,) = store.imports()
        assert (noted["read"], noted["kept"], noted["dropped"]) == (9, 0, {"refused": 9})


def test_which_pairs_have_no_label_and_why_is_kept(store: Store) -> None:
    filled = fill(store, Bright(frozenset(("three",))), told=ignore)
    assert filled.listed.parent == store.folder / "asked"
    assert filled.listed.name == f"bright-1-{'b' * 12}-withheld.jsonl"
    lines = [json.loads(line) for line in filled.listed.read_text().splitlines()]
    keys = {question.key for question in questions_of(by_pair(store.rows()))}
    expected = {key for key in keys if key[0] == "three"}
    assert {(each["prompt"], *each["pictures"]) for each in lines} == expected
    assert {each["reason"] for each in lines} == {"refused"}
    assert all(len(each["signature"]["means"]) == 2 for each in lines)
    told = filled.to_json()
    assert [(each["prompt"], each["reason"]) for each in told["withheld"]] == [
        ("three", "refused")
    ] * 6
    assert told["withheld_in"] == str(filled.listed)


def test_a_pair_that_has_a_label_after_all_leaves_the_list(store: Store) -> None:
    fill(store, Bright(frozenset(("two", "three"))), told=ignore)
    filled = fill(store, Bright(frozenset(("two",))), told=ignore)
    assert (filled.before, filled.labelled, len(filled.withheld)) == (2, 6, 1)
    assert len(filled.listed.read_text().splitlines()) == 1
    assert fill(store, Bright(), told=ignore).to_json()["withheld_in"] is None
    assert filled.listed.read_text() == ""


def test_a_list_that_was_damaged_is_refused_and_can_be_removed(store: Store) -> None:
    filled = fill(store, Bright(frozenset(("three",))), told=ignore)
    whole = filled.listed.read_text()
    filled.listed.write_text(whole[:-9])
    with pytest.raises(DataError, match="withheld"):
        fill(store, Bright(frozenset(("three",))), told=ignore)
    filled.listed.unlink()
    fill(store, Bright(frozenset(("three",))), told=ignore)
    assert filled.listed.read_text() == whole


def test_a_limit_comes_to_every_pair_though_some_get_no_label(store: Store) -> None:
    """The first two pairs get none: they do not stand in the way of the others."""
    refuse = frozenset(("one", "two"))
    for _ in range(5):
        fill(store, Bright(refuse), told=ignore, limit=2)
    assert len(machines(store)) == 7
    filled = fill(store, Bright(refuse), told=ignore, limit=1)
    assert (filled.before, len(filled.listed.read_text().splitlines())) == (7, 2)


@pytest.mark.parametrize(
    "change", [{"source": "vlm"}, {"signature": {"identity": "c" * 64}}, {"judge": "bright 10"}]
)
def test_labels_of_a_namesake_are_another_judges(store: Store, change: dict[str, Any]) -> None:
    """Same name, but another kind of judge, or answers that depend on something else."""
    first = next(row for row in store.rows() if row.prompt == "two")
    usual = {"judge": "bright 1", "source": "scorer", "signature": {"identity": "b" * 64}}
    facts = {"prompt": "two", "images": first.images, "agreement": 0.25}
    store.add([compare(**facts, **{**usual, **change})])
    assert fill(store, Bright(), told=ignore, limit=9).before == 0
    store.add([compare(**facts, **usual)])
    assert fill(store, Bright(), told=ignore, limit=9).before == 9


DIES = """
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from label.test_fill import Bright, ignore
from palate.data.store import Store
from palate.label.fill import fill

Store.note_import = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
fill(Store(Path(sys.argv[1])), Bright(frozenset(("three",))), told=ignore)
"""


def test_labels_that_a_kill_left_without_a_note_are_noted_by_the_next_labeling(
    store: Store,
) -> None:
    """A kill -9 just between the part and its note; the next one may be by another judge."""
    tests = Path(__file__).parents[1]
    child = subprocess.run([sys.executable, "-c", DIES, str(store.folder), str(tests)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert (len(machines(store)), store.imports()) == (3, [])
    other = Bright()
    other.judge, other.identity = "another 1", "d" * 64
    fill(store, other, told=ignore, limit=1)
    late, own = store.imports()
    assert (late["path"], late["read"], late["kept"], late["dropped"]) == (
        "bright 1", 9, 3, {"refused": 6},
    )  # fmt: skip
    assert (late["noted_later"], own["path"], own["kept"]) == (True, "another 1", 1)
    fill(store, Bright(frozenset(("three",))), told=ignore)
    assert len(store.imports()) == 2


def test_a_labeler_that_breaks_leaves_the_store_as_it_was_and_its_journal(store: Store) -> None:
    with pytest.raises(StateError, match="a break"):
        fill(store, Bright(breaks_after=4), told=ignore)
    assert not machines(store)
    with Journal(store.folder / "asked" / f"{'a' * 32}.jsonl") as journal:
        assert len(journal) == 4
    assert fill(store, Bright(), told=ignore).labelled == 9


def test_labels_make_no_new_snapshot_of_people(store: Store, tmp_path: Path) -> None:
    """Who freezes twice has the same people's labels, and the machine's beside them."""
    before = store.freeze(tmp_path / "before")
    fill(store, Bright(), told=ignore)
    after = store.freeze(tmp_path / "after")
    assert (before.comparisons, after.comparisons) == (6, 15)
    assert before.pictures == after.pictures


def test_the_pictures_of_a_prompt_are_those_of_all_its_records(store: Store) -> None:
    found = pictures_of(list(store.rows()))
    assert {prompt: len(names) for prompt, names in found.items()} == {
        "one": 2, "two": 2, "three": 4, "four": 2,
    }  # fmt: skip


def test_a_store_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without any pair"):
        fill(Store(tmp_path / "empty"), Bright(), told=ignore)


def test_a_damaged_picture_stops_before_anything_is_guessed(store: Store) -> None:
    png = sorted((store.folder / "pictures").glob("**/*.png"))[0]
    png.write_bytes(png.read_bytes()[:40])
    with pytest.raises(DataError):
        fill(store, Bright(), told=ignore)
    assert not machines(store)
