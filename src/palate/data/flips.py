"""Labels turned round on purpose, for experiments: a fixed share, drawn once, and reversible.

How a method bears wrong labels is tried by swapping winner and loser in some of them, once for
the whole run (the synthetic minority of Adaptive-DPO, arXiv:2503.16921). A record's id is a digest
of its content, so a swapped record has another one: the snapshot's notes map it to what it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from palate.core.problems import DataError, StateError, require
from palate.core.streams import Streams
from palate.data.comparison import Comparison, relabelled
from palate.data.pack import Pack
from palate.data.snapshot import read_imports, read_rows
from palate.data.store import Snapshot, digest_rows, write_snapshot

# What a snapshot's record calls the labels that were turned round.
FLIPS: Final = "flipped_labels"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """What was made.

    Attributes:
        snapshot: The new snapshot.
        flipped: Records whose winner and loser were swapped.
        strict: Records that could have been: two pictures, one of them preferred.
        mirrored: Records left alone because their judge is on record with the opposite as well:
            turned round they would be that one.
        several: Records left alone because they rank more than two pictures.
    """

    snapshot: Snapshot
    flipped: int
    strict: int
    mirrored: int
    several: int


def flip(snapshot: Path, out: Path, *, share: float, seed: int) -> Flips:
    """Swap winner and loser in a share of the strict records, and keep everything else.

    Which ones depends on the seed and the records' ids alone; a larger share of the same seed
    holds the smaller one's. Every judgement is one record, whoever made it.

    Args:
        snapshot: A frozen snapshot.
        out: The new snapshot's folder.
        share: The part of the strict records to turn round, in (0, 1].
        seed: Which part.

    Raises:
        SettingError: when the share makes no sense.
        DataError: when the snapshot is damaged, or has no label that can be turned round.
        StateError: when `out` exists, or labels were turned round already.
    """
    require(
        0 < share <= 1,
        got=f"a share of {share}",
        need="a share above 0, up to 1",
        fix="0.2 turns a fifth of the labels round.",
    )
    imports, rows = read_imports(snapshot), read_rows(snapshot)
    require(
        not any(FLIPS in each for each in imports),
        got=f"{snapshot}, whose labels were turned round already",
        need="labels as they were given",
        fix="Start from the snapshot it was made from, or undo: palate data flip --undo.",
        kind=StateError,
    )
    two = [row for row in rows if len(row.images) == 2 and row.labelled and not row.tie]
    names = {row.id for row in rows}
    strict = [row for row in two if _turned(row).id not in names]
    require(
        bool(strict),
        got=f"{snapshot} without a label that can be turned round",
        need="records of two pictures, one of them preferred",
        fix="`palate data show` counts pairs and ties.",
        kind=DataError,
    )
    streams = Streams(seed)
    drawn = sorted(strict, key=lambda row: streams("flip", row.id).seed)
    chosen = {row.id for row in drawn[: max(1, round(share * len(drawn)))]}
    turned = {row.id: _turned(row) for row in strict if row.id in chosen}
    made = [turned.get(row.id, row) for row in rows]
    note = {
        "share": share,
        "seed": seed,
        "strict": len(strict),
        "original": digest_rows(rows),
        "made": _digest(made),
        # 1 − (1 − a) is not always a: the label as it was is kept, not computed back.
        "records": {turned[row.id].id: [row.id, row.agreement] for row in rows if row.id in turned},
    }
    return Flips(
        snapshot=write_snapshot(out, made, Pack(snapshot), [*imports, {FLIPS: note}]),
        flipped=len(turned),
        strict=len(strict),
        mirrored=len(two) - len(strict),
        several=sum(len(row.images) > 2 and row.labelled and not row.tie for row in rows),
    )


def undo(snapshot: Path, out: Path) -> Snapshot:
    """Turn the labels back: a snapshot with the digest, and the record, of the original.

    Raises:
        DataError: when the snapshot is damaged.
        StateError: when `out` exists, nothing was turned round, or the rows were changed since.
    """
    note, rows = _note(snapshot), read_rows(snapshot)
    require(
        bool(note),
        got=f"{snapshot}, in which no label was turned round",
        need="a snapshot that `palate data flip` made",
        fix="`flipped_labels` in snapshot.json says what was turned round.",
        kind=StateError,
    )
    require(
        digest_rows(rows) == note["made"],
        got=f"{snapshot}, whose rows were changed after labels were turned round",
        need="the snapshot as `palate data flip` made it",
        fix="Undo that one, then make the other change again.",
        kind=StateError,
    )
    before: Mapping[str, Sequence[Any]] = note["records"]
    back = [relabelled(row, float(before[row.id][1])) if row.id in before else row for row in rows]
    require(
        _digest(back) == note["original"],
        got=f"{snapshot}, whose record does not lead back to the original",
        need="the record as `palate data flip` wrote it",
        fix="Use the snapshot it was made from.",
        kind=DataError,
    )
    imports = [each for each in read_imports(snapshot) if FLIPS not in each]
    return write_snapshot(out, back, Pack(snapshot), imports)


def flipped_ids(snapshot: Path) -> frozenset[str]:
    """Ids of the records that were turned round, as they are called in this snapshot.

    Empty where none was. In a snapshot made from a flipped one, those that are still in it.

    Raises:
        DataError: when the snapshot is damaged.
    """
    names: Mapping[str, Any] = _note(snapshot).get("records", {})
    return (
        frozenset(row.id for row in read_rows(snapshot) if row.id in names)
        if names
        else frozenset()
    )


def _note(snapshot: Path) -> Mapping[str, Any]:
    """The last record of labels turned round; empty where there is none."""
    notes = [each[FLIPS] for each in read_imports(snapshot) if FLIPS in each]
    return notes[-1] if notes else {}


def _digest(rows: Sequence[Comparison]) -> str:
    return digest_rows(sorted(rows, key=lambda row: row.id))


def _turned(row: Comparison) -> Comparison:
    return relabelled(row, 1 - (row.agreement if row.agreement is not None else 0.5))
