"""Acting on what was found: always into a new snapshot, always on record.

A record that a finding shows can be left out; its label can be weighed less, as far as its doubt
says; or its pair can be laid before a judge again: it loses its labels in the new snapshot, and a
new store holds just these pairs, ready for `palate label`. Where codes overlap, leaving out goes
before asking again, and that before weighing less.

Read next: `palate/data/store.py`, how a snapshot is written.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from palate.audit.audited import Audited
from palate.audit.check import Finding
from palate.audit.run import Audit
from palate.core.files import UNFINISHED, sync_folder
from palate.core.problems import StateError, require
from palate.data.comparison import Comparison, compare
from palate.data.pack import Pack
from palate.data.snapshot import read_imports
from palate.data.store import Snapshot, Store, write_snapshot
from palate.data.synthetic import LABELLED_PART
from palate.data.votes import PairKey, key_of, two_by_two

# What a snapshot's record calls an audit that was acted on.
AUDIT = "audit"
QUEUE = "-queue"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What to do about which findings, by code or name.

    Attributes:
        drop: Records of these are left out.
        downweight: Labels of these are moved towards one half, as far as their doubt says.
        relabel: Pairs of these lose their labels and are queued to be asked again.
    """

    drop: tuple[str, ...] = ()
    downweight: tuple[str, ...] = ()
    relabel: tuple[str, ...] = ()

    @property
    def some(self) -> bool:
        """Whether anything is wished."""
        return bool(self.drop or self.downweight or self.relabel)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was made. `before` = `kept` + `dropped` + `downweighted` + `unlabelled`.

    Attributes:
        snapshot: The new snapshot.
        queue: The new store of pairs to ask again; None where there are none.
        before: Records in the old snapshot.
        kept: Records that are as they were.
        dropped: Records left out.
        downweighted: Records whose label was moved towards one half.
        unlabelled: Records that lost their label, or one of their labels.
        after: Records in the new snapshot; several of a pair that lost their labels are one.
        undoubted: Records that were to be weighed less, but whose finding estimates no doubt, or
            which have no single label to weigh. They are among those kept.
        queued: Pairs in the queue.
    """

    snapshot: Snapshot
    queue: Path | None
    before: int
    kept: int
    dropped: int
    downweighted: int
    unlabelled: int
    after: int
    undoubted: int
    queued: int

    def asdict(self) -> dict[str, Any]:
        """The counts as plain values."""
        names = ("before", "kept", "dropped", "downweighted", "unlabelled", "after")
        return {name: getattr(self, name) for name in (*names, "undoubted", "queued")}


@final
@dataclass(slots=True)
class _Sorted:
    """The rows of a new snapshot, and how the old ones became them."""

    rows: dict[str, Comparison] = field(default_factory=dict[str, Comparison])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    queued: dict[PairKey, Comparison] = field(default_factory=dict[PairKey, Comparison])

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def add(self, row: Comparison) -> None:
        self.rows[row.id] = row


def apply(found: Audit, data: Audited, out: Path, wishes: Wishes) -> Applied:
    """Write a new snapshot, and a queue where pairs are to be asked again. The old one stays.

    Raises:
        SettingError: when a code does not exist, or was not asked.
        StateError: when the new folders exist, or nothing would be left.
        DataError: when a picture is damaged.
    """
    queue = out.with_name(f"{out.name}{QUEUE}") if wishes.relabel else None
    for folder in (out, *([queue] if queue else [])):
        require(
            not folder.exists(),
            got=f"{folder}, which exists",
            need="a new folder",
            fix="Choose another name, or remove it first.",
            kind=StateError,
        )
    made = _sorted(found, data, wishes)
    require(
        bool(made.rows),
        got=f"no record of {data.snapshot} left",
        need="at least one",
        fix="Drop fewer codes.",
        kind=StateError,
    )
    queue = queue if made.queued else None
    counts = _counts(made, len(data.rows))
    imports = [*read_imports(data.snapshot), *_notes(found, data, wishes, counts)]
    with _new_store(queue, made.queued.values(), data.image):
        snapshot = write_snapshot(out, list(made.rows.values()), Pack(data.snapshot), imports)
    return Applied(snapshot=snapshot, queue=queue, **counts)


def _finding(found: Audit, word: str) -> Finding:
    """A finding that can be acted on."""
    finding = found.finding(word)
    require(
        finding.outcome in ("issue", "passed", "not applicable"),
        got=f"{finding.code} {finding.name}, {finding.outcome}: {finding.sentence}",
        need="a check that was asked and has answered",
        fix=f"Ask it first, or leave {word} out.",
    )
    return finding


def _concerned(finding: Finding, *, small: bool = False) -> set[str]:
    """The records a finding shows; with `small`, those it doubts too little to show as well."""
    shown = {name for row in finding.rows for name in row.ids}
    return shown | set(finding.doubts) if small else shown


def _ids(found: Audit, words: Collection[str]) -> set[str]:
    return {name for word in words for name in _concerned(_finding(found, word))}


def _doubts(found: Audit, words: Collection[str]) -> dict[str, float | None]:
    """The largest doubt of each record that is to be weighed less."""
    doubts: dict[str, float | None] = {}
    for finding in (_finding(found, word) for word in words):
        said = [(name, row.doubt) for row in finding.rows for name in row.ids]
        for name, doubt in (*said, *finding.doubts.items()):
            known = [each for each in (doubt, doubts.get(name)) if each is not None]
            doubts[name] = max(known, default=None)
    return doubts


def _sorted(found: Audit, data: Audited, wishes: Wishes) -> _Sorted:
    """Every old record to its place."""
    dropped, doubts = _ids(found, wishes.drop), _doubts(found, wishes.downweight)
    asked = _ids(found, wishes.relabel) - dropped
    again = {key_of(two) for name in asked for two in two_by_two(data.by_id[name])}
    made = _Sorted()
    for row in data.rows:
        twos = list(two_by_two(row))
        if row.id in dropped:
            made.count("dropped")
        elif any(key_of(two) in again for two in twos):
            made.count("unlabelled")
            _unlabel(made, twos, again, data.snapshot)
        elif row.id in doubts:
            _weigh(made, row, doubts[row.id])
        else:
            made.count("kept")
            made.add(row)
    return made


def _unlabel(made: _Sorted, twos: Iterable[Comparison], again: set[PairKey], old: Path) -> None:
    """A record of more than two pictures keeps what it says of pairs that are not asked again."""
    for two in twos:
        key = key_of(two)
        if key not in again:
            made.add(two)
            continue
        bare = made.queued.setdefault(key, _bare(two, old))
        made.add(bare)


def _bare(two: Comparison, old: Path) -> Comparison:
    """The same pictures without a label."""
    return compare(
        prompt=two.prompt,
        images=two.images,
        judge="nobody",
        generation=two.generation,
        origin=f"audit of {old.name}: to be asked again",
    )


def _weigh(made: _Sorted, row: Comparison, doubt: float | None) -> None:
    """Move a label towards one half, never past it: a doubt above one half leaves a tie."""
    if doubt is None or row.agreement is None or row.agreement == 0.5:
        made.count("undoubted")
        made.count("kept")
        made.add(row)
        return
    doubt = min(doubt, 0.5)
    agreement = (1 - doubt) * row.agreement + doubt * (1 - row.agreement)
    made.count("downweighted")
    made.add(
        compare(
            prompt=row.prompt,
            images=row.images,
            agreement=agreement,
            judge=row.judge,
            source=row.source,
            shown=row.shown,
            judged_at=row.judged_at,
            generation=row.generation,
            origin=row.origin,
            signature=row.signature,
        )
    )


def _counts(made: _Sorted, before: int) -> dict[str, int]:
    names = ("kept", "dropped", "downweighted", "unlabelled", "undoubted")
    counts = {name: made.counts.get(name, 0) for name in names}
    return {"before": before, **counts, "after": len(made.rows), "queued": len(made.queued)}


def _notes(
    found: Audit, data: Audited, wishes: Wishes, counts: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """What the new snapshot's record says of this."""
    words = {"drop": wishes.drop, "downweight": wishes.downweight, "relabel": wishes.relabel}
    yield {
        AUDIT: {
            "snapshot": data.snapshot.name,
            "digest": found.digest,
            "outcomes": {each.code: each.outcome for each in found.findings},
            **{
                action: {
                    finding.code: sorted(_concerned(finding, small=action == "downweight"))
                    for finding in (_finding(found, word) for word in codes)
                }
                for action, codes in words.items()
            },
            "counts": counts,
        }
    }
    draws = [each[LABELLED_PART] for each in read_imports(data.snapshot) if LABELLED_PART in each]
    if draws and counts["kept"] < counts["before"]:
        # What was picked by its labels is no random part any more.
        yield {LABELLED_PART: {**draws[-1], "at_random": False}}


@contextmanager
def _new_store(
    folder: Path | None,
    rows: Iterable[Comparison],
    image: Callable[[str], NDArray[np.uint8]],
) -> Generator[None]:
    """A store that appears under its name only when the block has ended without an error."""
    if folder is None:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}-{folder.name}")
    try:
        _fill(Store(temporary), list(rows), image)
        yield
        os.replace(temporary, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill(
    store: Store, rows: Sequence[Comparison], image: Callable[[str], NDArray[np.uint8]]
) -> None:
    with store.writing():
        for name in dict.fromkeys(each.sha256 for row in rows for each in row.images):
            store.put(image(name))
        store.add(rows)
