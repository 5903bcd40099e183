"""What goes where, and what is left out."""

import json
import subprocess
import sys

from palate.cli.console import Bar, emit, table


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
