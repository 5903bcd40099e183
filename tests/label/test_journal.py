import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from palate.core.problems import DataError, StateError
from palate.label import Journal

WRITES_FOR_EVER = """
import sys
from pathlib import Path
from palate.label import Journal

with Journal(Path(sys.argv[1])) as journal:
    for number in range(10**9):
        journal.keep(f"key {number}", {"answer": number, "words": "ä" * 300})
        print(number, flush=True)
"""


def filled(path: Path, count: int) -> Path:
    with Journal(path) as journal:
        for number in range(count):
            journal.keep(f"key {number}", {"answer": number})
    return path


def test_what_was_kept_is_known_here_and_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "asked" / "journal.jsonl"
    value = {"text": "line\nbreak \u2028 ü", "number": 0.1, "none": None}
    with Journal(path) as journal:
        assert journal.known("a") is None
        journal.keep("a", value)
        journal.keep_all({"b": {"answer": 1}, "c": {"answer": 2}})
        assert journal.known("a") == value
    with Journal(path) as journal:
        assert (journal.known("a"), journal.known("c"), len(journal)) == (value, {"answer": 2}, 3)


def test_a_second_answer_replaces_the_first(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal.jsonl", 2)
    with Journal(path) as journal:
        journal.keep("key 0", {"answer": "again"})
    with Journal(path) as journal:
        assert journal.known("key 0") == {"answer": "again"}


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_cut_last_line_is_dropped_and_the_rest_goes_on(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path / "journal.jsonl", 3)
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path) as journal:
        assert [journal.known(f"key {n}") is not None for n in range(3)] == [True, True, False]
        journal.keep("key 2", {"answer": "asked again"})
    with Journal(path) as journal:
        assert journal.known("key 1") == {"answer": 1}
        assert journal.known("key 2") == {"answer": "asked again"}


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_changed_line_is_refused_with_its_number(tmp_path: Path, line: int) -> None:
    """Also the last one, when it is whole: no kill changes a letter in the middle."""
    path = filled(tmp_path / "journal.jsonl", 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"answer"', b'"Answer"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(DataError, match=f"line {line + 1} was changed"):
        Journal(path)


def test_a_line_without_its_beginning_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal.jsonl", 3)
    path.write_bytes(path.read_bytes()[20:])
    with pytest.raises(DataError, match="line 1 was changed"):
        Journal(path)


def test_a_refused_journal_can_be_opened_once_it_is_restored(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal.jsonl", 2)
    good = path.read_bytes()
    path.write_bytes(good[5:])
    with pytest.raises(DataError):
        Journal(path)
    path.write_bytes(good)
    with Journal(path) as journal:
        assert len(journal) == 2


def test_a_value_that_json_cannot_hold_changes_nothing(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal.jsonl", 1)
    before = path.read_bytes()
    with Journal(path) as journal, pytest.raises(ValueError, match="JSON"):
        journal.keep("bad", {"score": float("nan")})
    assert path.read_bytes() == before


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: journal.keep(f"key {n}", {"answer": n}), range(200)))
    with Journal(path) as journal:
        assert all(journal.known(f"key {n}") == {"answer": n} for n in range(200))


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """The file may not grow beyond a limit of the process: the write fails half-way for real."""
    script = """
import resource, signal, sys
from pathlib import Path
from palate.core.problems import StateError
from palate.label import Journal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with Journal(Path(sys.argv[1])) as journal:
    journal.keep("small", {"answer": 1})
    try:
        journal.keep("large", {"answer": "x" * 2000})
    except StateError as problem:
        print(problem)
    assert journal.known("large") is None
    journal.keep("small again", {"answer": 2})
"""
    path = tmp_path / "journal.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert "Need a writable disk with room" in done.stdout
    with Journal(path) as journal:
        assert len(journal) == 2


def test_a_kill_loses_nothing_that_was_reported(tmp_path: Path) -> None:
    """A kill -9 in the middle of the writing, twice: every number the child printed is there."""
    path, reported = tmp_path / "journal.jsonl", -1
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITES_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGKILL)
        lines = [line for line in child.stdout.read().split("\n")[:-1] if line]
        child.stdout.close()
        child.wait()
        reported = max(reported, *map(int, lines))
    assert reported > 5
    with Journal(path) as journal:
        for number in range(reported + 1):
            assert (journal.known(f"key {number}") or {}).get("answer") == number


def test_two_processes_on_one_journal_are_refused_and_the_holder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITES_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(StateError, match=f"process {child.pid} "):
        Journal(path)
    os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
    with Journal(path) as journal:
        assert journal.known("key 0") is not None


def test_one_process_opens_a_journal_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path), pytest.raises(StateError, match="one writer at a time"):
        Journal(path)
    Journal(path).close()
