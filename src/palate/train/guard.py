"""Broken numbers are kept away from the weights, written down by name, and not tolerated for long.

One NaN in one of eight pairs turns every weight into NaN within one step. So a pair that is not
finite is dropped before the forward pass, a step whose loss or gradient is not finite leaves
weights and optimizer as they were, and when this happens too often the run stops.
"""

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from palate.core.files import write_atomic
from palate.core.problems import HealthStop
from palate.train.step import FOR_NOBODY
from palate.train.taken import UNDECIDED

WINDOW = 20
# Single accidents happen in honest data of any size; three within twenty steps do not.
FEWEST = 3
# Steps running in which there was nothing to learn from.
MOST_IDLE = 20
# By why a step had nothing to learn from, though nothing was broken: what is needed, what to do.
IDLE: Mapping[str, tuple[str, str]] = {
    UNDECIDED: (
        "pictures of one prompt that the scorer tells apart",
        "Lower rollout.threshold, draw more rollout.candidates, or ask another scorer.",
    ),
    FOR_NOBODY: (
        "pairs of people whose embedding is heard",
        "Lower personal.dropout or plan.caption_dropout, or raise plan.batch.",
    ),
}


@final
class Guard:
    """Counts what was broken, remembers which pairs, and says when it is enough.

    Attributes:
        quarantine: Pairs that are no longer trained on, and why.
        skipped: Steps whose update was left out.
        idle: Steps running that had nothing to learn from, though nothing was broken.
    """

    def __init__(self, folder: Path, budget: float) -> None:
        """Start clean. `folder` receives `quarantine.jsonl`."""
        self.quarantine: dict[str, str] = {}
        self.skipped = self.idle = 0
        self._path = folder / "quarantine.jsonl"
        self._budget = budget
        self._window: deque[tuple[int, int, int]] = deque(maxlen=WINDOW)

    def set_aside(self, step: int, reasons: Mapping[str, str]) -> None:
        """Put pairs into quarantine, on disk as well."""
        fresh = {pair: why for pair, why in reasons.items() if pair not in self.quarantine}
        self.quarantine |= fresh
        if fresh:
            with self._path.open("a", encoding="utf-8") as file:
                for pair, why in fresh.items():
                    file.write(json.dumps({"step": step, "pair": pair, "reason": why}) + "\n")

    def count(self, *, seen: int, broken: int, skipped: bool) -> None:
        """Note one step: pairs seen, pairs found broken, and whether the update was left out.

        Raises:
            HealthStop: when the budget of broken pairs or steps is used up.
        """
        self.skipped += skipped
        self._window.append((seen, broken, int(skipped)))
        total, bad, lost = (sum(column) for column in zip(*self._window, strict=True))
        if bad + lost >= FEWEST and (bad > self._budget * total or lost >= FEWEST):
            raise HealthStop(
                got=f"{bad} broken pairs and {lost} skipped updates in the last "
                f"{len(self._window)} steps ({total} pairs)",
                need=f"at most {100 * self._budget:g} % of pairs with NaN or infinity",
                fix=f"Look at {self._path.name} in the run folder; the last checkpoint is whole.",
            )

    def rest(self, why: str | None) -> None:
        """Note why a step was left out, or None; one of `IDLE` had nothing to learn from.

        Raises:
            HealthStop: when it has been so for too long.
        """
        self.idle = self.idle + 1 if why in IDLE else 0
        if self.idle >= MOST_IDLE:
            need, fix = IDLE[str(why)]
            got = f"{self.idle} steps running in which {why}"
            raise HealthStop(got=got, need=need, fix=fix)

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {
            "quarantine": dict(self.quarantine),
            "skipped": self.skipped,
            "idle": self.idle,
            "window": [list(entry) for entry in self._window],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint stood; the file is written again to match, each pair once."""
        # What was refused on opening stays refused: there are no rows to train on.
        self.quarantine = {**state["quarantine"], **self.quarantine}
        self.skipped, self.idle = int(state["skipped"]), int(state.get("idle", 0))
        self._window = deque((tuple(entry) for entry in state["window"]), maxlen=WINDOW)
        if not self._path.is_file():
            return
        rows = [json.loads(line) for line in _whole_lines(self._path)]
        kept: dict[str, Any] = {}
        for row in rows:
            if row["pair"] in self.quarantine:
                kept.setdefault(row["pair"], row)
        write_atomic(self._path, "".join(json.dumps(row) + "\n" for row in kept.values()))


def _whole_lines(path: Path) -> list[str]:
    """Lines that were written to their end."""
    text = path.read_text(encoding="utf-8")
    return [line for line in text[: text.rfind("\n") + 1].splitlines() if line]
