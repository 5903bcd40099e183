"""A random part keeps people's labels; the others are hidden, and a machine's stand beside them."""

import math
from pathlib import Path

import numpy as np
import pytest

from palate.core.problems import DataError, SettingError, StateError
from palate.data.comparison import compare
from palate.data.part import Machine, label_part
from palate.data.snapshot import read_imports, read_rows, verify
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART, drawn_at_random

PAIRS = 20


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), number, np.uint8)


def judged(folder: Path, rows: list[dict] | None = None) -> Path:
    """Pairs in which people preferred the brighter picture, unless other rows are given."""
    plain = [{"images": [2 * i, 2 * i + 1], "agreement": 0.0, "judge": "p", "source": "human"}
             for i in range(PAIRS)]  # fmt: skip
    store = Store(folder / "store")
    made = []
    for i, row in enumerate(rows or plain):
        images = [store.put(picture(number)) for number in row.pop("images")]
        made.append(compare(prompt=f"p{i // 2}", images=images, **row))
    store.add(made)
    return store.freeze(folder / "snapshot").path


def darkness(images, _prompts) -> np.ndarray:
    """A machine that is always wrong: half a point for each shade darker."""
    return np.array([-float(image.mean()) / 2 for image in images])


DARK = Machine(judge="dark", score=darkness)


def test_a_part_keeps_its_labels_and_every_pair_gets_the_machines(tmp_path):
    """The second picture is one shade brighter: the machine gives it sigmoid(-1/2)."""
    part = label_part(judged(tmp_path), tmp_path / "out", share=0.25, seed=0, machine=DARK)
    assert (part.pairs, part.people, part.machine, part.agree) == (20, 5, 20, 0.0)
    rows = read_rows(tmp_path / "out")
    by_people = [row for row in rows if row.source == "human"]
    assert len(by_people) == 5
    assert {row.id for row in by_people} <= {row.id for row in read_rows(tmp_path / "snapshot")}
    for row in rows:
        if row.source == "scorer":
            assert row.judge == "dark"
            assert row.agreement == pytest.approx(1 / (1 + math.exp(-0.5)))
    verify(tmp_path / "out")


def test_the_record_says_how_the_part_was_drawn(tmp_path):
    whole = judged(tmp_path)
    assert not drawn_at_random(whole)
    label_part(whole, tmp_path / "out", share=0.25, seed=7, machine=DARK)
    note = read_imports(tmp_path / "out")[-1][LABELLED_PART]
    assert note == {
        "at_random": True, "share": 0.25, "seed": 7, "pairs": 20, "people": 5, "machine": "dark",
        "sharpness": 1.0,
    }  # fmt: skip
    assert drawn_at_random(tmp_path / "out")


def test_the_seed_decides_which_part(tmp_path):
    whole = judged(tmp_path)

    def kept(seed: int, name: str) -> set[str]:
        label_part(whole, tmp_path / name, share=0.5, seed=seed)
        return {row.id for row in read_rows(tmp_path / name) if row.labelled}

    assert kept(0, "a") == kept(0, "b") != kept(1, "c")


def test_a_pair_without_any_label_left_stays_as_unlabelled(tmp_path):
    part = label_part(judged(tmp_path), tmp_path / "out", share=0.25, seed=0)
    rows = read_rows(tmp_path / "out")
    assert (part.people, part.machine, part.agree) == (5, 0, None)
    assert sum(not row.labelled for row in rows) == 15
    assert len(rows) == 20


def test_a_part_of_pairs_that_were_picked_is_no_random_part(tmp_path):
    """Nobody judged the last pair: who knows why? A part of a random part is one, though."""
    rows = [{"images": [2 * i, 2 * i + 1], "agreement": 1.0, "source": "human"} for i in range(9)]
    picked = judged(tmp_path, [*rows, {"images": [90, 91]}])
    label_part(picked, tmp_path / "out", share=0.5, seed=0, machine=DARK)
    assert not drawn_at_random(tmp_path / "out")
    label_part(judged(tmp_path / "b"), tmp_path / "half", share=0.5, seed=0)
    part = label_part(tmp_path / "half", tmp_path / "both", share=1, seed=0, machine=DARK)
    assert (part.pairs, part.people, part.machine) == (20, 10, 20)
    assert drawn_at_random(tmp_path / "both")


def test_records_of_several_pictures_become_pairs_and_new_labels_replace_a_machines(tmp_path):
    whole = judged(
        tmp_path,
        [{"images": [1, 2, 3], "ranks": [1, 2, 2], "judge": "p", "source": "human"},
         {"images": [1, 2], "agreement": 1.0, "judge": "old", "source": "vlm"}],
    )  # fmt: skip
    part = label_part(whole, tmp_path / "out", share=1, seed=0, machine=DARK)
    assert (part.pairs, part.people, part.machine) == (3, 3, 3)
    rows = read_rows(tmp_path / "out")
    assert sorted(row.agreement for row in rows if row.source == "human") == [0.5, 1.0, 1.0]
    assert {row.judge for row in rows} == {"p", "dark"}
    assert part.agree == 1.0


def test_a_picture_the_machine_cannot_score_gets_no_label(tmp_path):
    def broken(images, prompts):
        return np.where([text == "p0" for text in prompts], math.nan, darkness(images, prompts))

    machine = Machine(judge="m", score=broken)
    part = label_part(judged(tmp_path), tmp_path / "out", share=1, seed=0, machine=machine)
    assert (part.people, part.machine) == (20, 18)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    whole = judged(tmp_path)
    for share in (0, 1.5):
        with pytest.raises(SettingError, match="a share above 0, up to 1"):
            label_part(whole, tmp_path / "out", share=share, seed=0)
    with pytest.raises(StateError):
        label_part(whole, whole, share=1, seed=0)
    nobody = judged(tmp_path / "n", [{"images": [1, 2], "agreement": 1.0, "source": "scorer"}])
    with pytest.raises(DataError, match="without a pair that people judged"):
        label_part(nobody, tmp_path / "out", share=1, seed=0)
