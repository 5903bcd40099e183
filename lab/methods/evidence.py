"""What was measured, as the first sentences of each method page's evidence.

Run from the repository after new rows in `results.csv`: `python lab/methods/evidence.py`. It writes
the two sentences into `objectives/pages/NAME.md`, in place of those that stood there, and prints
the pages it changed; `palate methods NAME > docs/methods/NAME.md` then renews the copies.
"""

import re
import textwrap
from pathlib import Path
from statistics import mean

from table import rows

PAGES = Path(__file__).parents[2] / "src" / "palate" / "objectives" / "pages"
# Sentences of this form are replaced; anything else under the heading stays.
_OURS = re.compile(
    r"Not yet measured on the small world\.|Measured beside all methods: .*?results\.md\)\.", re.S
)
# These pages tell of longer runs first; the table has their rows too.
OWN = ("sft", "dpo")


def sentences(seeds: list[dict[str, str]]) -> str:
    """Win rate, change and drift over the seeds, and under which conditions."""
    rate, change, drift = (
        [float(row[name]) for row in seeds] for name in ("win_rate", "change", "winner_drift")
    )
    low, high = (
        100 * pick(float(row[end]) for row in seeds) for pick, end in ((min, "low"), (max, "high"))
    )
    number = {1: "one seed", 2: "two seeds", 3: "three seeds"}[len(seeds)]
    said = (
        f"Measured beside all methods: win rate {100 * mean(rate):.0f} % ({low:.0f} to {high:.0f} "
        f"%) on the small world, {number}. The change is {mean(change):+.2f} logits "
        f"({min(change):+.2f} to {max(change):+.2f}), the winner drift {100 * mean(drift):+.1f} %, "
        "at settings carried over from the papers and not tuned; all rows are in "
        "[the table](results.md)."
    )
    return textwrap.fill(said, 110, break_on_hyphens=False, break_long_words=False)


def main() -> None:
    """Write the sentences into the pages."""
    for name, seeds in rows().items():
        path = PAGES / f"{name}.md"
        if name in OWN or not path.is_file():
            continue
        text = path.read_text()
        head, heading, evidence = text.partition("## Evidence")
        found, count = _OURS.subn(lambda _, seeds=seeds: sentences(seeds), evidence, count=1)
        if count == 0:
            found = f"\n\n{sentences(seeds)}{evidence}"
        if head + heading + found != text:
            path.write_text(head + heading + found)
            print(path.name)  # noqa: T201


if __name__ == "__main__":
    main()
