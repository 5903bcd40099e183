import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data.made import pickapic, row, store_of
from palate.core.problems import DataError, StateError
from palate.data.comparison import compare
from palate.data.pack import Pack, write_pack
from palate.data.pairs import PreferencePairs
from palate.data.shelf import Shelf
from palate.data.snapshot import verify
from palate.data.sources import import_comparisons
from palate.data.store import Store


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (9, 8, 3), dtype=np.uint8)


def filled(folder: Path, numbers: range) -> Store:
    store = Store(folder)
    with store.writing():
        store.add(
            compare(
                prompt=f"prompt {n}",
                images=[store.put(picture(2 * n)), store.put(picture(2 * n + 1))],
                agreement=1.0,
                judge=f"judge {n % 3}",
            )
            for n in numbers
        )
    return store


def test_a_picture_comes_back_as_it_was_put(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = store.put(picture(1))
    assert (ref.width, ref.height) == (8, 9)
    np.testing.assert_array_equal(store.image(ref.sha256), picture(1))
    assert store.put(picture(1)) == ref
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_the_same_bytes_in_another_shape_are_another_picture(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pixels = picture(1)
    assert store.put(pixels) != store.put(pixels.reshape(8, 9, 3))


@pytest.mark.parametrize("name", ["../../x", "", "A" * 64, "a" * 63, "a/" * 32, "\0" * 64])
def test_only_a_digest_names_a_picture(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="64 hexadecimal digits"):
        Store(tmp_path).image(name)


def test_pixels_of_another_kind_are_refused(tmp_path: Path) -> None:
    for pixels in (np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(DataError):
            Store(tmp_path).put(pixels)


def test_rows_added_twice_are_there_once(tmp_path: Path) -> None:
    store = filled(tmp_path, range(4))
    assert store.add(list(store.rows())) == 0
    assert len(list(Store(tmp_path).rows())) == len(store.ids()) == 4
    assert len(list((tmp_path / "parts").iterdir())) == 1


def test_an_addition_that_fails_half_way_adds_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path, range(2))

    def rows():
        yield compare(
            prompt="new", images=[store.put(picture(90)), store.put(picture(91))], agreement=0.0
        )
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        store.add(rows())
    assert len(list(Store(tmp_path).rows())) == 2
    assert filled(tmp_path, range(3)).ids() >= store.ids()
    assert not list(tmp_path.rglob(".unfinished-*"))


def test_a_folder_of_other_things_does_not_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="holds other things"):
        Store(tmp_path)
    with pytest.raises(DataError, match="is no store"):
        Store(tmp_path / "typo", create=False)
    assert not (tmp_path / "typo").exists()


def test_a_changed_part_is_refused_by_name(tmp_path: Path) -> None:
    filled(tmp_path, range(3))
    (part,) = (tmp_path / "parts").glob("*.jsonl")
    data = bytearray(part.read_bytes())
    data[50] ^= 1
    part.write_bytes(data)
    with pytest.raises(DataError, match=part.name):
        list(Store(tmp_path).rows())


def test_a_damaged_picture_is_refused_by_name(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", range(2))
    path = sorted((tmp_path / "s").rglob("*.png"))[0]
    data = path.read_bytes()
    other = sorted((tmp_path / "s").rglob("*.png"))[1].read_bytes()
    for wrong in (data[:-60], b"", other, data[:60] + b"\0\0\0\0" + data[64:]):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=path.name):
            store.image(path.stem)
        with pytest.raises(DataError, match=path.name):
            store.freeze(tmp_path / "frozen")
        assert not (tmp_path / "frozen").exists()


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    store = filled(tmp_path, range(1))
    with store.writing(), pytest.raises(StateError, match=rf"process {os.getpid()} on"):
        Store(tmp_path).add([])
    Store(tmp_path).add([])


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    filled(tmp_path, range(1))
    code = (
        "import sys, time; from palate.data.store import Store\n"
        "with Store(sys.argv[1]).writing(): print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "in\n"
        with pytest.raises(StateError, match=f"process {writer.pid} on"):
            Store(tmp_path).add([])
        writer.kill()
        writer.wait()
    Store(tmp_path).add([])


# ---- snapshots


def test_a_digest_depends_on_rows_and_pictures_alone(tmp_path: Path) -> None:
    """One import of six, or two of three in the other order: the same data."""
    once = filled(tmp_path / "a", range(6)).freeze(tmp_path / "fa")
    filled(tmp_path / "b", range(3, 6))
    twice = filled(tmp_path / "b", range(3)).freeze(tmp_path / "fb")
    assert once.digest == twice.digest
    assert filled(tmp_path / "c", range(5)).freeze(tmp_path / "fc").digest != once.digest
    assert (once.comparisons, once.prompts, once.pictures, once.ties) == (6, 6, 12, 0)


def test_a_snapshot_is_made_once_and_not_from_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", range(2))
    store.freeze(tmp_path / "f")
    with pytest.raises(StateError, match="which exists"):
        store.freeze(tmp_path / "f")
    with pytest.raises(DataError, match="without any rows"):
        Store(tmp_path / "empty").freeze(tmp_path / "g")


def test_every_damage_to_a_snapshot_is_noticed_and_named(tmp_path: Path) -> None:
    filled(tmp_path / "s", range(3)).freeze(tmp_path / "f")
    for path in sorted((tmp_path / "f").iterdir()):
        whole = path.read_bytes()
        # The manifest may lose its last line break; nothing else may lose anything.
        cut = len(whole) - 1 - (path.name == "manifest.json")
        for wrong in (None, whole[: len(whole) // 2], whole[:cut], b""):
            path.unlink()
            if wrong is not None:
                path.write_bytes(wrong)
            with pytest.raises(DataError, match=path.name):
                PreferencePairs.open(tmp_path / "f")
            path.write_bytes(whole)
    assert len(PreferencePairs.open(tmp_path / "f")) == 3


def test_a_flipped_bit_in_a_picture_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    filled(tmp_path / "s", range(3)).freeze(tmp_path / "f")
    pairs = PreferencePairs.open(tmp_path / "f")
    (pack,) = (tmp_path / "f").glob("*.pack")
    whole = pack.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 4
    pack.write_bytes(damaged)
    names = [name for pair in pairs for name in (pair.chosen, pair.rejected)]
    with pytest.raises(DataError, match=pack.name):
        pairs.images(names)
    with pytest.raises(DataError, match=pack.name):
        verify(tmp_path / "f")
    pack.write_bytes(whole)
    verify(tmp_path / "f")


def test_a_label_changed_by_hand_is_noticed(tmp_path: Path) -> None:
    """Even with a manifest that was changed to match."""
    from palate.core.files import write_manifest

    filled(tmp_path / "s", range(3)).freeze(tmp_path / "f")
    rows = tmp_path / "f" / "rows.jsonl"
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    write_manifest(tmp_path / "f")
    with pytest.raises(DataError, match=r"rows\.jsonl does not have the digest"):
        PreferencePairs.open(tmp_path / "f")


def test_pictures_may_fill_several_packs(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    (tmp_path / "shelf").mkdir()
    names = [shelf.put(picture(n)).sha256 for n in range(7)]
    write_pack(tmp_path, shelf, names, pack_bytes=700)
    assert len(list(tmp_path.glob("*.pack"))) > 2
    pack = Pack(tmp_path)
    for number, name in enumerate(names):
        np.testing.assert_array_equal(pack.get(name), picture(number))
    with pytest.raises(DataError, match="is not in"):
        pack.get("a" * 64)


# ---- kill -9

CODE = """
import sys
from palate.data.store import Store
from palate.data.sources import import_comparisons
store = Store(sys.argv[1])
print("open", flush=True)
import_comparisons(store, "pickapic", sys.argv[2])
"""


def kill_while_importing(tmp_path: Path, times: int) -> None:
    rows = [row(n) for n in range(80)]
    data = pickapic(tmp_path / "rows.parquet", rows)
    cut = 0
    for attempt in range(times):
        folder = tmp_path / f"store-{attempt}"
        with subprocess.Popen(
            [sys.executable, "-c", CODE, str(folder), str(data)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            # Spread over the import, the first one at its very start.
            time.sleep(0.5 * attempt / times)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        here = len(list(Store(folder).rows()))
        assert here in (0, len(rows)), "a part is whole or absent"
        cut += here == 0
        import_comparisons(Store(folder), "pickapic", data)
        assert len(list(Store(folder).rows())) == len(rows)
        for kept in Store(folder).rows():
            Store(folder).images([image.sha256 for image in kept.images])
        assert not list(folder.rglob(".unfinished-*"))
    assert cut, "no import was interrupted: the test shows nothing"


def test_an_import_killed_at_any_moment_leaves_a_store_that_opens(tmp_path: Path) -> None:
    kill_while_importing(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_killed_imports_leave_stores_that_open(tmp_path: Path) -> None:
    kill_while_importing(tmp_path, 50)


def test_importing_again_adds_nothing(tmp_path: Path) -> None:
    store = store_of(tmp_path, [row(n) for n in range(5)])
    again = import_comparisons(store, "pickapic", tmp_path / "rows.parquet")
    assert (again.read, again.kept, again.dropped) == (5, 0, {"duplicate": 5})
    assert [facts["kept"] for facts in store.imports()] == [5, 0]
