"""`palate data judges` and `palate data aggregate`, from votes in a store to a soft snapshot."""

import numpy as np
import pytest

from palate.data.comparison import compare
from palate.data.snapshot import read_rows
from palate.data.store import Store


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """Twelve prompts; anna, ben and cleo prefer the first picture, cleo not on every third."""
    folder = tmp_path_factory.mktemp("voted")
    store = Store(folder / "store")
    refs = [store.put(np.full((8, 8, 3), shade, np.uint8)) for shade in (10, 200)]
    rows = [
        compare(
            prompt=f"prompt {n}", images=refs, ranks=(2, 1) if wrong else (1, 2), judge=judge,
            source="human", shown=(0, 1) if n % 2 else (1, 0),
            generation=[{"model": "new"}, {"model": "old"}],
        )
        for n in range(12)
        for judge in ("anna", "ben", "cleo")
        for wrong in [judge == "cleo" and n % 3 == 0]
    ]  # fmt: skip
    rows.append(compare(prompt="prompt 0", images=refs, ranks=(1, 2), judge="clip",
                        source="scorer"))  # fmt: skip
    store.add(rows)
    store.freeze(folder / "frozen")
    return folder


def test_judges_of_a_store_and_of_its_snapshot_are_the_same(palate, voted):
    """Four of twelve pairs are contradictory; cleo is with the others on eight of twelve."""
    made = [palate("data", "judges", voted / name, "--json") for name in ("store", "frozen")]
    assert [each.code for each in made] == [0, 0], made[0].err
    assert made[0].json == made[1].json
    found = made[0].json
    people, machines = found["people"], found["machines"]
    assert (people["votes"], people["pairs"], people["judges"]) == (36, 12, 3)
    assert (machines["votes"], machines["pairs"], machines["judges"]) == (1, 1, 1)
    assert people["contradictory"]["value"] == pytest.approx(4 / 12)
    assert people["alpha"]["low"] < people["alpha"]["value"] < people["alpha"]["high"]
    by_judge = {each["judge"]: each for each in found["by_judge"]}
    assert by_judge["cleo"]["agreement"]["value"] == pytest.approx(8 / 12)
    assert by_judge["anna"]["shown_first"]["value"] == pytest.approx(0.5)
    assert by_judge["clip"]["shown_first"] is None
    assert by_judge["clip"]["compared"] == 1
    assert [each["model"] for each in found["models"]] == ["new", "old"]
    assert (found["models_by"], sum(each["votes"] for each in found["models"])) == ("people", 72)


def test_machines_that_outnumber_people_change_nothing_that_is_said_of_people(palate, tmp_path):
    """Two people agree forty times of forty, and three scorers always say the opposite."""
    store = Store(tmp_path / "store")
    refs = [store.put(np.full((8, 8, 3), shade, np.uint8)) for shade in (10, 200)]
    said = {"anna": "human", "ben": "human", "clip": "scorer", "pick": "scorer", "hps": "scorer"}
    store.add(
        compare(prompt=f"p{n}", images=refs, judge=judge, source=source,
                agreement=float(source == "human"))
        for n in range(40)
        for judge, source in said.items()
    )  # fmt: skip
    found = palate("data", "judges", tmp_path / "store", "--json").json
    assert found["people"]["pairwise_agreement"]["value"] == 1
    assert found["people"]["expected_flips"]["value"] == 0
    assert found["machines"]["pairwise_agreement"]["value"] == 1
    assert "expected_flips" not in found["machines"]
    agreement = {each["judge"]: each["agreement"]["value"] for each in found["by_judge"]}
    assert agreement == {"anna": 1, "ben": 1, "clip": 0, "pick": 0, "hps": 0}
    drawn_in = {each["judge"]: each["shrunk"] for each in found["by_judge"]}
    assert drawn_in["anna"] > 0.9
    assert drawn_in["clip"] < 0.1
    told = palate("data", "judges", tmp_path / "store").out
    assert "agrees with people" in told


def test_judges_are_printed_with_their_intervals(palate, voted):
    said = palate("data", "judges", voted / "frozen", "--most", "2")
    assert said.code == 0, said.err
    assert "Krippendorff's alpha" in said.out
    assert "and 2 more (--most)" in said.out
    assert "n = 12" in said.out
    assert "palate data aggregate" in said.out


@pytest.mark.parametrize("by", ["votes", "dawid-skene", "bradley-terry"])
def test_a_snapshot_of_one_label_per_pair(palate, voted, tmp_path, by):
    out = tmp_path / "soft"
    made = palate("data", "aggregate", voted / "frozen", out, "--by", by, "--only", "human",
                  "--json")  # fmt: skip
    assert made.code == 0, made.err
    people = made.json["people"]
    assert (people["labelled"], people["source"], made.json["carried"]) == (12, "human", 1)
    assert made.json["machines"] is None
    rows = read_rows(out)
    assert {row.judge for row in rows} == {people["judge"], "clip"}
    assert all(0 < row.agreement < 1 for row in rows if row.source == "human")
    again = palate("data", "aggregate", voted / "frozen", out)
    assert again.code == 5
    assert "exists" in again.err


@pytest.mark.parametrize("most", ["-3", "0"])
def test_fewer_judges_than_one_cannot_be_printed(palate, voted, most):
    said = palate("data", "judges", voted / "frozen", "--most", most)
    assert said.code == 2
    assert f"--most {most}" in said.err


def test_labels_of_people_and_of_machines_are_told_one_by_one(palate, voted, tmp_path):
    made = palate("data", "aggregate", voted / "frozen", tmp_path / "soft")
    assert made.code == 0, made.err
    assert "people: 12 of 12 pairs have one label of 36 votes by 3 judges" in " ".join(
        made.out.split()
    )
    assert "1 other labels stay as they were" in " ".join(made.out.split())


def test_a_folder_without_votes_is_refused_in_three_parts(palate, voted, tmp_path):
    assert palate("data", "judges", tmp_path / "none").code == 3
    wrong = palate("data", "aggregate", voted / "frozen", tmp_path / "out", "--only", "vlm")
    assert wrong.code == 3
    assert "source vlm" in wrong.err
    store = Store(tmp_path / "bare")
    refs = [store.put(np.full((8, 8, 3), shade, np.uint8)) for shade in (1, 2)]
    store.add([compare(prompt="p", images=refs)])
    assert palate("data", "judges", tmp_path / "bare").code == 3
