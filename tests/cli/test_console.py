"""What goes where, and what is left out."""

import json
import subprocess
import sys

from palate.cli import console
from palate.cli.console import Bar, emit, table
from palate.train.log import Event


def test_json_has_no_word_for_infinity_and_gets_null(capsys):
    emit({"a": float("nan"), "b": [float("inf"), 1.5], "c": ("x",)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": ["x"]}


def test_a_short_job_says_nothing_and_a_bar_never_touches_stdout(capsys):
    with Bar("rows") as bar:
        for done in range(3):
            bar.at(done, 3)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_brackets_in_data_are_not_markup(capsys):
    table(("name",), [["[bold]a[/bold] :smile:"]])
    assert "[bold]a[/bold] :smile:" in capsys.readouterr().out


def test_a_reader_who_left_is_no_error():
    command = [sys.executable, "-m", "palate.cli", "methods", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert err == b""


def test_a_training_is_shown_as_steps_now_and_then_and_every_other_word(capsys, monkeypatch):
    monkeypatch.setattr(console, "_LINE_EVERY", 0.0)
    with Bar("training") as bar:
        bar.show(Event(kind="open", text="20 pairs [cpu]."))
        bar.show(Event(kind="step", text="step 1: loss 0.6931", step=1, total=2))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "20 pairs [cpu].\ntraining 1/2  step 1: loss 0.6931\n"
