"""`palate audit`, from a snapshot to a new one and a store of pairs to ask again."""

from pathlib import Path

import pytest

from audit.judged import row
from audit.judged import snapshot as judged
from palate.audit.checks import CHECKS
from palate.audit.pages import pages
from palate.cli.audit_sources import _timed
from palate.data.snapshot import read_rows
from palate.data.store import Store
from palate.train.loop import train
from train.conftest import micro_model, small_run
from train.conftest import snapshot as pairs_of


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory) -> Path:
    """Six pairs, one of them judged both ways."""
    judges = ("anna", "cleo", "dan")
    rows = [row(2 * n, 2 * n + 1, prompt=f"fox {n}", judge=judges[n % 3]) for n in range(6)]
    rows += [row(1, 0, prompt="fox 0", judge="ben")]
    return judged(tmp_path_factory.mktemp("doubtful"), rows)


def test_an_audit_tells_what_it_found_and_where_to_go_on(palate, doubtful):
    answer = palate("audit", doubtful)
    assert answer.code == 0, answer.err
    assert "T003  ISSUE" in answer.out
    assert "checks that apply" in answer.out
    assert "--page" in answer.out


def test_json_is_one_value_with_every_finding(palate, doubtful):
    answer = palate("audit", doubtful, "--json", "--silence", "ties", "T013")
    assert answer.code == 0
    found = {each["code"]: each for each in answer.json["findings"]}
    assert set(found) == {check.code for check in CHECKS}
    assert found["T006"]["outcome"] == found["T013"]["outcome"] == "silenced"
    assert found["T003"]["rows"][0]["ids"]
    assert answer.json["applied"] is None


def test_strict_leaves_with_three_where_an_issue_is_found_and_not_otherwise(palate, doubtful):
    assert palate("audit", doubtful, "--strict").code == 3
    assert palate("audit", doubtful, "--strict", "--silence", "T003", "T013").code == 0


def test_records_are_left_out_and_pairs_queued_and_the_counts_add_up(palate, doubtful, tmp_path):
    answer = palate("audit", doubtful, "--drop", "T003", "--out", tmp_path / "less", "--json")
    made = answer.json["applied"]
    assert (made["before"], made["dropped"], made["kept"], made["after"]) == (7, 2, 5, 5)
    assert len(read_rows(tmp_path / "less")) == 5
    words = ("audit", doubtful, "--relabel-queue", "contradictory-labels")
    answer = palate(*words, "--out", tmp_path / "again")
    assert answer.code == 0, answer.err
    assert "1 pair waits in" in answer.out
    assert len(list(Store(tmp_path / "again-queue", create=False).rows())) == 1


def test_the_page_is_written_where_it_is_told(palate, doubtful, tmp_path):
    answer = palate("audit", doubtful, "--page", tmp_path / "audit.html")
    assert answer.code == 0
    assert str(tmp_path / "audit.html") in answer.out
    assert "<img src=" in (tmp_path / "audit.html").read_text()


def test_evaluation_prompts_are_compared_where_they_are_named(palate, doubtful, tmp_path):
    (tmp_path / "asked.txt").write_text("FOX 3\na hen\n")
    answer = palate("audit", doubtful, "--against", tmp_path / "asked.txt", "--json")
    found = {each["code"]: each for each in answer.json["findings"]}
    assert found["T010"]["outcome"] == "issue"
    assert len(found["T010"]["rows"]) == 1


@pytest.mark.slow
def test_a_scorer_is_asked_about_every_picture(palate, snapshot, tmp_path):
    page = tmp_path / "audit.html"
    answer = palate("audit", snapshot, "--scorer", "world:vividness", "--page", page)
    assert answer.code == 0, answer.err
    assert "vividness" in page.read_text().partition("What it rests on")[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Sixty pairs, and an adaptive run of four steps on them."""
    folder = tmp_path_factory.mktemp("trained")
    values = {
        "objective.name": "adaptive-dpo", "objective.beta": 2000.0, "objective.warm_up": 1,
        "plan.steps": 4, "split.held_out": 0.3,
    }  # fmt: skip
    data = pairs_of(folder, 60)
    run = small_run(micro_model(folder / "model"), data).with_values(values)
    train(run, folder / "run")
    return data, folder / "run"


@pytest.mark.slow
def test_folds_give_margins_that_never_saw_a_pair_and_are_kept(palate, trained, tmp_path):
    data, run = trained
    words = ("audit", data, "--run", run, "--folds", 2, "--work", tmp_path / "work", "--json")
    answer = palate(*words, "--assume", "flips")
    assert answer.code == 0, answer.err
    assert f"2 trainings, kept in {tmp_path / 'work'}" in answer.err
    found = {each["code"]: each for each in answer.json["findings"]}
    assert found["T012"]["figures"]["from"] == "margins"
    assert found["T012"]["figures"]["minority_metric"]["pairs"] > 0
    assert found["T013"]["figures"]["margins"]["share"]["measurements"] == 60
    assert found["T013"]["figures"]["minority_metric"]["first"][0]["minority"] > 0
    assert "whatever the pair" in found["T013"]["figures"]["assumes"]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*.safetensors")}
    again = palate(*words)
    assert before
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "work").rglob("*.safetensors")} == before
    told = {each["code"]: each for each in again.json["findings"]}
    assert told["T012"] == found["T012"]
    assert "Bradley-Terry" in told["T013"]["figures"]["assumes"]


def test_the_time_that_is_left_is_told_of_what_is_being_done():
    """Ten steps in five seconds: forty more are twenty seconds; what is new begins anew."""
    heard, now = [], [0.0]

    class Heard:
        def at(self, done: int, total: int, text: str) -> None:
            heard.append((done, total, text))

    at = _timed(Heard(), lambda: now[0])
    at("steps", 10, 60)
    now[0] = 5.0
    at("steps", 20, 60)
    at("pairs", 3, 9)
    assert heard == [(10, 60, "steps"), (20, 60, "steps, about 20 s left"), (3, 9, "pairs")]


def test_explain_prints_a_checks_page_and_all_of_them(palate):
    one = palate("audit", "--explain", "cycles")
    assert one.code == 0
    assert one.out.startswith("## T004 cycles")
    assert palate("audit", "--explain", "all").out.strip() == pages().strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no snapshot"),
        (("--explain", "cycle"), "Did you mean cycles"),
        (("SNAPSHOT", "--silence", "contradictory-label"), "Did you mean contradictory-labels"),
        (("SNAPSHOT", "--drop", "T003"), "--out doubted"),
        (("SNAPSHOT", "--folds", "1"), "two trainings"),
        (("SNAPSHOT", "--work", "x"), "without --folds"),
        (("SNAPSHOT", "--out", "x"), "Leave --out away"),
        (("SNAPSHOT", "--drop", "T33", "--out", "x"), "T003"),
        (("SNAPSHOT", "--drop", "T010", "--out", "x"), "not asked"),
    ],
)
def test_what_cannot_be_done_is_refused_in_three_parts(palate, doubtful, words, said):
    answer = palate("audit", *(doubtful if word == "SNAPSHOT" else word for word in words))
    assert answer.code == 2
    assert answer.out == ""
    for part in ("Got", "Need", "Fix", said):
        assert part in answer.err


def test_a_folder_that_is_no_snapshot_is_refused(palate, tmp_path):
    assert palate("audit", tmp_path).code == 3
