"""Errors have three parts, their own exit code, and no traceback."""

import os
import subprocess
import sys

import pytest

from palate.cli.errors import BUG, INTERRUPTED, leave
from palate.core.problems import DataError, HealthStop, SettingError


def shape(err: str) -> dict[str, str]:
    """The three parts by their word."""
    lines = err.strip().splitlines()
    assert [line[:4].strip() for line in lines] == ["Got", "Need", "Fix"], err
    return {line[:4].strip(): line[4:].strip() for line in lines}


@pytest.mark.parametrize(
    ("words", "got", "fix"),
    [
        (["demoo"], "command 'demoo'", "Did you mean demo?"),
        (["data", "imprt"], "command 'imprt'", "Did you mean import?"),
        (["demo", "--qick"], "option --qick", "Did you mean --quick?"),
        (["methods", "--elements", "x"], "--elements 'x'", "--help"),
        (["methods", "--beta-from", "palate"], "no value for --beta-from", "--help"),
        (["methods", "dpo", "sft"], "'sft' left over", "--help"),
        (["methods", "dop"], "method='dop'", "Did you mean dpo?"),
        (["data", "import", "a.parquet"], "no value for --store", "--help"),
        (["data", "import", "a", "--store", "s", "--format", "pickpic"], "'pickpic'", "pickapic?"),
        (["train", "--modle", "shipped"], "option --modle", "Did you mean --model?"),
        (["train", "--plan.stepz", "3"], "option --plan.stepz", "Did you mean --plan.steps?"),
        (["train", "extra"], "'extra' left over", "--help"),
        (["train", "--steps"], "no value for --steps", "optimizer steps"),
        (["train", "--steps", "1", "--plan.steps", "2"], "plan.steps twice", "Remove one"),
        (["train", "--model", "m", "--data", "d", "--steps", "x"], "plan.steps='x'", "steps"),
        (["train", "--model", "m", "--data", "d", "--beta", "-1"], "beta=-1", "2000"),
        (["train", "--model", "m", "--data", "d"], "no --out", "--out runs/first"),
        (["world", "scenes", "--split", "test"], "split='test'", "split"),
    ],
)
def test_a_wrong_command_line_gets_three_parts_and_code_two(palate, words, got, fix):
    answer = palate(*words)
    parts = shape(answer.err)
    assert answer.code == 2
    assert answer.out == ""
    assert got in parts["Got"]
    assert fix in parts["Fix"]


@pytest.mark.parametrize(
    ("words", "code", "got"),
    [
        (["data", "show", "nowhere"], 3, "no folder nowhere"),
        (["data", "freeze", "nowhere", "out"], 3, "no folder nowhere"),
        (["runs", "nowhere"], 5, "no folder nowhere"),
        (["resume", "nowhere"], 5, "no run.yaml in nowhere"),
        (["report", "nowhere"], 5, "neither a run nor an evaluation"),
        (["sample", "a cat", "--model", "nowhere", "--out", "o"], 4, "not a folder"),
        (["sample", "--prompts", "no.txt", "--out", "o"], 3, "no.txt"),
    ],
)
def test_each_kind_of_problem_has_its_own_code(palate, tmp_path, monkeypatch, words, code, got):
    monkeypatch.chdir(tmp_path)
    answer = palate(*words)
    assert answer.code == code
    assert got in shape(answer.err)["Got"]
    assert list(tmp_path.iterdir()) == []


def test_a_parquet_file_as_training_data_is_answered_with_the_two_commands(palate, tmp_path):
    file = tmp_path / "pairs.parquet"
    file.write_bytes(b"PAR1")
    answer = palate("train", "--model", "shipped", "--data", file, "--out", tmp_path / "run")
    fix = shape(answer.err)["Fix"]
    assert answer.code == 3
    assert f"palate data import {file} --store my-store" in fix
    assert "palate data freeze my-store my-pairs" in fix
    assert not (tmp_path / "run").exists()


def test_a_bug_of_ours_is_one_sentence_and_code_seventy(capsys, monkeypatch):
    monkeypatch.delenv("PALATE_TRACEBACK", raising=False)
    assert leave(KeyError("weights")) == BUG == 70
    said = capsys.readouterr()
    assert said.err.startswith("This is a bug in palate: KeyError: 'weights'")
    assert "PALATE_TRACEBACK=1" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_the_traceback_comes_when_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("PALATE_TRACEBACK", "1")
    problem = DataError(got="a", need="b", fix="c")
    assert leave(problem) == 3
    err = capsys.readouterr().err
    assert "DataError" in err
    assert err.endswith("Got   a\nNeed  b\nFix   c\n")


def test_stopping_by_hand_leaves_with_130(capsys):
    assert leave(KeyboardInterrupt()) == INTERRUPTED == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_refusal_of_the_system_names_the_file(capsys):
    assert leave(PermissionError(13, "Permission denied", "runs/x")) == 5
    assert "runs/x: Permission denied" in shape(capsys.readouterr().err)["Got"]


def test_the_code_is_the_problems_own():
    assert leave(SettingError(got="a", need="b", fix="c")) == 2
    assert leave(HealthStop(got="a", need="b", fix="c")) == 6


def test_leaving_on_purpose_is_not_an_error():
    with pytest.raises(SystemExit):
        leave(SystemExit(0))


def test_the_same_in_a_process_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "palate.cli", "methods", "dop"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PALATE_TRACEBACK": ""},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert shape(done.stderr)["Fix"] == "Did you mean dpo?"
