"""The full loop by the real commands: doubt, ask another judge, and bring the answers home."""

from pathlib import Path

from audit.judged import row
from audit.judged import snapshot as judged
from palate.data.snapshot import read_imports, read_rows, verify
from palate.world import prompts


def test_what_an_audit_queues_is_labelled_and_joined(palate, tmp_path: Path):
    """Six pairs, one judged both ways: that one loses its labels, and comes back with another."""
    captions = prompts("train", 6, 0)
    rows = [row(2 * n, 2 * n + 1, prompt=captions[n], judge="anna") for n in range(6)]
    rows += [row(1, 0, prompt=captions[0], judge="ben")]
    doubtful = judged(tmp_path, rows)
    out, answers, final = (tmp_path / name for name in ("doubted", "answers", "final"))

    done = palate("audit", doubtful, "--relabel-queue", "T003", "--out", out)
    assert done.code == 0, done.err
    queue = tmp_path / "doubted-queue"
    done = palate("label", queue, "--by", "world:vividness", "--freeze", answers, "--json")
    assert done.code == 0, done.err
    assert (done.json["pairs"], done.json["labels"]) == (1, {"preferred": 1})
    done = palate("data", "join", final, out, answers, "--json")
    assert done.code == 0, done.err
    counts = {name: done.json[name] for name in ("before", "kept", "same", "answered")}
    # Five as they were, the question in both, and its answer.
    assert counts == {"before": 8, "kept": 6, "same": 0, "answered": 2}
    assert {(each.prompt, each.source) for each in read_rows(final)} == {
        (captions[0], "scorer"), *((caption, "human") for caption in captions[1:]),
    }  # fmt: skip
    notes = read_imports(final)
    assert [name for name in ("audit", "joined") if any(name in each for each in notes)] == [
        "audit", "joined",
    ]  # fmt: skip
    assert any(each.get("source") == "label" for each in notes)
    verify(final)
    assert palate("audit", final, "--json", "--silence", "T013").code == 0


def test_what_it_says_for_people(palate, snapshot: Path, tmp_path: Path):
    done = palate("data", "join", tmp_path / "out", snapshot, snapshot)
    assert done.code == 0, done.err
    assert "were there already" in done.out
    assert f"palate data show {tmp_path / 'out'}" in done.out
    assert palate("data", "join", tmp_path / "out", snapshot).code == 5
    assert palate("data", "join", tmp_path / "new").code == 3
