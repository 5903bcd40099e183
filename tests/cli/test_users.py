"""`palate users list` and `palate users split`, from Pick-a-Pic's columns to four snapshots."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palate.data.comparison import compare
from palate.data.sources import export_pickapic
from palate.data.store import Store


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (number % 256, number // 256, 90)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def many(palate, tmp_path_factory) -> Path:
    """Six people with eight prompts each, one with two pairs both ways, one with a tie only."""
    folder = tmp_path_factory.mktemp("many")
    said = [(user, f"prompt {n} of {user}", 1.0) for user in range(6) for n in range(8)]
    said += [(6, "either", 1.0), (6, "a tie", 0.5), (7, "a tie", 0.5), (8, "alone", 0.0)]
    rows = [
        {"caption": prompt, "jpg_0": picture(2 * n), "jpg_1": picture(2 * n + 1),
         "label_0": label, "user_id": user}
        for n, (user, prompt, label) in enumerate(said)
    ]  # fmt: skip
    either = next(row for row in rows if row["caption"] == "either")
    rows.append({**either, "label_0": 0.0})
    export_pickapic(rows, folder / "pairs.parquet")
    out = folder / "my-pairs"
    made = palate("data", "import", folder / "pairs.parquet", "--store", folder / "store",
                  "--freeze", out)  # fmt: skip
    assert made.code == 0, made.err
    return out


def test_the_list_says_who_judged_and_how_much_of_it_can_be_used(palate, many):
    """Six have eight pairs, one has one; the seventh contradicts themselves, the eighth is tied."""
    found = palate("users", "list", many, "--json").json
    assert (found["users"], found["ties"], found["contradictory"]) == (9, 2, 2)
    assert found["people"] is True
    assert (found["machines_left_out"], found["nameless_left_out"]) == (0, 0)
    spread = found["activity"]
    assert (spread["users"], spread["pairs"], spread["median"]) == (7, 49, 8)
    assert (spread["enough"], spread["few"], spread["alone"]) == (6, 4, 1)
    assert spread["busiest_share"] == pytest.approx(8 / 49)
    by_user = {each["user"]: each for each in found["by_user"]}
    either = by_user["pickapic/6"]
    assert (either["pairs"], either["ties"], either["contradictory"], either["usable"]) == (
        2, 1, 2, 0,
    )  # fmt: skip
    assert palate("users", "list", many, "--few", 1, "--json").json["activity"]["enough"] == 7


def test_the_list_is_printed_with_the_busiest_first_and_what_to_do_next(palate, many):
    said = palate("users", "list", many, "--most", 2)
    assert said.code == 0, said.err
    assert "and 7 more (--most)" in said.out
    assert "users with 4 different ones" in said.out
    assert f"palate users split {many} --out people" in said.out
    assert palate("users", "list", many, "--most", 0).code == 2


def test_the_split_writes_four_snapshots_that_other_commands_read(palate, many, tmp_path):
    out = tmp_path / "people"
    made = palate("users", "split", many, "--out", out, "--unseen", 0.34, "--held-out", 0.25,
                  "--json")  # fmt: skip
    assert made.code == 0, made.err
    found = made.json
    assert found["pairs"] == {"train": 25, "held-out": 8, "examples": 8, "unseen": 8}
    assert (len(found["unseen"]), found["small"], found["alone"]) == (2, 1, 1)
    assert (found["ties"], found["contradictory"], found["nothing"]) == (2, 2, 2)
    assert found["known_from_others"] == {"held-out": 0, "unseen": 0}
    for name, count in found["pairs"].items():
        shown = palate("data", "show", found["parts"][name], "--json")
        assert (shown.json["pairs"], shown.json["ties_left_out"]) == (count, 0)
        assert shown.json["digest"]
    told = json.loads((out / "people.json").read_text())
    assert (told["seed"], told["unseen"], told["seen"]) == (0, found["unseen"], found["seen"])
    listed = palate("users", "list", out / "unseen", "--json").json["by_user"]
    assert {each["user"] for each in listed} == set(found["unseen"])
    again = palate("users", "split", many, "--out", out)
    assert (again.code, "exists" in again.err) == (5, True)


def test_the_split_says_what_is_left_out_and_what_follows(palate, many, tmp_path):
    said = palate("users", "split", many, "--out", tmp_path / "people")
    assert said.code == 0, said.err
    text = " ".join(said.out.split())
    assert "2 ties are left out" in text
    assert "2 pairs are left out because the same user also said the opposite" in text
    assert "1 users cannot be unseen" in text
    assert "1 users in train have a single pair" in text
    assert f"palate train --model shipped --data {tmp_path / 'people' / 'train'}" in text


def test_splitting_by_prompt_alone_is_possible_with_one_user_and_by_user_is_not(
    palate, tmp_path
) -> None:
    one = judged(tmp_path, [("anna", "human", f"p{n}", 1.0) for n in range(4)])
    refused = palate("users", "split", one, "--out", tmp_path / "people")
    assert refused.code == 3
    assert "a single user, anna" in refused.err
    made = palate("users", "split", one, "--out", tmp_path / "people", "--unseen", 0,
                  "--held-out", 0.5, "--json")  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["pairs"] == {"train": 2, "held-out": 2}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("anna", "human", "p", 0.5)], "1 ties"),
        ([("anna", "human", "p", 1.0), ("anna", "human", "p", 0.0)], "2 contradictory pairs"),
        ([("unknown", "human", "p", 1.0)], "1 judgements without a name"),
    ],
)
def test_where_nobodys_pair_can_be_used_the_split_says_why(palate, tmp_path, rows, words):
    refused = palate("users", "split", judged(tmp_path, rows), "--out", tmp_path / "people")
    assert refused.code == 3
    assert words in refused.err
    assert not (tmp_path / "people").exists()


def test_ties_only_are_listed_and_a_snapshot_without_names_is_refused(palate, tmp_path):
    ties = judged(tmp_path / "ties", [("anna", "human", "p", 0.5)])
    said = palate("users", "list", ties)
    assert said.code == 0, said.err
    assert "anna" in said.out
    assert "Next" not in said.out
    nameless = judged(tmp_path / "nameless", [("unknown", "human", "p", 1.0)])
    refused = palate("users", "list", nameless)
    assert refused.code == 3
    assert "user_id or judge" in refused.err


def test_a_scorer_is_no_person_and_that_is_said(palate, tmp_path):
    """Beside people a scorer's labels are left out; alone, scorers are the users."""
    rows = [("clip", "scorer", f"p{n}", 1.0) for n in range(6)]
    mixed = judged(tmp_path / "mixed", [*rows, ("anna", "human", "p0", 1.0)])
    found = palate("users", "list", mixed, "--json").json
    assert [each["user"] for each in found["by_user"]] == ["anna"]
    assert (found["machines_left_out"], found["people"]) == (6, True)
    alone = judged(
        tmp_path / "alone", [*rows, *[("hps", "scorer", f"p{n}", 0.0) for n in range(6)]]
    )
    said = palate("users", "list", alone)
    assert "these users are machines" in said.err
    split = palate("users", "split", alone, "--out", tmp_path / "people")
    assert split.code == 0, split.err
    assert "these users are machines" in split.err


def judged(folder: Path, rows: list[tuple[str, str, str, float]]) -> Path:
    """Judgements (judge, kind, prompt, label); each prompt has two pictures of its own."""
    store = Store(folder / "store")
    prompts = sorted({prompt for _, _, prompt, _ in rows})
    at = {prompt: 2 * place for place, prompt in enumerate(prompts)}
    store.add(
        compare(prompt=prompt, judge=judge, source=kind, agreement=label,
                images=[store.put(np.full((8, 8, 3), at[prompt] + k, np.uint8)) for k in (0, 1)])
        for judge, kind, prompt, label in rows
    )  # fmt: skip
    return store.freeze(folder / "frozen").path
