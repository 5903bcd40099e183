"""A path that leads to no snapshot is a wrong path, not a damaged snapshot."""

from pathlib import Path

import pytest

from palate.core.problems import DataError
from palate.data.comparison import ImageRef, compare
from palate.data.snapshot import read_imports, read_rows, verify


@pytest.mark.parametrize("read", [read_rows, read_imports, verify])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothere", "which does not exist"),
        ("afile", "which is no folder"),
        ("afile/below", "which does not exist"),
        ("empty", "no snapshot.json in"),
    ],
)
def test_a_wrong_path_is_to_be_checked_and_nothing_to_be_frozen_again(tmp_path, read, name, said):
    (tmp_path / "afile").write_text("words", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said) as refusal:
        read(tmp_path / name)
    assert "Check the path" in str(refusal.value)
    assert "Freeze the store again" not in str(refusal.value)


def test_a_snapshot_that_lost_a_file_is_to_be_frozen_again(tmp_path: Path):
    pictures = [ImageRef(sha256=name * 64, width=1, height=1) for name in "ab"]
    row = compare(prompt="p", images=pictures, agreement=1.0)
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(row.to_json() + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="Freeze the store again"):
        read_rows(folder)
