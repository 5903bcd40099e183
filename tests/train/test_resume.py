"""The promise: stop anywhere, in any way; the run that goes on is the one that never stopped."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from palate.core.files import damage, digest_file
from palate.core.problems import StateError
from palate.train import checkpoint
from palate.train.log import Event, read_rows
from palate.train.loop import Interrupted, train
from palate.train.run import Run
from train.conftest import small_run

# A fork is how a kill is tried without paying for a new interpreter each time.
FORKS = pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
CLOCKS = ("seconds", "machine", "run", "run_digest")


class CutError(Exception):
    """The power goes, right after a checkpoint."""


def stop_after(step: int):
    """Breaks the run off when the checkpoint of a step is written."""

    def listen(event: Event) -> None:
        if event.kind == "checkpoint" and event.step >= step:
            raise CutError

    return listen


def contents(folder: Path) -> dict[str, object]:
    """Everything in a checkpoint except clocks."""
    state = json.loads((folder / "state.json").read_text())
    files = {
        name: digest_file(folder / name) for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)
    }
    # Positions in the logs depend on how many digits a time has; the rows are compared instead.
    plain = {k: v for k, v in state.items() if k not in (*CLOCKS, "logs")}
    return {**files, "state": plain}


def timeless(path: Path) -> list[dict]:
    """The rows of a log without their clocks."""
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_rows(path)]


def same_run(one: Path, other: Path) -> None:
    """Two runs ended with the same bits: checkpoints, logs, health and export."""
    last = sorted((one / "checkpoints").glob("step-*"))[-1].name
    assert contents(one / "checkpoints" / last) == contents(other / "checkpoints" / last)
    for name in ("log.jsonl", "health.jsonl"):
        assert timeless(one / name) == timeless(other / name)
    weights = sorted(p.name for p in (one / "export").rglob("*.safetensors"))
    assert weights
    for path in sorted((one / "export").rglob("*.safetensors")):
        assert digest_file(path) == digest_file(other / "export" / path.relative_to(one / "export"))


def often(run: Run, steps: int, **more) -> Run:
    """A run that saves after every step and drops captions, flips and crops."""
    return run.with_values(
        {
            "plan.steps": steps, "plan.save_every": 1, "plan.keep_last": 100,
            "plan.health_every": 3, "plan.caption_dropout": 0.3, "plan.micro_batch": 3,
            "pictures.flip": True, "pictures.crop": "random", "plan.warmup_steps": 2, **more,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def straight(model, data, cache, tmp_path_factory) -> Path:
    """Twelve steps that nothing interrupts. Read only."""
    out = tmp_path_factory.mktemp("straight") / "out"
    train(often(small_run(model, data), 12), out, cache=cache)
    return out


def stop_everywhere(run: Run, out: Path, cache: Path) -> None:
    """Break a run off after every single step."""
    for step in range(1, run.plan.steps + 1):
        with pytest.raises(CutError):
            train(run, out, resume=step > 1, on_event=stop_after(step), cache=cache)
    train(run, out, resume=True, cache=cache)


def test_the_same_run_twice_has_the_same_bits(run, cache, tmp_path):
    """A1."""
    for name in ("one", "two"):
        train(run, tmp_path / name, cache=cache)
    same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("adapter", 6), ("full", 4), pytest.param("adapter", 20, marks=pytest.mark.slow)],
)
def test_stopping_after_every_step_changes_no_bit(kind, steps, run, cache, tmp_path):
    """A2: every checkpoint of the run that was stopped each time equals the straight run's."""
    run = often(run, steps, **({} if kind == "adapter" else {"adapter": None}))
    train(run, tmp_path / "straight", cache=cache)
    stop_everywhere(run, tmp_path / "stopped", cache)
    for step in range(1, steps + 1):
        name = f"checkpoints/step-{step:06d}"
        assert contents(tmp_path / "straight" / name) == contents(tmp_path / "stopped" / name)
    same_run(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_resuming_from_any_step_ends_in_the_same_bits(kind, run, cache, tmp_path):
    """A2, each step on its own: the later checkpoints are taken away, the longer logs are left."""
    run = often(run, 20, **({} if kind == "adapter" else {"adapter": None}))
    train(run, tmp_path / "straight", cache=cache)
    for step in range(20):
        out = tmp_path / f"from-{step}"
        shutil.copytree(tmp_path / "straight", out)
        for path in (out / "checkpoints").glob("step-*"):
            if int(path.name[5:]) > step:
                shutil.rmtree(path)
        train(run, out, resume=True, cache=cache)
        same_run(tmp_path / "straight", out)


def test_three_stops_in_one_run_change_no_bit(run, straight, cache, tmp_path):
    run = often(run, 12)
    for resume, step in ((False, 2), (True, 3), (True, 7)):
        with pytest.raises(CutError):
            train(run, tmp_path / "stopped", resume=resume, on_event=stop_after(step), cache=cache)
    train(run, tmp_path / "stopped", resume=True, cache=cache)
    same_run(straight, tmp_path / "stopped")


def in_child(work) -> int:
    """Run something in a forked child; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except Interrupted as problem:
        os._exit(problem.exit_code)
    except BaseException:
        os._exit(99)


def kill_while_training(run: Run, out: Path, cache: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(kills):
        child = in_child(lambda: train(run, out, resume=(out / "run.yaml").exists(), cache=cache))
        time.sleep(draw.uniform(0.2, 0.7))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    train(run, out, resume=(out / "run.yaml").exists(), cache=cache)


@FORKS
def test_a_run_killed_three_times_ends_in_the_same_bits(run, straight, cache, tmp_path):
    kill_while_training(often(run, 12), tmp_path / "killed", cache, kills=3, seed=1)
    same_run(straight, tmp_path / "killed")


def save_for_ever(folder: Path) -> None:
    """A process that does nothing but save ever newer checkpoints."""
    step = 1 + max((s.step for s in checkpoint.states(folder)), default=0)
    while True:
        tensors = {f"w{i}": torch.full((64, 64), float(step)) for i in range(4)}
        checkpoint.save(folder, step, tensors, tensors, {"mark": step}, keep=2)
        step += 1


def wait_for_another(folder: Path, seen: int) -> None:
    """Until a newer checkpoint than `seen` stands; a busy machine may take its time."""
    for _ in range(2000):
        if (folder / f"step-{seen + 1:06d}").exists():
            return
        time.sleep(0.005)


def kill_while_saving(folder: Path, kills: int) -> tuple[int, int]:
    """Kills a saving process again and again; counts unusable newest ones and steps backwards."""
    folder.mkdir()
    draw, seen, unusable, backwards = random.Random(0), 0, 0, 0
    for _ in range(kills):
        child = in_child(lambda: save_for_ever(folder))
        wait_for_another(folder, seen)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        names = sorted(folder.glob("step-*"))
        unusable += bool(names) and damage(names[-1]) is not None
        found, notes = checkpoint.newest(folder)
        step = found.step if found else 0
        assert not notes
        assert found is None or float(found.weights["w3"][0, 0]) == step == found.state["mark"]
        backwards += step < seen
        seen = max(seen, step)
    assert seen >= kills
    return unusable, backwards


@FORKS
def test_a_process_killed_while_saving_leaves_whole_checkpoints(tmp_path):
    """B1, short form."""
    assert kill_while_saving(tmp_path / "checkpoints", 8) == (0, 0)


@FORKS
@pytest.mark.slow
def test_a_hundred_kills_while_saving_leave_no_unusable_checkpoint(tmp_path):
    """B1."""
    assert kill_while_saving(tmp_path / "checkpoints", 100) == (0, 0)


def operations(monkeypatch, act) -> list[str]:
    """Replace every file operation that a save depends on by one that first asks `act`."""
    import palate.core.files as files

    seen: list[str] = []

    def watched(name, plain):
        def call(*args, **kwargs):
            seen.append(name)
            act(len(seen))
            return plain(*args, **kwargs)

        return call

    for name in ("fsync", "replace", "open"):
        monkeypatch.setattr(files.os, name, watched(name, getattr(os, name)))
    monkeypatch.setattr(files, "save_file", watched("save_file", files.save_file))
    monkeypatch.setattr(Path, "open", watched("Path.open", Path.open))
    monkeypatch.setattr(Path, "mkdir", watched("mkdir", Path.mkdir))
    return seen


def save_once(folder: Path, step: int) -> None:
    tensors = {"w": torch.full((4, 4), float(step))}
    checkpoint.save(folder, step, tensors, tensors, {"mark": step}, keep=1)


def refusal(folder: Path, step: int) -> str:
    """What a save says when the disk refuses, or nothing. Anything but a StateError gets out."""
    try:
        save_once(folder, step)
    except StateError as error:
        return str(error)
    return ""


def count_operations(monkeypatch, folder: Path) -> int:
    with monkeypatch.context() as patch:
        seen = operations(patch, lambda _n: None)
        save_once(folder, 1)
    return len(seen)


def test_a_disk_that_refuses_at_any_operation_leaves_the_old_checkpoint(monkeypatch, tmp_path):
    """B3: the error is ours, names the place, and nothing is left under a final name."""
    total = count_operations(monkeypatch, tmp_path / "count")
    assert total > 10
    for number in range(1, total + 1):
        folder = tmp_path / f"{number}"
        save_once(folder, 1)

        def full(n, number=number):
            if n == number:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            operations(patch, full)
            said = refusal(folder, 2)
        # A read-back that fails is a disk that did not give back what it was given.
        assert not said or "No space left" in said or "just after it was written" in said
        found, notes = checkpoint.newest(folder)
        assert not notes
        assert found is not None
        assert float(found.weights["w"][0, 0]) == found.step


@FORKS
def test_a_kill_at_any_file_operation_leaves_a_whole_checkpoint(monkeypatch, tmp_path):
    total = count_operations(monkeypatch, tmp_path / "count")
    for number in range(1, total + 1):
        folder = tmp_path / f"{number}"
        save_once(folder, 1)

        def work(number=number, folder=folder):
            operations(monkeypatch, lambda n: os._exit(7) if n == number else None)
            save_once(folder, 2)

        os.waitpid(in_child(work), 0)
        found, notes = checkpoint.newest(folder)
        assert not notes
        assert found is not None
        assert float(found.weights["w"][0, 0]) == found.step
        assert not list(folder.glob(".unfinished*"))


@FORKS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_resumes_bitwise(
    number, run, straight, cache, tmp_path
):
    """B2: the exit code is 75, and at most one step passes after the signal."""
    run = often(run, 12, **{"plan.save_every": 100})

    def work():
        def listen(event: Event) -> None:
            if event.kind == "step" and event.step == 5:
                os.kill(os.getpid(), number)

        train(run, tmp_path / "asked", on_event=listen, cache=cache)

    _, status = os.waitpid(in_child(work), 0)
    assert os.waitstatus_to_exitcode(status) == 75
    assert [s.step for s in checkpoint.states(tmp_path / "asked/checkpoints")] == [5]
    record = json.loads((tmp_path / "asked/record.json").read_text())
    assert record["status"] == "interrupted"
    train(run, tmp_path / "asked", resume=True, cache=cache)
    same_run(straight, tmp_path / "asked")


@FORKS
def test_a_second_signal_leaves_at_once_and_does_no_damage(run, straight, cache, tmp_path):
    run = often(run, 12)

    def work():
        def listen(event: Event) -> None:
            if event.kind == "step" and event.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)

        train(run, tmp_path / "asked", on_event=listen, cache=cache)

    _, status = os.waitpid(in_child(work), 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT
    train(run, tmp_path / "asked", resume=True, cache=cache)
    same_run(straight, tmp_path / "asked")


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(run, cache, tmp_path):
    """B4."""
    train(run, tmp_path / "out", cache=cache)
    straight = timeless(tmp_path / "out/log.jsonl")
    path = tmp_path / "out/checkpoints/step-000008/optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said: list[str] = []
    train(run, tmp_path / "out", resume=True, cache=cache, on_event=lambda e: said.append(e.text))
    assert any("step 8 damaged (optimizer.safetensors was changed" in text for text in said)
    assert any("using step 4, 4 steps lost" in text for text in said)
    assert timeless(tmp_path / "out/log.jsonl") == straight


def test_resuming_with_other_settings_is_refused_and_says_which(run, cache, tmp_path):
    train(run, tmp_path / "out", cache=cache)
    with pytest.raises(StateError, match=r"changed settings: objective\.beta 2000\.0 to 500\.0"):
        train(run.with_values({"objective.beta": 500}), tmp_path / "out", resume=True, cache=cache)
    with pytest.raises(StateError, match="already holds a run"):
        train(run, tmp_path / "out", cache=cache)


def test_a_constant_schedule_may_be_extended(run, cache, tmp_path):
    """Twelve steps at once, or eight and then four more: the same weights."""
    longer = run.with_values({"plan.steps": 12})
    train(run, tmp_path / "out", cache=cache)
    result = train(longer, tmp_path / "out", resume=True, cache=cache)
    train(longer, tmp_path / "straight", cache=cache)
    assert result.steps == 12
    name = "checkpoints/step-000012"
    assert (
        contents(tmp_path / "out" / name)[checkpoint.WEIGHTS]
        == (contents(tmp_path / "straight" / name)[checkpoint.WEIGHTS])
    )


def test_only_the_last_checkpoints_are_kept(run, cache, tmp_path):
    run = run.with_values({"plan.save_every": 1, "plan.keep_last": 2})
    train(run, tmp_path / "out", cache=cache)
    assert [s.step for s in checkpoint.states(tmp_path / "out/checkpoints")] == [7, 8]
