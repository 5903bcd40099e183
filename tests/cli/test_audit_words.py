"""What acting on an audit says of records that were taken apart, or became one."""

from audit.judged import row, snapshot


def test_rankings_taken_apart_and_labels_that_become_one_are_said(palate, tmp_path):
    ranking = {**row(0, 1, None), "images": [0, 1, 2], "ranks": [1, 2, 3]}
    rows = [ranking, row(1, 0, judge="ben"), row(4, 5, prompt="p"), row(5, 4, prompt="p")]
    folder = snapshot(tmp_path, rows)
    answer = palate("audit", folder, "--drop", "T003", "--out", tmp_path / "less")
    assert "1 taken apart into 2" in answer.out
    answer = palate("audit", folder, "--downweight", "T003", "--out", tmp_path / "soft")
    assert "(1 came out the same as another)" in answer.out
