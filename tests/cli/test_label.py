"""`palate label`, from an imported store to labels that a training accepts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from palate.core.lock import sole_writer
from palate.data.comparison import compare
from palate.data.pairs import PreferencePairs
from palate.data.store import Store
from palate.label.rubric import open_rubric
from palate.world import training_pictures

PAIRS = 160


@pytest.fixture
def store(palate, parquet: Path, tmp_path: Path) -> Path:
    """Thirty pairs of the small world, as people judged them: 20 with a winner, 10 ties."""
    folder = tmp_path / "store"
    assert palate("data", "import", parquet, "--store", folder).code == 0
    return folder


def labels(store: Path, judge: str | None = None) -> list:
    """What machines said."""
    rows = [row for row in Store(store).rows() if row.source not in ("human", "unknown")]
    return [row for row in rows if judge is None or row.judge == judge]


def journal(store: Path) -> list[bytes]:
    every = (store / "asked").glob("*.jsonl")
    (file,) = (file for file in every if not file.stem.endswith("-withheld"))
    return file.read_bytes().splitlines()


def test_a_scorer_labels_every_pair_once_and_signs(palate, store: Path, tmp_path: Path):
    before = len(list(Store(store).rows()))
    frozen = tmp_path / "frozen"
    words = ("label", store, "--by", "world:vividness", "--sharpness", "10")
    made = palate(*words, "--freeze", frozen, "--json")
    assert made.code == 0, made.err
    found = made.json
    assert (found["pairs"], found["asked"], found["before"]) == (30, 30, 0)
    assert sum(found["labels"].values()) == 30
    assert found["agree"]["n"] == 20
    assert 0 <= found["agree"]["low"] <= found["agree"]["value"] <= found["agree"]["high"] <= 1
    rows = labels(store)
    assert len(rows) == 30
    assert {row.judge for row in rows} == {found["judge"]}
    assert {row.source for row in rows} == {"scorer"}
    assert all(len(row.signature["scores"]) == 2 for row in rows)
    assert len(list(Store(store).rows())) == before + 30
    assert len(PreferencePairs.open(frozen)) > 20
    shown = palate("data", "show", store)
    assert "label" in shown.out


def test_the_same_again_asks_nobody_and_adds_nothing(palate, store: Path):
    words = ("label", store, "--by", "world:vividness")
    first = palate(*words, "--json").json
    written = len(journal(store))
    again = palate(*words, "--json").json
    assert (again["asked"], again["before"], again["labels"]) == (0, 30, {})
    assert again["agree"] == first["agree"]
    assert len(journal(store)) == written == 60
    assert len(labels(store)) == 30
    # Another manner is another judge, of the same answers.
    hard = palate(*words, "--sharpness", "none", "--json").json
    assert hard["asked"] == 30
    assert hard["judge"] != first["judge"]
    assert len(journal(store)) == 60
    assert {row.agreement for row in labels(store, hard["judge"])} <= {0.0, 0.5, 1.0}


def test_what_it_prints_for_people(palate, store: Path):
    answer = palate("label", store, "--by", "world:vividness", "--margin", "0.3")
    assert answer.code == 0, answer.err
    for words in ("labels by vividness", "asked now", "no label: margin", "95 % interval"):
        assert words in answer.out
    assert f"palate data freeze {store}" in answer.out
    (listed,) = (store / "asked").glob("*-withheld.jsonl")
    assert f"pairs without a label, and why: {listed}" in answer.out


def test_every_pair_without_a_label_is_told_with_its_scores(palate, store: Path):
    words = ("label", store, "--by", "world:vividness", "--margin", "0.3", "--json")
    found = palate(*words).json
    withheld = found["withheld"]
    assert 0 < len(withheld) == found["none"]["margin"] == 30 - len(labels(store))
    lines = [json.loads(line) for line in Path(found["withheld_in"]).read_text().splitlines()]
    assert [
        {name: each[name] for name in ("prompt", "pictures", "reason")} for each in lines
    ] == withheld
    for each in lines:
        first, second = each["signature"]["scores"]
        assert abs(first - second) < 0.3
    labelled = {(row.prompt, *sorted(i.sha256 for i in row.images)) for row in labels(store)}
    assert not labelled & {(each["prompt"], *each["pictures"]) for each in withheld}
    assert palate(*words).json["withheld"] == withheld


def test_other_pictures_of_a_prompt_are_read_only_where_they_count(
    palate, store: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr("palate.label.fill.pictures_of", lambda rows: asked.append(rows) or {})
    by = ("--by", "world:vividness", "--by", "world:tidiness", "--limit", "1")
    assert palate("label", store, "--by", "world", "--limit", "1").code == 0
    assert palate("label", store, *by, "--together", "majority").code == 0
    assert not asked
    assert palate("label", store, *by, "--together", "calibrated").code == 0
    assert len(asked) == 1


def test_a_snapshot_that_cannot_be_written_is_refused_before_labelling(palate, store: Path):
    (store.parent / "file").touch()
    for place in (store.parent / "file" / "frozen", Path("/proc/no/frozen")):
        answer = palate("label", store, "--by", "world", "--freeze", place)
        assert answer.code == 5
        assert f"Got   --freeze {place}: " in answer.err
        assert not labels(store)
    answer = palate("label", store, "--by", "world", "--freeze", store.parent / "a" / "b", "--json")
    assert answer.code == 0
    assert not list(store.parent.glob(".unfinished*"))


@pytest.mark.parametrize("words", [(), ("general",), ("faithful",)])
def test_a_rubric_is_printed_to_be_copied_and_edited(palate, tmp_path: Path, words: tuple[str]):
    made = palate("label", "rubric", *words)
    assert made.code == 0
    (tmp_path / "mine.md").write_text(made.out)
    assert open_rubric(tmp_path / "mine.md") == open_rubric(*words)


@pytest.mark.parametrize("rule", ["majority", "pareto", "calibrated"])
def test_several_scorers_make_one_label(palate, store: Path, rule: str):
    by = ("--by", "world:vividness", "--by", "world:tidiness", "--by", "world:fidelity")
    made = palate("label", store, *by, "--together", rule, "--json")
    assert made.code == 0, made.err
    found = made.json
    assert sum(found["labels"].values()) + sum(found["none"].values()) == 30
    assert len(labels(store)) == sum(found["labels"].values()) > 0
    signature = labels(store)[0].signature
    assert signature["rule"]["name"] == rule
    assert [len(scores) for scores in signature["scores"]] == [3, 3]
    assert len(journal(store)) == 3 * 60


def test_a_limit_asks_about_the_first_pairs_and_the_next_call_about_the_rest(palate, store: Path):
    words = ("label", store, "--by", "world", "--json")
    assert palate(*words, "--limit", "7").json["asked"] == 7
    rest = palate(*words).json
    assert (rest["before"], rest["asked"]) == (7, 23)
    assert len(journal(store)) == 60


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--by", "wurld"], 2, "Did you mean world?"),
        (["--by", "owm:runs/first"], 2, "Did you mean own:RUN?"),
        (["--by", "own"], 2, "own:RUN"),
        (["--by", "own:no-such-run"], 5, "which is no run"),
        (["--by", "world", "--draws", "3"], 2, "Got   --draws with scorer world"),
        (["--by", "world", "--by", "world:vividness"], 2, "no way to ask them together"),
        (["--by", "world", "--together", "pareto"], 2, "--together pareto of world\nNeed  two"),
        (["--by", "world", "--by", "world", "--together", "pareto"], 2, "of world, world\nNeed"),
        (["--by", "world", "--by", "own:x", "--together", "pareto"], 2, "palate data aggregate"),
        (["--by", "world", "--sharpness", "0"], 2, "Got   sharpness 0"),
        (["--by", "world", "--sharpness", "x"], 2, "a number or none"),
        (["--by", "world", "--margin", "1", "--indifference", "1"], 2, "Need  one of them"),
        (["--by", "world", "--limit", "0"], 2, "--limit 0"),
        (["--by", "steps:folder"], 2, "unfinished pictures"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    palate, store: Path, words: list[str], code: int, message: str
):
    answer = palate("label", store, *words)
    assert answer.code == code, answer.err
    assert message in answer.err
    assert not labels(store)
    assert not (store / "asked").exists()


def test_settings_of_one_scorer_are_refused_for_several(palate, store: Path):
    by = ("--by", "world", "--by", "world:vividness", "--together", "majority")
    for name in ("sharpness", "margin"):
        answer = palate("label", store, *by, f"--{name}", "1")
        assert answer.code == 2
        assert f"Got   --{name} with --together majority" in answer.err


def test_a_snapshot_is_refused_with_what_to_do(palate, snapshot: Path):
    answer = palate("label", snapshot, "--by", "world")
    assert answer.code == 3
    assert "a snapshot never changes" in answer.err
    assert "palate data label-part" in answer.err


def test_a_folder_that_is_no_store_is_not_made_one(palate, tmp_path: Path):
    answer = palate("label", tmp_path / "sotre", "--by", "world")
    assert answer.code == 3
    assert "palate data import" in answer.err
    assert not (tmp_path / "sotre").exists()


def test_a_second_labeler_is_refused_and_told_who_holds_the_store(palate, store: Path):
    with sole_writer(store / "lock"):
        answer = palate("label", store, "--by", "world")
    assert answer.code == 5
    assert f"process {os.getpid()}" in answer.err


def test_a_damaged_journal_is_refused_and_can_be_removed(palate, store: Path):
    words = ("label", store, "--by", "world:vividness")
    assert palate(*words, "--limit", "5").code == 0
    (file,) = (store / "asked").glob("*.jsonl")
    file.write_bytes(file.read_bytes()[9:])
    answer = palate(*words)
    assert answer.code == 3
    assert "line 1 was changed" in answer.err
    file.unlink()
    assert palate(*words, "--json").json["asked"] == 25


def test_pictures_of_records_of_four_are_compared_two_by_two(palate, tmp_path: Path):
    place = Store(tmp_path / "store")
    pictures, captions = training_pictures(4, 3)
    with place.writing():
        images = [place.put(picture) for picture in pictures]
        place.add([compare(prompt=captions[0], images=images, ranks=[1, 2, 3, 4], source="human")])
    made = palate("label", tmp_path / "store", "--by", "world:vividness", "--json")
    assert (made.json["pairs"], made.json["agree"]["measurements"]) == (6, 6)
    assert len(journal(tmp_path / "store")) == 4


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A store of 160 pairs nobody judged: five batches of pictures."""
    place = Store(tmp_path / "many")
    pictures, captions = training_pictures(2 * PAIRS, 5)
    with place.writing():
        place.add(
            compare(
                prompt=captions[2 * number],
                images=[place.put(picture) for picture in pictures[2 * number : 2 * number + 2]],
            )
            for number in range(PAIRS)
        )
    return tmp_path / "many"


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        pytest.param(signal.SIGINT, 130, "the same command again", marks=pytest.mark.slow),
    ],
)
def test_a_kill_asks_nothing_twice(palate, many: Path, sent: int, code: int, said: str):
    """A signal to the real command after its first scores; then the command again.

    A journal only grows, so a picture that was scored twice would be in it twice.
    """
    words = ["label", str(many), "--by", "world:vividness"]
    child = subprocess.Popen(
        [sys.executable, "-m", "palate.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while not (done := [f for f in (many / "asked").glob("*.jsonl") if f.stat().st_size]):
        assert child.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)
    os.kill(child.pid, sent)
    _, told = child.communicate()
    assert child.returncode == code
    assert said in told
    first = done[0].read_bytes()
    first = first[: first.rfind(b"\n") + 1].splitlines()
    assert 0 < len(first) < 2 * PAIRS
    assert not labels(many)

    made = palate(*words, "--json")
    assert made.code == 0, made.err
    assert sum(made.json["labels"].values()) == PAIRS
    lines = journal(many)
    assert lines[: len(first)] == first
    assert len(lines) == 2 * PAIRS
    assert set(Counter(lines).values()) == {1}
    assert made.json["agree"] is None
