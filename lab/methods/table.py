"""The table of all methods on the small world, from `results.csv` as Markdown.

Run from the repository: `python lab/methods/table.py > docs/methods/results.md`.
"""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import mean

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.csv"


def rows() -> dict[str, list[dict[str, str]]]:
    """The rows of each method, in the order in which the methods first appear."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with RESULTS.open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["method"]].append(row)
    return found


def line(name: str, seeds: list[dict[str, str]], dpo: float) -> str:
    """One method."""

    def numbers(column: str) -> list[float]:
        return [float(row[column]) for row in seeds]

    rate, change, drift = numbers("win_rate"), numbers("change"), numbers("winner_drift")
    low, high = min(numbers("low")), max(numbers("high"))
    seconds, pairs = mean(numbers("seconds_per_step")), mean(numbers("pairs_seen"))
    cells = [
        f"[`{name}`]({name}.md)",
        f"{100 * mean(rate):.0f} % ({100 * low:.0f} to {100 * high:.0f})",
        f"{mean(change):+.2f} ({min(change):+.2f} to {max(change):+.2f})",
        f"{100 * mean(drift):+.1f} %",
        f"{seconds:.2f}",
        f"{seconds / dpo:.1f}",
        f"{pairs:.0f}",
        str(len(seeds)),
    ]
    return "| " + " | ".join(cells) + " |"


def table() -> str:
    """The whole page."""
    found = rows()
    dpo = mean(float(row["seconds_per_step"]) for row in found["dpo"])
    lines = [line(name, seeds, dpo) for name, seeds in found.items()]
    head, findings = ((FOLDER / name).read_text() for name in ("head.md", "findings.md"))
    return head + "\n".join(lines) + "\n\n" + findings


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201
