"""The table of methods in the docs is made from the rows in the repository, and covers all."""

import csv
import subprocess
import sys
from pathlib import Path

from palate.objectives import OBJECTIVES


def test_the_table_in_the_docs_is_what_the_rows_give(repository: Path):
    made = subprocess.run(
        [sys.executable, "lab/methods/table.py"],
        cwd=repository, capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    fix = "python lab/methods/table.py > docs/methods/results.md"
    page = repository / "docs" / "methods" / "results.md"
    assert page.read_text(encoding="utf-8") == made.stdout, fix


def test_every_method_has_a_row_with_what_was_asked_of_it(repository: Path):
    with (repository / "lab" / "methods" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    asked = ("win_rate", "low", "high", "winner_drift", "seconds_per_step", "pairs_seen")
    for row in rows:
        assert all(float(row[name]) == float(row[name]) for name in asked), row["method"]
        assert float(row["low"]) <= float(row["win_rate"]) <= float(row["high"])
    assert {row["method"] for row in rows} == set(OBJECTIVES.names)
