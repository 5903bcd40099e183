"""Several snapshots become one: each record once, and a question goes once it is answered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.core.problems import DataError, StateError
from palate.data.comparison import Comparison, compare
from palate.data.join import JOINED, join
from palate.data.part import label_part
from palate.data.snapshot import read_imports, read_rows, verify
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART, drawn_at_random

WIN: dict[str, Any] = {"agreement": 1.0, "judge": "anna", "source": "human"}
OTHER: dict[str, Any] = {"agreement": 0.25, "judge": "machine", "source": "scorer"}
BARE: dict[str, Any] = {"judge": "nobody"}


def snapshot(folder: Path, *rows: tuple[list[int], dict[str, Any]]) -> Path:
    """Plain pictures by their shade, all for one prompt."""
    store = Store(folder.with_name(f"{folder.name}-store"))
    for shades, facts in rows:
        images = [store.put(np.full((8, 8, 3), shade, np.uint8)) for shade in shades]
        store.add([compare(prompt="p", images=images, **facts)])
    store.note_import({"source": folder.name})
    return store.freeze(folder).path


def said(rows: list[Comparison]) -> list[tuple[str, float | None]]:
    return sorted((row.judge, row.agreement) for row in rows)


def test_each_record_once_and_answered_questions_go(tmp_path):
    """Four pairs: one in both, one answered in the other, one answered in its own, one open."""
    first = snapshot(
        tmp_path / "first", ([1, 2], WIN), ([3, 4], BARE), ([5, 6], BARE), ([7, 8], BARE)
    )
    second = snapshot(
        tmp_path / "second", ([2, 1], {**WIN, "agreement": 0.0}), ([4, 3], OTHER), ([3, 4], BARE),
        ([5, 6], BARE), ([5, 6], WIN), ([7, 8], BARE),
    )  # fmt: skip
    made = join([first, second], tmp_path / "out")
    # Bare: 3-4 twice, 5-6 twice are answered; 1-2 turned round, and 7-8, are there already.
    assert made.asdict() == {"before": 10, "kept": 4, "same": 2, "answered": 4}
    rows = read_rows(tmp_path / "out")
    assert said(rows) == [("anna", 1.0), ("anna", 1.0), ("machine", 0.25), ("nobody", None)]
    assert made.snapshot.pictures == 8
    verify(tmp_path / "out")
    for folder in (first, second):
        verify(folder)


def test_a_question_about_many_pictures_stays_until_every_pair_of_them_is_answered(tmp_path):
    first = snapshot(tmp_path / "first", ([1, 2, 3], BARE))
    two = [([1, 2], WIN), ([1, 3], WIN)]
    some = join([first, snapshot(tmp_path / "two", *two)], tmp_path / "some")
    assert (some.kept, some.answered) == (3, 0)
    every = join([first, snapshot(tmp_path / "three", *two, ([2, 3], WIN))], tmp_path / "every")
    assert (every.kept, every.answered) == (3, 1)


def test_the_record_says_what_was_joined_and_how_all_of_it_came_to_be(tmp_path):
    first = snapshot(tmp_path / "first", ([1, 2], WIN))
    second = snapshot(tmp_path / "second", ([1, 2], OTHER))
    join([first, second, first], tmp_path / "out")
    *before, note = read_imports(tmp_path / "out")
    assert before == [{"source": "first"}, {"source": "second"}]
    assert note[JOINED]["counts"] == {"before": 3, "kept": 2, "same": 1, "answered": 0}
    assert [each["snapshot"] for each in note[JOINED]["snapshots"]] == ["first", "second", "first"]
    assert note[JOINED]["snapshots"][1] == {
        "snapshot": "second", "digest": Store(tmp_path / "second-store").freeze(
            tmp_path / "again").digest, "comparisons": 1,
    }  # fmt: skip


def test_of_records_that_differ_in_notes_only_the_first_is_kept(tmp_path):
    first = snapshot(tmp_path / "first", ([1, 2], {**OTHER, "signature": {"by": "first"}}))
    second = snapshot(tmp_path / "second", ([1, 2], {**OTHER, "signature": {"by": "second"}}))
    for order, name in (([first, second], "first"), ([second, first], "second")):
        made = join(order, tmp_path / f"out-{name}")
        (row,) = read_rows(made.snapshot.path)
        assert row.signature == {"by": name}


def test_a_part_that_was_drawn_at_random_is_none_beside_others(tmp_path):
    whole = snapshot(tmp_path / "whole", *[([2 * n, 2 * n + 1], WIN) for n in range(8)])
    label_part(whole, tmp_path / "part", share=0.5, seed=0)
    more = snapshot(tmp_path / "more", ([90, 91], OTHER))
    join([tmp_path / "part"], tmp_path / "alone")
    assert drawn_at_random(tmp_path / "alone")
    join([tmp_path / "part", more], tmp_path / "beside")
    assert not drawn_at_random(tmp_path / "beside")
    assert read_imports(tmp_path / "beside")[-1][LABELLED_PART]["share"] == 0.5


def test_a_damaged_picture_of_any_of_them_stops_it_and_nothing_is_left(tmp_path):
    first = snapshot(tmp_path / "first", ([1, 2], WIN))
    second = snapshot(tmp_path / "second", ([3, 4], WIN))
    (pack,) = second.glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(DataError, match="second"):
        join([first, second], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_to_join_and_a_folder_that_is_there_are_refused(tmp_path):
    first = snapshot(tmp_path / "first", ([1, 2], WIN))
    with pytest.raises(DataError, match="no snapshot to join"):
        join([], tmp_path / "out")
    with pytest.raises(StateError, match="which exists"):
        join([first], first)
    with pytest.raises(DataError):
        join([tmp_path / "first-store"], tmp_path / "out")
