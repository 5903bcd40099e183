"""A share of the labels is turned round once, on record, and can be turned back exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core.problems import DataError, SettingError, StateError
from palate.data.comparison import compare
from palate.data.flips import FLIPS, flip, flipped_ids, undo
from palate.data.pairs import PreferencePairs
from palate.data.part import label_part
from palate.data.snapshot import read_imports, read_rows, verify
from palate.data.store import SNAPSHOT, Store


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), number, np.uint8)


def snapshot(folder: Path, rows: list[dict]) -> Path:
    store, made = Store(folder / "store"), []
    for row in rows:
        images = [store.put(picture(number)) for number in row["images"]]
        about = {"prompt": "p", "judge": "j", "source": "human", **row, "images": images}
        made.append(compare(**about))
    store.add(made)
    store.note_import({"source": "by hand"})
    return store.freeze(folder / "snapshot").path


def plain(folder: Path, count: int = 20, agreement: float = 1.0) -> Path:
    return snapshot(
        folder, [{"images": [2 * i, 2 * i + 1], "agreement": agreement} for i in range(count)]
    )


def test_a_fifth_of_twenty_labels_is_turned_round_and_nothing_else(tmp_path):
    """Twenty pairs in which the even picture won: in four the odd one wins now."""
    whole = plain(tmp_path)
    made = flip(whole, tmp_path / "out", share=0.2, seed=0)
    assert (made.flipped, made.strict, made.mirrored, made.several) == (4, 20, 0, 0)
    before = {(row.prompt, frozenset(row.images)): row for row in read_rows(whole)}
    turned = set()
    for row in read_rows(tmp_path / "out"):
        was = before[row.prompt, frozenset(row.images)]
        assert (row.judge, row.source, row.images, row.shown) == (
            was.judge, was.source, was.images, was.shown,
        )  # fmt: skip
        if row.agreement != was.agreement:
            assert (was.agreement, row.agreement, row.ranks) == (1.0, 0.0, (2, 1))
            turned.add(row.id)
        else:
            assert row == was
    assert turned == flipped_ids(tmp_path / "out")
    assert len(turned) == 4
    assert turned < {pair.id for pair in PreferencePairs.open(tmp_path / "out")}
    verify(tmp_path / "out")


def test_turning_back_gives_the_original_digest_and_record(tmp_path):
    """0.1 is the number for which 1 - (1 - a) is not a."""
    whole = plain(tmp_path, agreement=0.1)
    assert 1 - (1 - 0.1) != 0.1
    flip(whole, tmp_path / "out", share=0.4, seed=3)
    back = undo(tmp_path / "out", tmp_path / "back")
    assert json.loads((whole / SNAPSHOT).read_text()) == json.loads(
        (tmp_path / "back" / SNAPSHOT).read_text()
    )
    assert read_rows(tmp_path / "back") == read_rows(whole)
    assert back.digest != json.loads((tmp_path / "out" / SNAPSHOT).read_text())["digest"]
    assert flipped_ids(tmp_path / "back") == flipped_ids(whole) == frozenset()


def test_the_record_says_what_was_done(tmp_path):
    whole = plain(tmp_path)
    flip(whole, tmp_path / "out", share=0.1, seed=7)
    first, note = read_imports(tmp_path / "out")
    assert first == {"source": "by hand"}
    about = note[FLIPS]
    assert (about["share"], about["seed"], about["strict"]) == (0.1, 7, 20)
    assert about["original"] == json.loads((whole / SNAPSHOT).read_text())["digest"]
    old = {row.id for row in read_rows(whole)}
    assert set(about["records"]) == flipped_ids(tmp_path / "out")
    assert {name for name, _ in about["records"].values()} < old


def test_ties_and_unlabelled_and_rankings_and_mirrored_judgements_are_left_alone(tmp_path):
    """Turned round, the judge's two answers would only change places."""
    whole = snapshot(
        tmp_path,
        [
            {"images": [0, 1], "agreement": 0.5},
            {"images": [2, 3]},
            {"images": [4, 5, 6], "ranks": [1, 2, 3]},
            {"images": [7, 8], "agreement": 1.0},
            {"images": [7, 8], "agreement": 0.0},
            {"images": [7, 8], "agreement": 0.0, "judge": "another"},
        ],
    )
    made = flip(whole, tmp_path / "out", share=1, seed=0)
    assert (made.flipped, made.strict, made.mirrored, made.several) == (1, 1, 2, 1)
    (turned,) = flipped_ids(tmp_path / "out")
    kept = [row for row in read_rows(tmp_path / "out") if row.id != turned]
    assert {row.id for row in kept} < {row.id for row in read_rows(whole)}


def test_a_larger_share_holds_the_smaller_one_and_the_seed_decides(tmp_path):
    whole = plain(tmp_path)

    def drawn(name: str, share: float, seed: int) -> set[str]:
        flip(whole, tmp_path / name, share=share, seed=seed)
        return set(read_imports(tmp_path / name)[-1][FLIPS]["records"])

    assert drawn("a", 0.1, 0) < drawn("b", 0.2, 0) < drawn("c", 0.4, 0)
    assert drawn("d", 0.2, 0) == drawn("e", 0.2, 0) != drawn("f", 0.2, 1)


def test_every_label_is_as_likely_to_be_turned_round(tmp_path):
    """Ten labels, a fifth of them, 300 seeds: each is expected 60 times, give or take 3.3 · 7."""
    from palate.core.streams import Streams

    names = [row.id for row in read_rows(plain(tmp_path, 10))]
    counts = dict.fromkeys(names, 0)
    for seed in range(300):
        streams = Streams(seed)
        for name in sorted(names, key=lambda name: streams("flip", name).seed)[:2]:
            counts[name] += 1
    assert sum(counts.values()) == 600
    assert all(37 <= count <= 83 for count in counts.values())


def test_what_remains_in_a_snapshot_made_from_a_flipped_one_is_still_known(tmp_path):
    flip(plain(tmp_path), tmp_path / "out", share=0.4, seed=0)
    label_part(tmp_path / "out", tmp_path / "few", share=0.5, seed=0)
    left = flipped_ids(tmp_path / "few")
    assert left < flipped_ids(tmp_path / "out")
    assert left == {
        row.id for row in read_rows(tmp_path / "few") if row.id in flipped_ids(tmp_path / "out")
    }
    with pytest.raises(StateError, match="changed after labels were turned round"):
        undo(tmp_path / "few", tmp_path / "back")


def test_what_cannot_be_turned_round_is_refused(tmp_path):
    whole = plain(tmp_path, 4)
    for share in (0, 1.5, -1):
        with pytest.raises(SettingError, match="a share above 0, up to 1"):
            flip(whole, tmp_path / "out", share=share, seed=0)
    with pytest.raises(StateError, match="no label was turned round"):
        undo(whole, tmp_path / "out")
    flip(whole, tmp_path / "out", share=0.5, seed=0)
    with pytest.raises(StateError, match="turned round already"):
        flip(tmp_path / "out", tmp_path / "again", share=0.5, seed=0)
    ties = snapshot(tmp_path / "ties", [{"images": [0, 1], "agreement": 0.5}])
    with pytest.raises(DataError, match="without a label that can be turned round"):
        flip(ties, tmp_path / "none", share=0.5, seed=0)


@settings(max_examples=15, deadline=None)
@given(
    labels=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=6),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 5),
)
def test_whatever_is_turned_round_can_be_turned_back(tmp_path_factory, labels, share, seed):
    folder = tmp_path_factory.mktemp("any")
    rows = [{"images": [2 * i, 2 * i + 1], "agreement": a} for i, a in enumerate(labels)]
    whole = snapshot(folder, rows)
    if all(label in (None, 0.5) for label in labels):
        return
    made = flip(whole, folder / "out", share=share, seed=seed)
    assert 1 <= made.flipped <= made.strict
    undo(folder / "out", folder / "back")
    assert read_rows(folder / "back") == read_rows(whole)
