"""`palate label` by vision models and by a run's own model, through the command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from label.stub import MODEL, Stub, Turn
from palate.data.comparison import compare
from palate.data.store import Store
from scorers.tiny_vision import build

PAIRS = 12


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Twelve pairs of a bright and a dark picture; people preferred the bright one of each."""
    place = Store(tmp_path / "store")
    with place.writing():
        place.add(
            compare(
                prompt=f"a bright picture, number {number}",
                images=[
                    place.put(np.full((8, 8, 3), shade + number, np.uint8)) for shade in (200, 20)
                ],
                agreement=1.0,
                judge=f"person {number % 3}",
                source="human",
            )
            for number in range(PAIRS)
        )
    return tmp_path / "store"


def machines(store: Path) -> list:
    return [row for row in Store(store).rows() if row.source != "human"]


def test_an_endpoint_labels_and_says_what_it_cost(palate, store: Path):
    with Stub() as stub:
        words = ("label", store, "--by", f"endpoint:{MODEL}", "--url", stub.url)
        made = palate(*words, "--price-in", "1", "--price-out", "10", "--json")
        asked = stub.requests.total()
    assert made.code == 0, made.err
    assert (made.json["labels"], made.json["none"]) == ({"preferred": PAIRS}, {})
    assert made.json["agree"]["value"] == 1.0
    assert made.json["spent"]["answered"] == asked == 3 * PAIRS
    assert made.json["spent"]["money"] == pytest.approx(asked * (100 + 5 * 10) / 1e6)
    rows = machines(store)
    assert {row.source for row in rows} == {"vlm"}
    assert all(row.signature["asked"] for row in rows)
    # The server is gone, and nobody misses it.
    again = palate(*words)
    assert again.code == 0
    assert "0 requests" in again.out


@pytest.mark.slow
def test_a_kill_repeats_no_request(palate, store: Path):
    """A kill -9 of the real command while a server answers it, then the command again."""

    def slowly(turn: Turn) -> None:
        time.sleep(0.05)
        turn.honest()

    with Stub(slowly) as stub:
        words = ["label", str(store), "--by", f"endpoint:{MODEL}", "--url", stub.url]
        child = subprocess.Popen(
            [sys.executable, "-m", "palate.cli", *words, "--at-once", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 120
        while stub.requests.total() < 10:
            assert child.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not machines(store)
        time.sleep(0.2)
        before = dict(stub.requests)
        (journal,) = (store / "asked").glob("*.jsonl")
        kept = journal.read_bytes().count(b"\n")
        made = palate(*words, "--json")
        after = dict(stub.requests)
    assert made.code == 0, made.err
    assert made.json["labels"] == {"preferred": PAIRS}
    assert len(after) == 3 * PAIRS
    # The one request on its way at the kill may go out again: its answer was nowhere yet.
    repeated = sum(after.values()) - len(after)
    assert repeated == len(before) - kept <= 1
    assert made.json["spent"]["answered"] == 3 * PAIRS - kept


def test_a_vision_model_on_this_machine_labels(palate, store: Path, tmp_path: Path):
    folder = build("qwen2_5_vl", tmp_path / "vision")
    made = palate("label", store, "--by", f"vision:{folder}", "--limit", "2", "--json")
    assert made.code == 0, made.err
    assert made.json["judge"].startswith("vlm vision ")
    assert sum(made.json["labels"].values()) + sum(made.json["none"].values()) == 2


@pytest.mark.slow
def test_a_runs_own_model_labels(palate, micro: Path, snapshot: Path, store: Path, tmp_path: Path):
    run = tmp_path / "runs" / "first"
    small = ("--plan.steps", "1", "--plan.batch", "2", "--health.pairs", "2", "--adapter.rank", "2")
    trained = palate("train", "--model", micro, "--data", snapshot, "--out", run, *small)
    assert trained.code == 0, trained.err
    made = palate("label", store, "--by", f"own:{run}", "--draws", "2", "--limit", "4", "--json")
    assert made.code == 0, made.err
    assert made.json["asked"] == 4
    assert {row.source for row in machines(store)} == {"self"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--by", "endpoint:gpt"], 2, "--url, where the server answers"),
        (["--by", "endpoint"], 2, "Need  endpoint:MODEL"),
        (["--by", "endpoint:gpt", "--url", "ftp://x"], 2, "an address such as"),
        (["--by", "endpoint:gpt", "--url", "http://x", "--margin", "1"], 2, "--margin with"),
        (["--by", "endpoint:gpt", "--url", "http://x", "--rubric", "nosuch"], 3, "rubric nosuch"),
        (["--by", "vision:no-such-folder"], 4, "no-such-folder"),
        (["--by", "vision:x", "--url", "http://x"], 2, "--url with vision:x"),
        (["--by", "world", "--no-canary"], 2, "--canary with scorer world"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    palate, store: Path, words: list[str], code: int, message: str
):
    answer = palate("label", store, *words)
    assert answer.code == code, answer.err
    assert message in answer.err
    assert not machines(store)
    assert not (store / "asked").exists()
