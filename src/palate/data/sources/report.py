"""What an import did: rows in = rows kept + rows dropped, by reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from palate.data.sources.draft import REASONS, Fault

EXAMPLES = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did.

    Attributes:
        source: Name of the format.
        path: What was read, as it was named.
        read: Rows read.
        kept: Rows added to the store, ties included.
        ties: Rows kept in which the judge saw no difference.
        contradictory: Rows kept that put two pictures in the opposite order to another row.
        dropped: Rows not added, by reason.
        examples: For each reason, and for `contradictory`, a few of the rows it happened in.
        pictures: How many pictures were changed on the way in, by what was done.
        notes: What else a person should know.
        seconds: Wall time.
    """

    source: str
    path: str
    read: int
    kept: int
    ties: int
    contradictory: int
    dropped: Mapping[str, int]
    examples: Mapping[str, list[str]]
    pictures: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        lost = sum(self.dropped.values())
        lines = [f"{self.read:,} rows read = {self.kept:,} kept + {lost:,} dropped"]
        lines += [f"  kept: {self.ties:,} ties (never a win)"] if self.ties else []
        if self.contradictory:
            shown = ", ".join(self.examples.get("contradictory", []))
            lines.append(f"  kept: {self.contradictory:,} contradict another row ({shown})")
        for reason, count in sorted(self.dropped.items(), key=lambda item: -item[1]):
            shown = "; ".join(self.examples.get(reason, []))
            lines.append(f"  dropped: {count:,} {reason}: {REASONS[reason]} ({shown})")
        lines += [f"  pictures: {count:,} {what}" for what, count in sorted(self.pictures.items())]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "source": self.source,
            "path": self.path,
            "read": self.read,
            "kept": self.kept,
            "ties": self.ties,
            "contradictory": self.contradictory,
            "dropped": dict(self.dropped),
            "examples": {reason: list(rows) for reason, rows in self.examples.items()},
            "pictures": dict(self.pictures),
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }


@final
@dataclass(slots=True)
class Tally:
    """The counters of an import while it runs."""

    read: int = 0
    kept: int = 0
    ties: int = 0
    contradictory: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    pictures: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def drop(self, fault: Fault) -> None:
        """Count rows that are not kept."""
        self.dropped[fault.reason] += fault.count
        detail = f" ({fault.detail[:100]})" if fault.detail else ""
        self.example(fault.reason, f"{fault.origin}{detail}")

    def example(self, reason: str, text: str) -> None:
        """Remember a row a reason applies to, unless there are enough."""
        rows = self.examples.setdefault(reason, [])
        if len(rows) < EXAMPLES:
            rows.append(text)

    def report(
        self, source: str, path: str, notes: tuple[str, ...], seconds: float
    ) -> ImportReport:
        """The counts so far, frozen."""
        return ImportReport(
            source=source,
            path=path,
            read=self.read,
            kept=self.kept,
            ties=self.ties,
            contradictory=self.contradictory,
            dropped=dict(self.dropped),
            examples={reason: list(rows) for reason, rows in self.examples.items()},
            pictures=dict(self.pictures),
            notes=notes,
            seconds=seconds,
        )
