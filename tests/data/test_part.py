"""A random part keeps people's labels; the others are hidden, and a machine's stand beside them."""

import math
from pathlib import Path

import numpy as np
import pytest

from palate.core.problems import DataError, SettingError, StateError
from palate.data.comparison import compare
from palate.data.labelers import TOGETHER
from palate.data.machine import Machine
from palate.data.part import label_part
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


def brightness(images, _prompts) -> np.ndarray:
    """A machine that is always right here: half a point for each shade brighter."""
    return -darkness(images, _prompts)


BRIGHT = Machine(judge="bright", score=brightness)


def test_several_machines_each_put_their_label_and_their_mean_is_reported_too(tmp_path):
    """One says sigmoid(1/2) = 0.622 and the other 0.378 for the same picture: together one half."""
    both = (DARK, BRIGHT)
    part = label_part(judged(tmp_path), tmp_path / "out", share=0.5, seed=0, machine=both)
    rows = [row for row in read_rows(tmp_path / "out") if row.source == "scorer"]
    assert len(rows) == 2 * PAIRS
    worth = {each.judge: each for each in part.worths}
    assert set(worth) == {"bright", "dark", TOGETHER}
    assert [worth[name].labelled for name in ("bright", "dark", TOGETHER)] == [10, 10, 10]
    right = {name: each.accuracy.value for name, each in worth.items()}
    assert right == {"bright": 1.0, "dark": 0.0, TOGETHER: 0.5}
    assert worth[TOGETHER].ratio.value == pytest.approx(1.0)
    assert worth["dark"].leanings["brighter"].value == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert read_imports(tmp_path / "out")[-1][LABELLED_PART]["machine"] == "dark, bright"


def test_tuning_turns_an_always_wrong_scorer_round_without_seeing_the_label_it_answers(tmp_path):
    """Twenty pairs of ten prompts, people's labels on half; the label's record names its fold."""
    whole = judged(tmp_path)
    part = label_part(whole, tmp_path / "out", share=0.5, seed=0, machine=DARK, tuned=True)
    (worth,) = part.worths
    assert worth.accuracy.value == 1.0
    assert worth.ratio.value < 1
    note = read_imports(tmp_path / "out")[-1]
    assert note[LABELLED_PART]["sharpness"] == "tuned"
    assert note["tuned"]["cross_fitted"] is True
    assert sum(note["tuned"]["labelled"]) == 10
    assert all(weight < 0 for (weight,) in note["tuned"]["weights"])
    assert note["labelers"][0]["verdict"] == worth.verdict
    made = [row for row in read_rows(tmp_path / "out") if row.source == "scorer"]
    assert len(made) == PAIRS
    assert {row.signature["tuned"]["without fold"] for row in made} == set(range(5))
    folds = {}
    for row in made:
        folds.setdefault(row.prompt, set()).add(row.signature["tuned"]["without fold"])
    assert all(len(each) == 1 for each in folds.values())


def test_hidden_labels_are_not_tuned_on(tmp_path):
    """Planted: the labels that the draw hides say the opposite; the tuned labels do not change."""
    whole = judged(tmp_path / "a")
    label_part(whole, tmp_path / "out", share=0.5, seed=0, machine=DARK, tuned=True)
    kept = {row.prompt + row.images[0].sha256 for row in read_rows(tmp_path / "out")
            if row.source == "human"}  # fmt: skip
    rows = [{"images": [2 * i, 2 * i + 1], "judge": "p", "source": "human"} for i in range(PAIRS)]
    names = {row.images[0].sha256: row for row in read_rows(whole)}
    for row in rows:
        at = store_name(tmp_path, row["images"][0])
        row["agreement"] = 0.0 if names[at].prompt + at in kept else 1.0
    label_part(
        judged(tmp_path / "b", rows), tmp_path / "two", share=0.5, seed=0, machine=DARK, tuned=True
    )

    def machine(folder: str) -> dict[str, float]:
        made = [row for row in read_rows(tmp_path / folder) if row.source == "scorer"]
        return {row.images[0].sha256: row.agreement for row in made}

    assert machine("two") == machine("out")


def store_name(folder: Path, number: int) -> str:
    return Store(folder / "names").put(picture(number)).sha256


def test_labels_that_are_there_are_kept_and_reported_and_can_be_tuned(tmp_path):
    """A vision-language model that always prefers the darker picture, and is silent on one pair."""
    rows = [{"images": [2 * i, 2 * i + 1], "agreement": 0.0, "source": "human"}
            for i in range(PAIRS)]  # fmt: skip
    rows += [{"images": [2 * i, 2 * i + 1], "agreement": 0.9, "judge": "vlm", "source": "vlm"}
             for i in range(PAIRS)]  # fmt: skip
    store, made = Store(tmp_path / "store"), []
    for place, row in enumerate(rows):
        images = [store.put(picture(number)) for number in row.pop("images")]
        made.append(compare(prompt=f"p{place % PAIRS}", images=images, **row))
    store.add(made[:-1])
    whole = store.freeze(tmp_path / "snapshot").path
    plain = label_part(whole, tmp_path / "plain", share=0.5, seed=0)
    assert plain.machine == PAIRS - 1
    assert [(each.judge, each.accuracy.value) for each in plain.worths] == [("vlm", 0.0)]
    before = {row.id for row in read_rows(whole) if row.source == "vlm"}
    assert before <= {row.id for row in read_rows(tmp_path / "plain")}
    tuned = label_part(whole, tmp_path / "tuned", share=0.5, seed=0, tuned=True)
    assert tuned.machine == PAIRS - 1
    assert tuned.worths[0].accuracy.value == 1.0
    assert {row.source for row in read_rows(tmp_path / "tuned") if row.labelled} == {"human", "vlm"}
    with pytest.raises(DataError, match="without a machine's label to tune"):
        label_part(judged(tmp_path / "n"), tmp_path / "no", share=0.5, seed=0, tuned=True)
