"""Files are whole or absent: a fault at every file operation in turn, and every kind of damage."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from palate.core import files
from palate.core.files import (
    MANIFEST,
    REPLACED,
    UNFINISHED,
    damage,
    digest_bytes,
    digest_file,
    digest_json,
    digest_tensors,
    load_weights,
    new_folder,
    read_json,
    save_weights,
    sweep,
    write_atomic,
    write_json,
)
from palate.core.problems import DataError, StateError, WeightsError

OLD = {"weight": torch.zeros(4, 4), "step": torch.tensor(1)}
NEW = {"weight": torch.arange(16.0).reshape(4, 4), "step": torch.tensor(2)}


class Disk:
    """Counts file operations and fails at the one it is told to, and at all that follow."""

    def __init__(self, fail_at: int | None) -> None:
        self.fail_at, self.count = fail_at, 0

    def operation(self) -> None:
        self.count += 1
        if self.fail_at is not None and self.count >= self.fail_at:
            raise OSError(28, "No space left on device")


class Watched:
    """A file open for writing whose writes are counted; half of a failing one still arrives."""

    def __init__(self, handle: Any, shim: Disk) -> None:
        self.handle, self.shim = handle, shim

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handle, name)

    def write(self, data: Any) -> int:
        try:
            self.shim.operation()
        except OSError:
            self.handle.write(data[: len(data) // 2])
            raise
        return self.handle.write(data)


@contextmanager
def disk(fail_at: int | None = None) -> Iterator[Disk]:
    """Every open for writing, write, fsync, rename and mkdir goes past a counter."""
    shim, patch, plain_open = Disk(fail_at), pytest.MonkeyPatch(), io.open

    def watched_open(file, mode="r", *args, **kwargs):
        if "r" in mode:
            return plain_open(file, mode, *args, **kwargs)
        shim.operation()
        return Watched(plain_open(file, mode, *args, **kwargs), shim)

    def save(tensors, path, metadata=None):
        shim.operation()
        save_file(tensors, path, metadata=metadata)
        try:
            shim.operation()
        except OSError:
            os.truncate(path, 20)
            raise

    def counted(call: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            shim.operation()
            return call(*args, **kwargs)

        return wrapped

    patch.setattr(io, "open", watched_open)
    patch.setattr(files, "save_file", save)
    for name in ("fsync", "replace", "mkdir"):
        patch.setattr(os, name, counted(getattr(os, name)))
    try:
        yield shim
    finally:
        patch.undo()


def write_text(folder: Path, tensors: dict) -> None:
    write_atomic(folder / "target", f"step {int(tensors['step'])} " * 50)


def write_tensors(folder: Path, tensors: dict) -> None:
    save_weights(folder / "target.safetensors", tensors)


def write_checkpoint(folder: Path, tensors: dict) -> None:
    with new_folder(folder / "target", replace=True) as new:
        save_weights(new / "model.safetensors", tensors)
        write_json(new / "progress.json", {"step": int(tensors["step"])})


def content(folder: Path) -> dict[str, bytes]:
    """Everything under final names; what is unfinished is not visible."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.relative_to(folder).parts[0].startswith((UNFINISHED, REPLACED))
    }


@pytest.mark.parametrize("write", [write_text, write_tensors, write_checkpoint])
@pytest.mark.parametrize("before", [None, OLD], ids=["nothing there", "an older one there"])
def test_a_full_disk_at_any_operation_leaves_the_old_or_the_new(write, before, tmp_path):
    """B1, B3: each operation of one write fails in turn; nothing partial has a final name."""
    expected = {}
    for name, tensors in {"old": before, "new": NEW}.items():
        clean = tmp_path / name
        clean.mkdir()
        if tensors is not None:
            write(clean, tensors)
        expected[name] = content(clean)
    counted = tmp_path / "counted"
    shutil.copytree(tmp_path / "old", counted)
    with disk() as counter:
        write(counted, NEW)
    assert counter.count >= 4
    for operation in range(1, counter.count + 1):
        folder = tmp_path / f"fault-{operation}"
        folder.mkdir()
        if before is not None:
            write(folder, before)
        with disk(fail_at=operation), pytest.raises(StateError, match="MB free"):
            write(folder, NEW)
        sweep(folder)
        assert content(folder) in (expected["old"], expected["new"]), operation
        assert {path.name for path in folder.iterdir()} <= {"target", "target.safetensors"}


def test_a_kill_between_two_renames_brings_the_old_folder_back(tmp_path):
    write_checkpoint(tmp_path, OLD)
    before = content(tmp_path)
    (tmp_path / "target").rename(tmp_path / f"{REPLACED}target")
    (tmp_path / f"{UNFINISHED}1-target").mkdir()
    assert sweep(tmp_path) == 2
    assert content(tmp_path) == before
    assert damage(tmp_path / "target") is None


def test_an_old_folder_left_aside_goes_once_the_new_one_stands(tmp_path):
    write_checkpoint(tmp_path, NEW)
    shutil.copytree(tmp_path / "target", tmp_path / f"{REPLACED}target")
    assert sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_failed_write_leaves_no_litter_where_the_disk_lets_it(tmp_path):
    with disk(fail_at=3), pytest.raises(StateError):
        write_text(tmp_path, NEW)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_leaves_no_folder_and_keeps_the_old_one(tmp_path):
    write_checkpoint(tmp_path, OLD)
    before = content(tmp_path)
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "target", replace=True) as new:
        (new / "half").write_text("half")
        raise ZeroDivisionError
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


# One process that loads torch once; each trial is a fork of it that saves until it is killed.
NURSERY = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from palate.core import files

def save_for_ever(folder, said):
    step = 0
    while True:
        step += 1
        with files.new_folder(folder / f"step-{step:06d}") as new:
            weight = torch.full((300, 300), float(step))
            files.save_weights(new / "model.safetensors", {"weight": weight})
            files.write_json(new / "progress.json", {"step": step})
        os.write(said, f"{step}\\n".encode())

draw = random.Random(0)
for kill in range(int(sys.argv[2])):
    folder = Path(sys.argv[1]) / str(kill)
    folder.mkdir()
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        save_for_ever(folder, said)
    os.close(said)
    first = os.read(heard, 9)
    time.sleep(draw.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print((first + os.read(heard, 9999)).decode().split()[-1], flush=True)
    os.close(heard)
"""


@pytest.mark.parametrize("kills", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_what_is_visible_after_kill_9_is_whole_and_never_goes_backwards(kills, tmp_path):
    """B1: the writer says a number only when the folder stands; after the kill it must verify."""
    done = subprocess.run(
        [sys.executable, "-c", NURSERY, str(tmp_path), str(kills)],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    said = [int(line) for line in done.stdout.split()]
    assert len(said) == kills
    interrupted = 0
    for kill in range(kills):
        visible = sorted((tmp_path / str(kill)).glob("step-*"))
        assert all(damage(path) is None for path in visible), kill
        newest = read_json(visible[-1] / "progress.json")["step"]
        assert newest >= said[kill], kill
        assert (load_weights(visible[-1] / "model.safetensors")["weight"] == newest).all()
        interrupted += sweep(tmp_path / str(kill))
        assert sorted((tmp_path / str(kill)).iterdir()) == visible
    # Otherwise no kill fell into a save, and the test has shown nothing.
    assert interrupted >= kills // 2


def test_a_folder_that_exists_is_not_overwritten_unasked(tmp_path):
    write_checkpoint(tmp_path, OLD)
    with pytest.raises(StateError, match="which exists"), new_folder(tmp_path / "target"):
        pass
    write_checkpoint(tmp_path, NEW)
    assert read_json(tmp_path / "target" / "progress.json") == {"step": 2}


@pytest.mark.parametrize("times", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_flipped_bit_and_every_truncation_is_noticed(times, tmp_path):
    """B4: without digests 99.6 % of flips in a safetensors file load with other numbers."""
    generator = np.random.default_rng(1)
    write_checkpoint(tmp_path, NEW)
    folder = tmp_path / "target"
    originals = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    payload = [path for path in originals if path.name != MANIFEST]
    for trial in range(times):
        path = payload[trial % len(payload)]
        raw = bytearray(originals[path])
        if trial % 10 == 9:
            raw = raw[: int(generator.integers(0, len(raw)))]
        else:
            raw[int(generator.integers(len(raw)))] ^= 1 << int(generator.integers(8))
        path.write_bytes(raw)
        assert path.name in (damage(folder) or ""), trial
        path.write_bytes(originals[path])
    assert damage(folder) is None


def test_a_damaged_manifest_never_raises_and_never_passes_for_other_content(tmp_path):
    """Any flip of the manifest gives a sentence or the same verdict, never a traceback."""
    write_checkpoint(tmp_path, NEW)
    folder = tmp_path / "target"
    original = (folder / MANIFEST).read_bytes()
    facts = json.loads(original)["files"]
    for position in range(len(original)):
        raw = bytearray(original)
        raw[position] ^= 1 << (position % 7)
        (folder / MANIFEST).write_bytes(raw)
        found = damage(folder)
        if found is None:
            assert json.loads((folder / MANIFEST).read_bytes())["files"] == facts
    for text in ("", "[]", "{}", '{"files": []}', '{"files": {"a": 1}}', "nul"):
        (folder / MANIFEST).write_text(text)
        assert damage(folder) == f"{MANIFEST} is missing or unreadable"


def test_damage_names_the_file_and_what_is_wrong_with_it(tmp_path):
    write_checkpoint(tmp_path, NEW)
    folder = tmp_path / "target"
    path = folder / "progress.json"
    original = path.read_text()
    path.write_text(original.replace("2", "3"))
    assert damage(folder) == "progress.json was changed: its digest differs"
    path.write_text("")
    assert damage(folder) == f"progress.json has 0 bytes instead of {len(original)}"
    path.unlink()
    assert damage(folder) == "progress.json is missing"
    (folder / MANIFEST).unlink()
    assert damage(folder) == f"{MANIFEST} is missing or unreadable"


def test_two_files_swapped_are_noticed(tmp_path):
    with new_folder(tmp_path / "pair") as new:
        (new / "a").write_text("one")
        (new / "b").write_text("two")
    (tmp_path / "pair" / "a").write_text("two")
    (tmp_path / "pair" / "b").write_text("one")
    assert damage(tmp_path / "pair") == "a was changed: its digest differs"


def test_sweeping_removes_only_what_was_interrupted(tmp_path):
    (tmp_path / f"{UNFINISHED}1-folder").mkdir()
    (tmp_path / f"{UNFINISHED}1-folder" / "part").write_text("x")
    (tmp_path / f"{UNFINISHED}2-file").write_text("x")
    (tmp_path / "kept").write_text("x")
    assert sweep(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.ckpt", "model.pkl", "model.npy"])
def test_formats_that_can_run_code_are_refused_before_they_are_opened(name, tmp_path):
    """C1: the payload would create a file; it must not exist afterwards."""
    marker = tmp_path / "marker"
    (tmp_path / name).write_bytes(pickle.dumps(Marker(marker)))
    with pytest.raises(WeightsError, match=r"Need a \.safetensors file"):
        load_weights(tmp_path / name)
    assert not marker.exists()


def test_a_pickle_dressed_as_safetensors_is_refused_without_running(tmp_path):
    marker = tmp_path / "marker"
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Marker(marker)))
    with pytest.raises(WeightsError, match="whole safetensors file"):
        load_weights(path)
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(WeightsError, match="whole safetensors file"):
        load_weights(path)
    assert not marker.exists()


def test_a_payload_without_our_guard_would_have_run(tmp_path):
    """The guard removed: the same bytes do create the file, so the tests above mean something."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists()


def test_weights_come_back_as_they_were(tmp_path):
    tied = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    tensors = {"a": tied, "tied": tied, "half": tied.bfloat16(), "turned": tied.t()}
    save_weights(tmp_path / "new" / "w.safetensors", tensors)
    found = load_weights(tmp_path / "new" / "w.safetensors")
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_of_a_broken_training_are_refused_by_name(value, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"good": torch.ones(2), "bad": torch.tensor([1.0, value])})
    with pytest.raises(WeightsError, match="bad holds NaN or infinity"):
        load_weights(path)
    assert set(load_weights(path, finite=False)) == {"good", "bad"}


def test_weights_with_another_digest_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, NEW)
    digest = digest_file(path)
    assert torch.equal(load_weights(path, sha256=digest)["weight"], NEW["weight"])
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    load_weights(path)
    with pytest.raises(WeightsError, match="another digest than recorded"):
        load_weights(path, sha256=digest)


def test_a_missing_or_truncated_file_is_refused_in_three_parts(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match="Need a whole safetensors file"):
        load_weights(path)
    save_weights(path, NEW)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="Need a whole safetensors file"):
            load_weights(path)


def test_a_renamed_reshaped_or_retyped_tensor_is_another_digest():
    base = {"a": torch.arange(6.0)}
    variants = [
        base,
        {"b": torch.arange(6.0)},
        {"a": torch.arange(6.0).reshape(2, 3)},
        {"a": torch.arange(6.0).bfloat16()},
        {"a": torch.arange(6.0) + 1},
        {"a": torch.arange(6.0), "b": torch.ones(1)},
    ]
    assert len({digest_tensors(variant) for variant in variants}) == len(variants)


def test_a_digest_depends_on_values_and_not_on_order_or_layout():
    one = {"a": torch.ones(2, 3), "b": torch.tensor(1)}
    other = {"b": torch.tensor(1), "a": torch.ones(3, 2).t()}
    assert digest_tensors(one) == digest_tensors(other)
    assert digest_json({"x": 1, "y": [2]}) == digest_json({"y": [2], "x": 1})
    assert digest_json({"x": 1}) != digest_json({"x": 1.5})


def test_digests_are_sha256(tmp_path):
    """Of the empty string, as printed in every textbook."""
    (tmp_path / "empty").write_bytes(b"")
    known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_bytes(b"") == digest_file(tmp_path / "empty") == known


def test_json_that_cannot_be_read_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="readable JSON"):
        read_json(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(DataError, match="readable JSON"):
        read_json(tmp_path / "cut.json")


@pytest.mark.parametrize("write", [write_text, write_tensors, write_checkpoint])
def test_a_place_that_is_no_folder_is_refused_in_three_parts(write, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="writable disk"):
        write(tmp_path / "file", NEW)
    assert content(tmp_path) == {"file": b"x"}


def test_a_quota_is_said_so_and_leaves_nothing(tmp_path):
    """B3: the operating system's own limit on file size, in a process of its own."""
    script = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from palate.core.files import save_weights\n"
        "from palate.core.problems import StateError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    save_weights(Path(sys.argv[1]) / 'w.safetensors', {'w': torch.ones(100_000)})\n"
        "except StateError as problem:\n"
        "    print('refused:', problem.need)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "refused: a writable disk with room\n", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_free_space_unknown_is_not_a_second_error(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(shutil, "disk_usage", fail)
    with disk(fail_at=1), pytest.raises(StateError, match="free space unknown"):
        write_atomic(tmp_path / "x", "y")
