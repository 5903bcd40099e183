"""One snapshot of several: the way back for pairs that were asked about again elsewhere.

`palate audit --relabel-queue` takes the labels of doubtful pairs away and lays the pairs before
another judge; here its answers come home. Every record is in the new snapshot once. One without a
label says only that a pair is there to be judged, and is left out where anybody now judged it.

Read next: `store.py`, what a snapshot is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from palate.core.problems import DataError, require
from palate.data.comparison import Comparison
from palate.data.pack import Encoded, Pack
from palate.data.snapshot import read_imports, read_rows
from palate.data.store import Snapshot, digest_rows, write_snapshot
from palate.data.synthetic import LABELLED_PART
from palate.data.votes import PairKey, key_of, two_by_two

# What a snapshot's record calls the snapshots that it was made of.
JOINED = "joined"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What was made. `before` = `kept` + `same` + `answered`.

    Attributes:
        snapshot: The new snapshot.
        before: Records in all the snapshots together.
        kept: Records in the new one.
        same: Records left out because an earlier snapshot, or the same one, holds them too.
        answered: Records without a label left out because every pair in them has one now.
    """

    snapshot: Snapshot
    before: int
    kept: int
    same: int
    answered: int

    def asdict(self) -> dict[str, int]:
        """The counts as plain values."""
        return {name: getattr(self, name) for name in ("before", "kept", "same", "answered")}


def join(snapshots: Sequence[Path], out: Path) -> Joined:
    """Write one snapshot of all records of several; none of them is touched.

    Where two records are the same but for how pictures were made or what a machine signed, the
    first snapshot's is kept.

    Args:
        snapshots: Frozen snapshots, one or more.
        out: The new snapshot's folder.

    Raises:
        DataError: when there is no snapshot, or a row or picture of one is damaged.
        StateError: when `out` exists or the disk refuses.
    """
    require(
        bool(snapshots),
        got="no snapshot to join",
        need="one or more frozen snapshots",
        fix="Name them after the new folder.",
        kind=DataError,
    )
    rows = [read_rows(folder) for folder in snapshots]
    every = [row for of_one in rows for row in of_one]
    judged = {key for row in every if row.labelled for key in _pairs(row)}
    kept: dict[str, Comparison] = {}
    answered = 0
    for row in every:
        if not row.labelled and judged.issuperset(_pairs(row)):
            answered += 1
        else:
            kept.setdefault(row.id, row)
    counts = {
        "before": len(every),
        "kept": len(kept),
        "same": len(every) - answered - len(kept),
        "answered": answered,
    }
    parts = [
        {"snapshot": folder.name, "digest": digest_rows(of_one), "comparisons": len(of_one)}
        for folder, of_one in zip(snapshots, rows, strict=True)
    ]
    imports = _imports(snapshots, {"snapshots": parts, "counts": counts})
    written = write_snapshot(out, list(kept.values()), _Packs(snapshots), imports)
    return Joined(snapshot=written, **counts)


@final
class _Packs:
    """The pictures of several snapshots: each from the first one that lists it."""

    def __init__(self, snapshots: Sequence[Path]) -> None:
        self._packs = [Pack(folder) for folder in snapshots]

    def encoded(self, sha256: str) -> bytes:
        return self._holder(sha256).encoded(sha256)

    def path(self, sha256: str) -> Path:
        return self._holder(sha256).path(sha256)

    def _holder(self, sha256: str) -> Encoded:
        # The last one, where none has it: it then says that the picture is missing.
        return next((pack for pack in self._packs if sha256 in pack), self._packs[-1])


def _pairs(row: Comparison) -> set[PairKey]:
    return {key_of(two) for two in two_by_two(row)}


def _imports(snapshots: Sequence[Path], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is on record of all of them, once, and that they were joined."""
    found: list[dict[str, Any]] = []
    for folder in snapshots:
        found += [each for each in read_imports(folder) if each not in found]
    note: dict[str, Any] = {JOINED: dict(about)}
    drawn = [each[LABELLED_PART] for each in found if LABELLED_PART in each]
    if drawn and len(snapshots) > 1:
        # Beside other records, nobody can say that a part of all was drawn at random.
        note[LABELLED_PART] = {**drawn[-1], "at_random": False}
    return [*found, note]
