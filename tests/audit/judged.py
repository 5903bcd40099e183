"""Snapshots made by hand for the tests of this room."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palate.audit.audited import Audited, Evidence
from palate.audit.check import Check, Finding
from palate.data.comparison import compare
from palate.data.store import Store


def picture(number: int, side: int = 32) -> np.ndarray:
    """A picture unlike those of all other numbers: smooth, so that it has a look of its own."""
    random = np.random.default_rng(number)
    coarse = random.uniform(0, 255, (5, 5, 3))
    place = np.linspace(0, 4, side)
    rows = np.stack([np.interp(place, range(5), coarse[:, i, c]) for i in range(5)
                     for c in range(3)]).reshape(5, 3, side)  # fmt: skip
    full = np.stack([np.interp(place, range(5), rows[:, c, j]) for c in range(3)
                     for j in range(side)]).reshape(3, side, side)  # fmt: skip
    return full.transpose(2, 1, 0).round().astype(np.uint8)


def snapshot(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[int, np.ndarray] | None = None,
) -> Path:
    """A frozen snapshot of rows whose `images` are numbers; see `picture`."""
    store, own = Store(folder / "store"), pictures or {}
    numbers = {number for row in rows for number in row["images"]}
    refs = {number: store.put(own.get(number, picture(number))) for number in sorted(numbers)}
    store.add(
        compare(**{**row, "images": [refs[number] for number in row["images"]]}) for row in rows
    )
    return store.freeze(folder / "snapshot").path


def row(first: int, second: int, agreement: float | None = 1.0, **others: Any) -> dict[str, Any]:
    """A judgement of two pictures by a person."""
    facts = {"prompt": "a fox", "judge": "anna", "source": "human"}
    return {"images": [first, second], "agreement": agreement, **facts, **others}


def asked(check: Check, snapshot: Path, **evidence: Any) -> Finding:
    """What a check finds in a snapshot."""
    return check.ask(Audited(snapshot, Evidence(**evidence)))
