"""The tables of `docs/minority.md`: means over seeds with Student's 95 % interval.

Run from the repository: `python lab/minority/table.py`. Writes `lab/minority/table.md`.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
CONDITIONS = ("flip05", "flip10", "flip20", "flip30", "flip40", "minority20")
WORDS = {
    "flip05": "5 % flips", "flip10": "10 %", "flip20": "20 %", "flip30": "30 %",
    "flip40": "40 %", "minority20": "20 % minority",
}  # fmt: skip
OTHER = ", the other assumption"
Rows = list[dict[str, str]]


def read(name: str) -> Rows:
    """A table, as text."""
    with (HERE / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def mean(values: Sequence[float], digits: int = 3) -> str:
    """The mean with half the width of its interval, and the seeds where there are not three."""
    if not len(values):
        return ""
    text = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return f"{text} (1 seed)"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{text} ± {half:.{digits}f}" + ("" if len(values) == 3 else f" ({len(values)} seeds)")


def grid(rows: Rows, column: str, detectors: Iterable[str]) -> list[str]:
    """One line per detector, one column per condition."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row[column]:
            found[row["detector"], row["condition"]].append(float(row[column]))
    lines = ["| Detector | " + " | ".join(WORDS[each] for each in CONDITIONS) + " |"]
    lines.append("|---" * (len(CONDITIONS) + 1) + "|")
    for name in detectors:
        cells = [mean(found[name, each]) for each in CONDITIONS]
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def by_assumption(rows: Rows) -> Rows:
    """The same rows, with what their probabilities assume in the name of the detector.

    Under `people`, which the command line assumes unless told otherwise; or under `flips`. In the
    conditions made by flips, `flips` is what holds and a user cannot know it.
    """
    found: Rows = []
    for row in rows:
        name, other = row["detector"].removesuffix(OTHER), row["detector"].endswith(OTHER)
        if name.startswith(("foretold", "cross")):
            flips = row["condition"].startswith("flip") != other
            name += ", flips assumed" if flips else ", people assumed (the default)"
        found.append({**row, "detector": name})
    return found


def lost(rows: Rows) -> list[str]:
    """By part of the pairs: area under the curve of the best detector that all have, and of u."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    wrong: dict[tuple[str, str], list[float]] = defaultdict(list)
    shown = ("foretold: pictures + model", "adaptive: product u")
    for row in rows:
        found[row["condition"], row["part"], row["detector"]].append(float(row["auc"]))
        wrong[row["condition"], row["part"]].append(float(row["wrong"]))
    lines = ["| Condition | Pairs | Share | " + " | ".join(shown) + " |", "|---|---|---|---|---|"]
    for condition in ("flip20", "minority20"):
        for part in sorted({row["part"] for row in rows if row["condition"] == condition}):
            cells = [mean(found[condition, part, name]) for name in shown]
            share = np.mean(wrong[condition, part])
            lines.append(f"| {WORDS[condition]} | {part} | {share:.2f} | {' | '.join(cells)} |")
    return lines


def reliable(rows: Rows, name: str, condition: str) -> list[str]:
    """Mean doubt and share of wrong labels in tenths of the labels."""
    doubt: dict[int, list[float]] = defaultdict(list)
    wrong: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row["detector"] == name and row["condition"] == condition:
            doubt[int(row["bin"])].append(float(row["doubt"]))
            wrong[int(row["bin"])].append(float(row["wrong"]))
    cells = [[f"{np.mean(side[each]):.2f}" for each in sorted(side)] for side in (doubt, wrong)]
    return [f"| {name}, {WORDS[condition]}: doubt | {' | '.join(cells[0])} |",
            f"| … were wrong | {' | '.join(cells[1])} |"]  # fmt: skip


def few(rows: Rows) -> list[str]:
    """How many pairs it takes."""
    lines = ["| Condition | Pairs | AUC | Precision in the top tenth | Estimated share |",
             "|---|---|---|---|---|"]  # fmt: skip
    groups: dict[tuple[str, int], Rows] = defaultdict(list)
    for row in rows:
        groups[row["condition"], int(row["pairs"])].append(row)
    for (condition, size), each in groups.items():
        cells = [mean([float(row[c]) for row in each]) for c in ("auc", "top10", "rate")]
        lines.append(f"| {WORDS[condition]} | {size} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Write `table.md`."""
    rows, bins = read("detectors"), read("reliability")
    names = sorted({row["detector"] for row in rows})
    assumed = by_assumption(rows)
    told = sorted(
        {row["detector"] for row in assumed if row["brier"]},
        key=lambda name: (name.replace("people", "a"), name),
    )
    best = "foretold: pictures + model"
    parts = {
        "Area under the curve": grid(rows, "auc", names),
        "How much more than the product metric u (AUC, same pairs)": grid(
            rows, "auc_over_u", (n for n in names if n != "adaptive: product u")
        ),
        "Share of wrong labels in the tenth with the highest doubt": grid(rows, "top10", names),
        "Brier score": grid(assumed, "brier", told),
        "Expected calibration error, ten bins of equal size": grid(
            assumed, "calibration_error", told
        ),
        "Estimated share of wrong labels": grid(assumed, "rate", told),
        "Reliability, by tenths of the labels": [
            "| Tenth of doubt |" + "".join(f" {i} |" for i in range(1, 11)),
            "|---" * 11 + "|",
            *(line for c in ("flip20", "flip40", "minority20") for line in reliable(bins, best, c)),
        ],
        "Where they fail: AUC by how clear the pair is, and for finding dissenters": lost(
            read("failures")
        ),
        "With fewer pairs (pictures + model)": few(read("sizes")),
    }
    text = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in parts.items())
    (HERE / "table.md").write_text(
        "# Which labels are wrong: every detector, means over seeds ± Student's 95 % half-width\n\n"
        "Written by `table.py` from the CSV files beside it, which have an interval per seed.\n\n"
        "Probabilities rest on an assumption, which is in the name where two are possible: people "
        "disagree on close calls (the default of the command), or labels are turned round at one "
        "rate (`--assume flips`). Where the tables do not name it, it is the one that holds; the "
        "order is nearly the same under both.\n\n"
        f"{text}\n"
    )


if __name__ == "__main__":
    main()
