"""How often T005 finds a place preferred where none is, and how often where one is.

Votes without pictures: two in ten go against their pair's truth, sides are drawn at random. In
the biased sets every vote goes to the place shown first with the given probability instead.

    python lab/votes/position.py        # two minutes on one core; writes position.json beside it
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from palate.audit.checks.t005_position_bias import PositionBias
from palate.core.streams import Streams
from palate.data.votes import Vote

# Pairs, votes on each, judges.
SIZES = ((150, 1, 12), (150, 3, 6), (1000, 1, 10), (600, 3, 8))
CLEAN, BIASED = 400, 100


@dataclass(frozen=True, slots=True)
class Votes:
    """What T005 looks at: votes, and no signatures of machines."""

    votes: tuple[Vote, ...]
    rows: tuple[()] = ()


def votes_on(pair: int, size: tuple[int, int, int], first: float | None, random: Any) -> list[Vote]:
    """Votes on one pair; `first` is the probability of the place shown first, None for looking."""
    truth, made = random.random() < 0.5, list[Vote]()
    for judge in random.choice(size[2], size[1], replace=False):
        shown_first = bool(random.random() < 0.5)
        looked = (random.random() < 0.8) == truth
        blind = first is not None and (random.random() < first) == shown_first
        prefers = looked if first is None else blind
        made.append(
            Vote(
                pair=(f"prompt {pair}", "a", "b"),
                judge=f"judge {judge}",
                source="human",
                first=float(prefers),
                shown_first=shown_first,
                row=f"{pair} {judge}",
            )
        )
    return made


def issues(size: tuple[int, int, int], first: float | None, sets: int) -> int:
    """In how many sets T005 finds an issue."""
    found = 0
    for number in range(sets):
        random = Streams(5)("votes", *size, str(first), number).numpy()
        votes = [vote for pair in range(size[0]) for vote in votes_on(pair, size, first, random)]
        finding = PositionBias().ask(cast(Any, Votes(tuple(votes))))
        found += finding.outcome == "issue"
    return found


def main() -> None:
    """Count, and write the counts."""
    made = [
        {"pairs": size[0], "votes_each": size[1], "judges": size[2], "shown_first": first,
         "sets": sets, "issues": issues(size, first, sets)}
        for first, sets in ((None, CLEAN), (0.6, BIASED), (0.7, BIASED))
        for size in (SIZES if first is None else SIZES[::2])
    ]  # fmt: skip
    text = json.dumps(made, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
