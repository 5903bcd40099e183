import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.made import bomb, corner, encode, pickapic, plain, row
from palate.core.problems import DataError, SettingError
from palate.data.ingest import Gate
from palate.data.pairs import PreferencePairs
from palate.data.sources import REASONS, SOURCES, ImportReport, export_pickapic, import_comparisons
from palate.data.store import Store

Rows = list[dict[str, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def balanced(report: ImportReport) -> ImportReport:
    assert report.read == report.kept + sum(report.dropped.values())
    assert report.ties <= report.kept
    assert set(report.dropped) <= set(REASONS)
    assert set(report.dropped) <= set(report.examples)
    return report


# One decoder for all tests here; starting one takes longer than most of them.
GATE = Gate(seconds=20)


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    GATE.close()


def brought(store: Store, source: str, path: Path, **settings: Any) -> ImportReport:
    return balanced(import_comparisons(store, source, path, gate=GATE, **settings))


def parquet(path: Path, rows: Rows) -> Path:
    """Rows as they are, of whatever types, unlike the exporter which refuses wrong ones."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


# ---- Pick-a-Pic, row by row

SAME = plain(900)

PICKAPIC: dict[str, tuple[Callable[[], dict[str, Any]], str | None]] = {
    "first wins": (lambda: row(1, 1.0), None),
    "second wins": (lambda: row(1, 0.0), None),
    "tie": (lambda: row(1, 0.5), None),
    "soft label": (lambda: row(1, 0.7), None),
    "integer label": (lambda: row(1, 1), None),
    "tie named by the uid column": (
        lambda: row(1, 0.5, best_image_uid="tie", image_0_uid="a", image_1_uid="b"),
        None,
    ),
    "label missing": (lambda: row(1, None), "unlabelled"),
    "label NaN": (lambda: row(1, float("nan")), "unlabelled"),
    "said to be unlabelled": (lambda: row(1, 1.0, has_label=False), "unlabelled"),
    "label is text": (lambda: row(1, "1"), "wrong-type"),
    "label is a word": (lambda: row(1, "left"), "wrong-type"),
    "label is true": (lambda: row(1, True), "wrong-type"),
    "label is a list": (lambda: row(1, [1.0]), "wrong-type"),
    "label is bytes": (lambda: row(1, b"1"), "wrong-type"),
    "label of 2": (lambda: row(1, 2.0), "label-out-of-range"),
    "label of -1": (lambda: row(1, -1.0), "label-out-of-range"),
    "label infinite": (lambda: row(1, float("inf")), "label-out-of-range"),
    "labels both 1": (lambda: row(1, 1.0, label_1=1.0), "labels-disagree"),
    "labels both 0": (lambda: row(1, 0.0, label_1=0.0), "labels-disagree"),
    "uid of the loser": (
        lambda: row(1, 1.0, best_image_uid="b", image_0_uid="a", image_1_uid="b"),
        "labels-disagree",
    ),
    "uid of one side of a tie": (
        lambda: row(1, 0.5, best_image_uid="b", image_0_uid="a", image_1_uid="b"),
        "labels-disagree",
    ),
    "caption missing": (lambda: row(1, caption=None), "empty-caption"),
    "caption empty": (lambda: row(1, caption="  "), "empty-caption"),
    "caption of control characters": (lambda: row(1, caption="\0\x07\u202e"), "empty-caption"),
    "caption a number": (lambda: row(1, caption=5), "wrong-type"),
    "caption is bytes": (lambda: row(1, caption=b"\xff\xfe"), "wrong-type"),
    "caption huge": (lambda: row(1, caption="x" * 1_000_000), "caption-too-long"),
    "picture missing": (lambda: row(1, jpg_1=None), "missing-field"),
    "picture is text": (lambda: row(1, jpg_0="abc"), "wrong-type"),
    "picture empty": (lambda: row(1, jpg_0=b""), "broken-picture"),
    "picture broken": (lambda: row(1, jpg_0=plain(1, (64, 64), "JPEG")[:-200]), "broken-picture"),
    "picture a GIF": (
        lambda: row(1, jpg_0=encode(Image.new("RGB", (9, 9)), "GIF")),
        "unsupported-format",
    ),
    "picture a bomb": (lambda: row(1, jpg_1=bomb(9000, 9000)), "picture-too-large"),
    "picture of four pixels": (lambda: row(1, jpg_1=plain(1, (2, 2))), "picture-too-small"),
    "same bytes on both sides": (lambda: row(1, jpg_0=SAME, jpg_1=SAME), "same-picture-twice"),
    "same pixels in other bytes": (
        lambda: row(1, jpg_0=encode(corner()), jpg_1=encode(corner(), compress_level=1)),
        "same-picture-twice",
    ),
    "pictures as the Hub wraps them": (
        lambda: row(1, jpg_0={"bytes": plain(1), "path": "../../etc/passwd"}),
        None,
    ),
    "wrapped picture without bytes": (
        lambda: row(1, jpg_0={"bytes": None, "path": "../../etc/passwd"}),
        "missing-field",
    ),
    "judge is text": (lambda: row(1, user_id="anna"), None),
    "judge is nothing": (lambda: row(1, user_id=None), None),
    "date of another type": (lambda: row(1, created_at=5), None),
}


@pytest.mark.parametrize("name", PICKAPIC)
def test_each_kind_of_row_is_kept_or_dropped_for_its_reason(
    store: Store, tmp_path: Path, name: str
) -> None:
    make, reason = PICKAPIC[name]
    report = brought(store, "pickapic", parquet(tmp_path / "x.parquet", [make()]))
    assert (report.kept, report.dropped) == ((1, {}) if reason is None else (0, {reason: 1}))


def test_the_run_goes_on_past_bad_rows_and_says_what_happened(store: Store, tmp_path: Path) -> None:
    rows = [
        row(1, 1.0, user_id=3),
        row(2, 0.5),
        row(3, None),
        row(4, jpg_0=b"\xff\xd8\xffbroken"),
        row(5, jpg_0=SAME, jpg_1=SAME),
        row(1, 1.0, user_id=3),
        row(6, 0.0),
    ]
    report = brought(store, "pickapic", parquet(tmp_path / "x.parquet", rows))
    assert (report.read, report.kept, report.ties) == (7, 3, 1)
    assert report.dropped == {
        "unlabelled": 1,
        "broken-picture": 1,
        "same-picture-twice": 1,
        "duplicate": 1,
    }
    text = str(report)
    assert text.startswith("7 rows read = 3 kept + 4 dropped\n  kept: 1 ties (never a win)")
    assert "1 duplicate: the same judgement was there already (pickapic:x.parquet#row 5)" in text
    assert json.loads(json.dumps(report.to_json()))["read"] == 7


def test_no_tie_becomes_a_win(store: Store, tmp_path: Path) -> None:
    rows = [row(n, label) for n, label in enumerate([1.0, 0.5, 0.0, 0.5, 0.5])]
    report = brought(store, "pickapic", pickapic(tmp_path / "x.parquet", rows))
    assert report.ties == 3
    store.freeze(tmp_path / "frozen")
    pairs = PreferencePairs.open(tmp_path / "frozen")
    assert {pair.prompt for pair in pairs} == {"prompt 0", "prompt 2"}


def test_the_label_decides_which_picture_is_chosen(store: Store, tmp_path: Path) -> None:
    red, blue = (encode(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue"))
    rows = [
        {"caption": "first", "jpg_0": red, "jpg_1": blue, "label_0": 1.0},
        {"caption": "second", "jpg_0": red, "jpg_1": blue, "label_0": 0.0},
    ]
    brought(store, "pickapic", pickapic(tmp_path / "x.parquet", rows))
    store.freeze(tmp_path / "frozen")
    pairs = PreferencePairs.open(tmp_path / "frozen")
    chosen = {pair.prompt: tuple(pairs.image(pair.chosen)[0, 0]) for pair in pairs}
    assert chosen == {"first": (255, 0, 0), "second": (0, 0, 255)}


def test_swapped_and_opposite_judgements_are_told_apart(store: Store, tmp_path: Path) -> None:
    """Row 1 is row 0 with sides swapped; 2 and 3 say the opposite; 4 is about another prompt."""
    base = row(1, 1.0, user_id=1)
    swapped = {**base, "jpg_0": base["jpg_1"], "jpg_1": base["jpg_0"], "label_0": 0.0}
    opposite = {**base, "label_0": 0.0}
    rows = [base, swapped, opposite, {**opposite, "user_id": 2}, {**opposite, "caption": "else"}]
    report = brought(store, "pickapic", pickapic(tmp_path / "x.parquet", rows))
    assert report.dropped == {"duplicate": 1}
    assert (report.kept, report.contradictory) == (4, 2)
    assert report.examples["contradictory"] == [
        "pickapic:x.parquet#row 2",
        "pickapic:x.parquet#row 3",
    ]
    assert "2 contradict another row" in str(report)


def test_a_contradiction_is_seen_across_imports(store: Store, tmp_path: Path) -> None:
    brought(store, "pickapic", pickapic(tmp_path / "a.parquet", [row(1, 1.0)]))
    report = brought(store, "pickapic", pickapic(tmp_path / "b.parquet", [row(1, 0.0)]))
    assert (report.kept, report.contradictory) == (1, 1)


def test_optional_columns_are_named_and_used(store: Store, tmp_path: Path) -> None:
    import datetime

    day = datetime.datetime(2026, 1, 2)
    rows = [
        row(1, user_id=7, model_0="sd", model_1="sdxl", created_at=day, num_example_per_prompt=3)
    ]
    report = brought(store, "pickapic", parquet(tmp_path / "x.parquet", rows))
    (note,) = report.notes
    assert note == (
        "optional columns found: user_id, model_0, model_1, num_example_per_prompt, created_at"
    )
    (kept,) = store.rows()
    assert (kept.judge, kept.source) == ("pickapic/7", "human")
    assert kept.judged_at is not None
    assert kept.judged_at.startswith("2026-01-02")
    assert kept.generation == ({"model": "sd"}, {"model": "sdxl"})


def test_hidden_characters_leave_a_caption(store: Store, tmp_path: Path) -> None:
    text = "a\0 red\u202e cat\n\tsitting\x1b[31m \u200d\u2764\ufe0f  "
    brought(store, "pickapic", parquet(tmp_path / "x.parquet", [row(1, caption=text)]))
    (kept,) = store.rows()
    assert kept.prompt == "a red cat  sitting[31m \u200d\u2764\ufe0f"


def test_text_that_is_not_utf8_is_counted_not_raised(store: Store, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row(1), row(2)])
    broken = pa.array([b"\xff\xfe\xfa", b"fine"], pa.binary()).view(pa.string())
    index = table.schema.get_field_index("caption")
    pq.write_table(table.set_column(index, "caption", broken), tmp_path / "x.parquet")
    report = brought(store, "pickapic", tmp_path / "x.parquet")
    assert (report.kept, report.dropped) == (1, {"wrong-type": 1})


# ---- Pick-a-Pic, whole files


def test_a_missing_column_is_a_problem_that_guesses(store: Store, tmp_path: Path) -> None:
    wrong = {"jpg_0": b"", "jpg_1": b"", "caption": "x", "label0": 1.0}
    with pytest.raises(DataError, match=r"Need the column label_0\. Rename label0 to label_0\?"):
        import_comparisons(store, "pickapic", parquet(tmp_path / "x.parquet", [wrong]))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + bytes(500)])
def test_a_file_that_is_not_parquet_is_refused(
    store: Store, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parquet, which is not parquet or is cut"):
        import_comparisons(store, "pickapic", tmp_path / "x.parquet")


def test_a_cut_parquet_file_is_refused(store: Store, tmp_path: Path) -> None:
    path = pickapic(tmp_path / "x.parquet", [row(n) for n in range(9)])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="Fetch or copy it again"):
        import_comparisons(store, "pickapic", path)


def test_rows_behind_a_damaged_page_are_counted(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    export_pickapic([row(n) for n in range(40)], path, rows_per_group=10)
    data = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(2).column(9).data_page_offset
    data[place : place + 400] = bytes(400)
    path.write_bytes(data)
    report = brought(store, "pickapic", path)
    assert report.read == 40
    assert report.dropped["unreadable-rows"] >= 10
    assert report.kept >= 10


def test_an_empty_table_is_no_error(store: Store, tmp_path: Path) -> None:
    report = brought(store, "pickapic", pickapic(tmp_path / "x.parquet", []))
    assert (report.read, report.kept) == (0, 0)


def test_a_folder_of_shards_is_read_in_order_and_a_bad_shard_is_named(
    store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    for number in range(3):
        pickapic(folder / "data" / f"train-{number}.parquet", [row(number)])
    (folder / "data" / "train-1.parquet").write_bytes(b"oops")
    pickapic(folder / "data" / "test-0.parquet", [row(9)])
    report = brought(store, "pickapic", folder, files="train-*.parquet")
    assert report.kept == 2
    assert "file refused: Got train-1.parquet" in str(report)
    assert [kept.origin for kept in store.rows()] == [
        "pickapic:train-0.parquet#row 0",
        "pickapic:train-2.parquet#row 0",
    ]
    with pytest.raises(DataError, match="without files like"):
        import_comparisons(store, "pickapic", folder, files="nothing*.parquet")


def test_a_hub_id_is_fetched_and_read_like_a_folder(store: Store, tmp_path: Path) -> None:
    """Only the download is replaced; what it leaves in the cache is links, as the real one does."""
    asked: list[tuple[str, str, str | None]] = []

    def fetch(name: str, pattern: str, revision: str | None) -> Path:
        asked.append((name, pattern, revision))
        blob = pickapic(tmp_path / "blobs" / "1234", [row(1)])
        shard = tmp_path / "snapshots" / "data" / "train-0.parquet"
        shard.parent.mkdir(parents=True)
        shard.symlink_to(blob)
        return tmp_path / "snapshots"

    report = brought(store, "pickapic", Path("some-one/pick.a_pic"), fetch=fetch, revision="abc")
    assert report.kept == 1
    assert asked == [("some-one/pick.a_pic", "*.parquet", "abc")]


def test_a_data_set_that_cannot_be_fetched_is_a_problem(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(DataError, match=r"some/one: no network.*gone from the Hub since 2025"):
        import_comparisons(store, "pickapic", "some/one")


@pytest.mark.parametrize("path", ["nowhere.parquet", "../x/y", "/nowhere/at/all", "a/b/c", ""])
def test_a_path_that_is_nothing_is_never_sent_to_the_hub(store: Store, path: str) -> None:
    def fetch(*_: Any) -> Path:
        raise AssertionError("must not be asked")

    with pytest.raises(DataError):
        import_comparisons(store, "pickapic", path, fetch=fetch)


def test_names_and_settings_that_do_not_exist_are_refused(store: Store) -> None:
    with pytest.raises(SettingError, match="Did you mean pickapic"):
        import_comparisons(store, "pickapick", "x")
    with pytest.raises(SettingError, match="Did you mean labels"):
        import_comparisons(store, "pickapic", "x", label="human")
    with pytest.raises(SettingError, match="human"):
        import_comparisons(store, "pickapic", "x", labels="humans")
    with pytest.raises(SettingError, match="positive number"):
        import_comparisons(store, "pickapic", "x", limit=0)


def test_a_limit_stops_early_and_every_row_is_announced(store: Store, tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", [row(n, None if n == 1 else 1.0) for n in range(6)])
    seen: list[int] = []
    report = brought(store, "pickapic", path, limit=3, on_row=seen.append, labels="world")
    assert (report.read, report.kept) == (3, 2)
    assert seen == [1, 2, 3]
    assert {kept.source for kept in store.rows()} == {"world"}


LABELS = st.sampled_from([1.0, 0.0, 0.5, 0.9, None, float("nan"), -1.0, 3.0])
PICTURES = st.sampled_from(
    [plain(1), plain(2), plain(3), b"", b"\xff\xd8\xff", None, plain(1)[:90]]
)
ROWS = st.fixed_dictionaries(
    {
        "caption": st.sampled_from(["a", "b", "", None, "x" * 5000, "\0"]),
        "jpg_0": PICTURES,
        "jpg_1": PICTURES,
        "label_0": LABELS,
        "label_1": st.none() | LABELS,
        "has_label": st.sampled_from([True, True, False, None]),
        "user_id": st.none() | st.integers(0, 2),
    }
)


@settings(max_examples=8)
@given(rows=st.lists(ROWS, min_size=1, max_size=25))
def test_rows_in_are_always_rows_kept_plus_rows_dropped(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    store = Store(folder / "store")
    report = brought(store, "pickapic", parquet(folder / "x.parquet", [row(999), *rows]))
    assert report.read == len(rows) + 1
    kept = list(store.rows())
    assert len(kept) == report.kept
    assert sum(one.tie for one in kept) == report.ties
    again = brought(store, "pickapic", folder / "x.parquet")
    assert (again.read, again.kept) == (report.read, 0)


# ---- the exporter


def test_what_is_exported_is_imported_again(store: Store, tmp_path: Path) -> None:
    count = export_pickapic(
        (row(n, 0.0) for n in range(7)), tmp_path / "x.parquet", rows_per_group=3
    )
    with pq.ParquetFile(tmp_path / "x.parquet") as file:
        assert file.metadata.num_row_groups == 3
        assert {"jpg_0", "label_1", "best_image_uid", "ranking_id"} <= set(file.schema_arrow.names)
    assert count == brought(store, "pickapic", tmp_path / "x.parquet").kept == 7


def test_a_row_that_does_not_fit_is_not_exported(tmp_path: Path) -> None:
    for wrong, kind in (
        (row(1, labl=3), SettingError),
        (row(1, caption=None), DataError),
        (row(1, user_id="x"), DataError),
    ):
        with pytest.raises(kind):
            export_pickapic([wrong], tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


# ---- formats with file names


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A data folder with a.png … f.png, a secret outside of it, and links that lead there."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate("abcdef"):
        (folder / f"{name}.png").write_bytes(plain(number))
    (tmp_path / "secret.png").write_bytes(plain(99))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "inner.png").symlink_to(folder / "a.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    return folder


def lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records))
    return path


def pair(better: object = "a.png", worse: object = "b.png", **others: Any) -> dict[str, Any]:
    return {"prompt": "p", "chosen": better, "rejected": worse, **others}


JSONL: dict[str, tuple[Any, str | None]] = {
    "plain": (pair(), None),
    "other names": ({"caption": "p", "winner": "a.png", "loser": "b.png"}, None),
    "short names": ({"text": "p", "win": "a.png", "lose": "b.png"}, None),
    "in a dotted way": (pair("./a.png"), None),
    "link that stays inside": (pair("inner.png"), None),
    "tie": (pair(agreement=0.5), None),
    "disagreement": (pair(agreement=0.2), None),
    "judge and source": (pair(judge="anna", source="vlm"), None),
    "up and out": (pair("../secret.png"), "path-outside"),
    "up and back": (pair("../data/a.png"), "path-outside"),
    "up in the middle": (pair("x/../../secret.png"), "path-outside"),
    "absolute": (pair("/etc/passwd"), "path-outside"),
    "home": (pair("~/a.png"), "path-outside"),
    "backslashes": (pair("..\\secret.png"), "path-outside"),
    "drive": (pair("C:\\a.png"), "path-outside"),
    "share": (pair("\\\\host\\a.png"), "path-outside"),
    "link that leads out": (pair("link.png"), "path-outside"),
    "folder link that leads out": (pair("up/secret.png"), "path-outside"),
    "link to itself": (pair("loop/a.png"), "missing-file"),
    "NUL": (pair("a.png\0.txt"), "path-outside"),
    "empty name": (pair(""), "path-outside"),
    "very long name": (pair("a" * 5000), "path-outside"),
    "address": (pair("http://host/a.png"), "missing-file"),
    "missing": (pair("z.png"), "missing-file"),
    "folder": (pair("."), "missing-file"),
    "number": (pair(5), "wrong-type"),
    "null": (pair(None), "wrong-type"),
    "same name": (pair("a.png", "a.png"), "same-picture-twice"),
    "same through a link": (pair("a.png", "inner.png"), "same-picture-twice"),
    "no loser": ({"prompt": "p", "chosen": "a.png"}, "missing-field"),
    "no prompt": ({"chosen": "a.png", "rejected": "b.png"}, "missing-field"),
    "empty prompt": (pair(prompt=""), "empty-caption"),
    "prompt a list": (pair(prompt=["p"]), "wrong-type"),
    "agreement text": (pair(agreement="1"), "wrong-type"),
    "agreement null": (pair(agreement=None), "unlabelled"),
    "agreement NaN": (pair(agreement=float("nan")), "unlabelled"),
    "agreement 2": (pair(agreement=2), "label-out-of-range"),
    "agreement huge": (pair(agreement=10**30), "label-out-of-range"),
    "source unknown": (pair(source="oracle"), "wrong-type"),
    "source a list": (pair(source=["human"]), "wrong-type"),
    "not JSON": ("{nope", "not-json"),
    "cut": ('{"prompt": "p", "cho', "not-json"),
    "nested": ("[" * 100_000, "not-json"),
    "huge number": ('{"prompt": ' + "9" * 6000 + "}", "not-json"),
    "not UTF-8": ("\udcff", "not-json"),
    "a list": ([1, 2], "wrong-type"),
    "long line": ('{"prompt": "' + "x" * 1_100_000 + '"}', "line-too-long"),
}


@pytest.mark.parametrize("name", JSONL)
def test_each_kind_of_line_is_kept_or_dropped_for_its_reason(
    store: Store, pictures: Path, name: str
) -> None:
    record, reason = JSONL[name]
    path = pictures / "pairs.jsonl"
    text = record if isinstance(record, str) else json.dumps(record)
    good = json.dumps(pair("c.png", "d.png"))
    # A good line behind it: the run goes on.
    path.write_bytes(f"{text}\n\n{good}\n".encode("utf-8", "surrogateescape"))
    report = brought(store, "jsonl", path)
    expected = (2, {}) if reason is None else (1, {reason: 1})
    assert (report.read, report.kept, report.dropped) == (2, *expected)


def test_winner_and_loser_lines_keep_what_they_say(store: Store, pictures: Path) -> None:
    record = pair(agreement=0.2, judge="anna\0", source="vlm", judged_at="2026")
    brought(store, "jsonl", lines(pictures / "x.jsonl", [record]))
    (kept,) = store.rows()
    assert (kept.agreement, kept.judge, kept.source, kept.judged_at) == (0.2, "anna", "vlm", "2026")
    assert kept.ranks == (2, 1)


def test_pictures_may_be_in_another_folder(store: Store, pictures: Path, tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", [pair()])
    assert brought(store, "jsonl", path).dropped == {"missing-file": 1}
    assert brought(store, "jsonl", path, images=str(pictures), labels="self").kept == 1


HPD: dict[str, tuple[Any, str | None]] = {
    "training record": (
        {"prompt": "p", "image_path": ["a.png", "b.png"], "human_preference": [0, 1]},
        None,
    ),
    "test record": (
        {"prompt": "p", "image_path": ["a.png", "b.png", "c.png"], "rank": [2, 1, 3]},
        None,
    ),
    "no preference": ({"prompt": "p", "image_path": ["a.png", "b.png"]}, "unlabelled"),
    "empty preference": (
        {"prompt": "p", "image_path": ["a.png", "b.png"], "human_preference": []},
        "unlabelled",
    ),
    "preference of 2": (
        {"prompt": "p", "image_path": ["a.png", "b.png"], "human_preference": [0, 2]},
        "label-out-of-range",
    ),
    "preference a word": (
        {"prompt": "p", "image_path": ["a.png", "b.png"], "human_preference": "left"},
        "wrong-type",
    ),
    "preference of words": (
        {"prompt": "p", "image_path": ["a.png", "b.png"], "human_preference": ["0", "1"]},
        "wrong-type",
    ),
    "rank of halves": (
        {"prompt": "p", "image_path": ["a.png", "b.png"], "rank": [1, 1.5]},
        "label-out-of-range",
    ),
    "too few ranks": (
        {"prompt": "p", "image_path": ["a.png", "b.png"], "rank": [1]},
        "wrong-count",
    ),
    "one picture": ({"prompt": "p", "image_path": ["a.png"], "rank": [1]}, "wrong-count"),
    "path a word": ({"prompt": "p", "image_path": "a.png", "rank": [1]}, "wrong-type"),
    "path outside": (
        {"prompt": "p", "image_path": ["../secret.png", "b.png"], "rank": [1, 2]},
        "path-outside",
    ),
    "no prompt": ({"image_path": ["a.png", "b.png"], "rank": [1, 2]}, "missing-field"),
    "no pictures": ({"prompt": "p", "rank": [1, 2]}, "missing-field"),
    "not a record": (7, "wrong-type"),
}  # fmt: skip


@pytest.mark.parametrize("name", HPD)
def test_each_kind_of_hpdv2_record(store: Store, pictures: Path, name: str) -> None:
    record, reason = HPD[name]
    (pictures / "train.json").write_text(json.dumps([record]))
    report = brought(store, "hpdv2", pictures / "train.json")
    assert (report.kept, report.dropped) == ((1, {}) if reason is None else (0, {reason: 1}))


def test_hpdv2_prefers_what_people_preferred(store: Store, pictures: Path) -> None:
    records = [
        {"prompt": "p", "image_path": ["a.png", "b.png"], "human_preference": [0, 1],
         "user_hash": "u"},
        {"prompt": "q", "image_path": ["c.png", "d.png", "e.png"], "rank": [3, 1, 2],
         "user_hash": ["u", "v"], "raw_annotations": [[3, 1, 2], [2, 1, 3]]},
        {"prompt": "r", "image_path": ["a.png", "b.png"], "human_preference": [1, 1]},
    ]  # fmt: skip
    (pictures / "train.json").write_text(json.dumps(records))
    report = brought(store, "hpdv2", pictures)
    assert report.ties == 1
    ranks = {kept.prompt: (kept.ranks, kept.judge) for kept in store.rows()}
    assert ranks == {
        "p": ((2, 1), "hpdv2/u"),
        "q": ((3, 1, 2), "hpdv2/combined"),
        "r": ((1, 1), "hpdv2/unknown"),
    }


def test_hpdv2_pictures_may_be_in_a_folder_named_like_the_file(
    store: Store, pictures: Path, tmp_path: Path
) -> None:
    root = tmp_path / "hpd"
    root.mkdir()
    pictures.rename(root / "test")
    record = {"prompt": "p", "image_path": ["a.png", "b.png"], "rank": [1, 2]}
    (root / "test.json").write_text(json.dumps([record]))
    assert brought(store, "hpdv2", root / "test.json").kept == 1


@pytest.mark.parametrize(
    "text", ["", "[{}", "{}", "[" * 100_000, '"x"', "[1,", '{"a": [1, 2}', "\x00"]
)
@pytest.mark.parametrize("source", ["hpdv2", "imagereward"])
def test_a_json_file_that_is_cut_or_no_list_is_refused_whole(
    store: Store, tmp_path: Path, source: str, text: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json: .*holds a list of records"):
        import_comparisons(store, source, tmp_path / "x.json")


def test_imagereward_records_of_one_prompt_become_one_ranking(store: Store, pictures: Path) -> None:
    def one(name: str, key: str, rank: object, prompt: str = "p") -> dict[str, Any]:
        return {"image_path": f"{name}.png", "prompt_id": key, "prompt": prompt, "rank": rank,
                "overall_rating": 4}  # fmt: skip

    records = [
        one("a", "1", 2), one("b", "1", 1), one("c", "1", 2),
        one("d", "2", 1), one("e", "2", None),
        one("f", "3", 1),
        one("a", "4", 1, "p"), one("b", "4", 2, "q"),
        one("c", "5", 1), one("d", "5", 1),
        {"prompt": "no id"},
    ]  # fmt: skip
    (pictures / "train_1.json").write_text(json.dumps(records))
    report = brought(store, "imagereward", pictures)
    assert (report.read, report.kept, report.ties) == (6, 2, 1)
    assert report.dropped == {
        "wrong-type": 1,
        "wrong-count": 1,
        "labels-disagree": 1,
        "missing-field": 1,
    }
    ranks = {len(kept.images): kept.ranks for kept in store.rows()}
    assert ranks == {3: (2, 1, 2), 2: (1, 1)}
    store.freeze(pictures.parent / "frozen")
    assert len(PreferencePairs.open(pictures.parent / "frozen")) == 2


def test_the_imagereward_benchmark_shape_is_read_too(store: Store, pictures: Path) -> None:
    records = [
        {
            "id": "1",
            "prompt": "p",
            "generations": ["a.png", "b.png", "c.png"],
            "ranking": [1, 3, 2],
        },
        {"id": "2", "prompt": "p", "generations": ["a.png", "b.png"], "ranking": [1, 2, 3]},
        {"id": "3", "prompt": "p", "generations": "a.png", "ranking": [1]},
        {"id": "4", "prompt": "p", "generations": ["a.png", "b.png"]},
    ]
    (pictures / "test.json").write_text(json.dumps(records))
    report = brought(store, "imagereward", pictures / "test.json")
    assert (report.kept, report.dropped) == (
        1,
        {"wrong-count": 1, "wrong-type": 1, "unlabelled": 1},
    )


# ---- two folders


def folders(root: Path) -> Path:
    for side, first in (("chosen", 0), ("rejected", 50)):
        (root / side).mkdir(parents=True)
        for number in range(3):
            (root / side / f"{number}.png").write_bytes(plain(first + number))
    for number in range(3):
        (root / "chosen" / f"{number}.txt").write_text(f"caption {number}\n")
    return root


def test_two_folders_pair_by_name(store: Store, tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    (root / "chosen" / "lonely.png").write_bytes(plain(7))
    (root / "rejected" / "other.jpg").write_bytes(plain(8, kind="JPEG"))
    (root / "chosen" / "notes.md").write_text("not a picture")
    (root / "chosen" / "1.jpg").write_bytes(plain(9, kind="JPEG"))
    (root / "chosen" / "2.txt").unlink()
    (root / "rejected" / "2.txt").write_bytes(b"\xff\xfe")
    report = brought(store, "folders", root)
    assert (report.read, report.kept) == (5, 1)
    assert report.dropped == {"unpaired": 2, "wrong-count": 1, "wrong-type": 1}
    (kept,) = store.rows()
    assert (kept.prompt, kept.ranks) == ("caption 0", (1, 2))
    assert np.array_equal(
        store.image(kept.images[0].sha256),
        np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8),
    )


def test_captions_may_come_from_a_file_or_be_one_for_all(store: Store, tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    (root / "captions.json").write_text(json.dumps({"0.png": "zero", "1": 5}))
    for text in root.rglob("*.txt"):
        text.unlink()
    report = brought(store, "folders", root, captions="captions.json", caption="any")
    assert report.dropped == {"wrong-type": 1}
    assert sorted(kept.prompt for kept in store.rows()) == ["any", "zero"]
    report = brought(Store(tmp_path / "other"), "folders", root)
    assert report.dropped == {"empty-caption": 3}
    with pytest.raises(DataError, match="captions file"):
        import_comparisons(store, "folders", root, captions="../secret.json")
    with pytest.raises(DataError, match="without a folder better"):
        import_comparisons(store, "folders", root, chosen="better")


def test_a_huge_caption_file_is_not_read_whole(store: Store, tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    (root / "chosen" / "0.txt").write_text("x" * 3_000_000)
    assert brought(store, "folders", root).dropped == {"caption-too-long": 1}


def test_a_picture_file_that_leads_out_of_its_folder_is_refused(
    store: Store, tmp_path: Path
) -> None:
    root = folders(tmp_path / "data")
    (tmp_path / "secret.png").write_bytes(plain(99))
    (root / "chosen" / "0.png").unlink()
    (root / "chosen" / "0.png").symlink_to(tmp_path / "secret.png")
    assert brought(store, "folders", root).dropped == {"path-outside": 1}


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_source_refuses_a_path_that_does_not_exist(
    store: Store, tmp_path: Path, source: str
) -> None:
    with pytest.raises(DataError, match="does not exist"):
        import_comparisons(store, source, tmp_path / "nothing")
