"""Acting on what was found: always into a new snapshot, always on record.

A record that a finding shows can be left out; its label can be weighed less, as far as its doubt
says; or its pair can be laid before a judge again: it loses its labels in the new snapshot, and a
new store holds just these pairs, ready for `palate label`. Where codes overlap, leaving out goes
before asking again, and that before weighing less. A record that ranks more than two pictures is
taken apart where only some of its pairs are concerned; the others stay as they were.

Read next: `queue.py`, the store of pairs to ask again.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from typing import Any, Final, final

from palate.audit.audited import Audited
from palate.audit.concerned import concerned_by, doubts_of, finding_to_act_on, ids_of
from palate.audit.queue import QUEUE, new_store, without_label
from palate.audit.run import Audit
from palate.core.problems import StateError, require
from palate.data.comparison import Comparison, relabelled
from palate.data.pack import Pack
from palate.data.snapshot import read_imports
from palate.data.store import Snapshot, write_snapshot
from palate.data.synthetic import LABELLED_PART
from palate.data.votes import PairKey, key_of, two_by_two

# What a snapshot's record calls an audit that was acted on.
AUDIT: Final = "audit"


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
    """What was made, counted in records, and in pairs.

    In records: `before` = `kept` + `dropped` + `downweighted` + `unlabelled` + `split`, and
    `after` = `kept` + `downweighted` + `parts` + `queued` − `merged`.

    Attributes:
        snapshot: The new snapshot.
        queue: The new store of pairs to ask again; None where there are none.
        before: Records in the old snapshot.
        kept: Records that are as they were.
        dropped: Records left out.
        downweighted: Records whose label was moved towards one half.
        unlabelled: Records that lost their label; what of them was not left out is asked again.
        split: Records of more than two pictures that lost some of their pairs.
        parts: Records of two pictures that the split ones became.
        merged: Records that came out the same as another, such as a judge's two opposite labels
            that both became a tie, and are one with it now.
        after: Records in the new snapshot; a queued pair is one, without a label.
        undoubted: Records that were to be weighed less, but whose finding estimates no doubt, or
            which have no single label to weigh. They are among those kept.
        queued: Pairs in the queue.
        pairs: The same in pairs, each counted once for every record that is about it: a ranking
            of four is about six. `before` = `kept` + `dropped` + `downweighted` + `unlabelled`.
    """

    snapshot: Snapshot
    queue: Path | None
    before: int
    kept: int
    dropped: int
    downweighted: int
    unlabelled: int
    split: int
    parts: int
    merged: int
    after: int
    undoubted: int
    queued: int
    pairs: dict[str, int]

    def asdict(self) -> dict[str, Any]:
        """The counts as plain values."""
        return {name: getattr(self, name) for name in _COUNTS}


_RECORDS: Final = ("kept", "dropped", "downweighted", "unlabelled", "split", "parts", "merged")
_PAIRS: Final = ("kept", "dropped", "downweighted", "unlabelled")
_COUNTS: Final = ("before", *_RECORDS, "after", "undoubted", "queued", "pairs")


@final
@dataclass(slots=True)
class _Sorted:
    """The rows of a new snapshot, and how the old ones became them."""

    rows: dict[str, Comparison] = field(default_factory=dict[str, Comparison])
    records: Counter[str] = field(default_factory=Counter[str])
    pairs: Counter[str] = field(default_factory=Counter[str])
    queued: dict[PairKey, Comparison] = field(default_factory=dict[PairKey, Comparison])
    taken: dict[str, list[PairKey]] = field(default_factory=dict[str, list[PairKey]])

    def add(self, row: Comparison) -> None:
        """Take a record in; one that came out the same as another is counted."""
        self.records["merged"] += row.id in self.rows
        self.rows.setdefault(row.id, row)

    def counts(self, before: int) -> dict[str, Any]:
        """As `Applied` names them."""
        return {
            "before": before,
            **{name: self.records[name] for name in (*_RECORDS, "undoubted")},
            "after": len(self.rows),
            "queued": len(self.queued),
            "pairs": {
                "before": self.pairs.total(),
                **{name: self.pairs[name] for name in _PAIRS},
            },
        }


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
    counts = made.counts(len(data.rows))
    imports = [*read_imports(data.snapshot), *_notes(found, data, wishes, made)]
    with new_store(queue, made.queued.values(), data.image):
        snapshot = write_snapshot(out, list(made.rows.values()), Pack(data.snapshot), imports)
    return Applied(snapshot=snapshot, queue=queue, **counts)


def _sorted(found: Audit, data: Audited, wishes: Wishes) -> _Sorted:
    """Every old record to its place."""
    dropped = concerned_by(found, data, wishes.drop)
    asked = concerned_by(found, data, wishes.relabel)
    again = {
        pair for name, pairs in asked.items() for pair in pairs if pair not in dropped.get(name, ())
    }
    doubts, made = doubts_of(found, wishes.downweight), _Sorted()
    for row in data.rows:
        gone, keys = dropped.get(row.id, set[PairKey]()), set(data.pairs_in(row.id))
        if gone or keys & again:
            _take_apart(made, row, gone, again, data.snapshot)
        elif row.id in doubts:
            _weigh(made, row, doubts[row.id])
        else:
            _keep(made, row)
    return made


def _keep(made: _Sorted, row: Comparison) -> None:
    made.records["kept"] += 1
    made.pairs["kept"] += comb(len(row.images), 2)
    made.add(row)


def _take_apart(
    made: _Sorted, row: Comparison, gone: set[PairKey], again: set[PairKey], old: Path
) -> None:
    """A record of more than two pictures keeps what it says of pairs that are not concerned."""
    twos = {key_of(two): two for two in two_by_two(row)}
    bare = [key for key in twos if key in again and key not in gone]
    stay = [key for key in twos if key not in again and key not in gone]
    for key in bare:
        if key not in made.queued:
            made.queued[key] = without_label(twos[key], old)
            made.add(made.queued[key])
    for key in stay:
        made.add(twos[key])
    became = "split" if stay else "unlabelled" if bare else "dropped"
    made.records[became] += 1
    made.records["parts"] += len(stay)
    sizes = {"dropped": len(twos) - len(bare) - len(stay), "unlabelled": len(bare)}
    made.pairs.update({**sizes, "kept": len(stay)})
    if stay:
        made.taken[row.id] = [key for key in twos if key not in stay]


def _weigh(made: _Sorted, row: Comparison, doubt: float | None) -> None:
    """Move a label towards one half, never past it: a doubt above one half leaves a tie."""
    if doubt is None or row.agreement is None or row.agreement == 0.5:
        made.records["undoubted"] += 1
        _keep(made, row)
        return
    doubt = min(doubt, 0.5)
    agreement = (1 - doubt) * row.agreement + doubt * (1 - row.agreement)
    made.records["downweighted"] += 1
    made.pairs["downweighted"] += 1
    made.add(relabelled(row, agreement))


def _notes(found: Audit, data: Audited, wishes: Wishes, made: _Sorted) -> Iterator[dict[str, Any]]:
    """What the new snapshot's record says of this."""
    words = {"drop": wishes.drop, "downweight": wishes.downweight, "relabel": wishes.relabel}
    yield {
        AUDIT: {
            "snapshot": data.snapshot.name,
            "digest": found.digest,
            "outcomes": {each.code: each.outcome for each in found.findings},
            **{
                action: {
                    finding.code: ids_of(finding, small=action == "downweight")
                    for finding in (finding_to_act_on(found, word) for word in codes)
                }
                for action, codes in words.items()
            },
            "split": {name: [key[1:] for key in keys] for name, keys in made.taken.items()},
            "counts": made.counts(len(data.rows)),
        }
    }
    draws = [each[LABELLED_PART] for each in read_imports(data.snapshot) if LABELLED_PART in each]
    if draws and made.records["kept"] < len(data.rows):
        # What was picked by its labels is no random part any more.
        yield {LABELLED_PART: {**draws[-1], "at_random": False}}
