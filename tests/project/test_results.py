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
    # Methods that follow people are asked whom they follow, elsewhere.
    alone = {method.name for method in OBJECTIVES if not method.needs.users}
    assert {row["method"] for row in rows} == alone


def test_methods_that_follow_people_have_a_result_of_their_own(repository: Path):
    with (repository / "lab" / "personal" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "looks"]
    found = {(row["group"], row["question"]): row for row in rows if row["seeds"] == "0 1 2"}
    for group in ("seen", "unseen"):
        for question in ("own_over_base", "own_over_pooled", "own_minus_shuffled"):
            row = found[group, question]
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    assert {m.name for m in OBJECTIVES if m.needs.users} == {"ppd"}
