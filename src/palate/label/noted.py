"""Labels become a part of the store, and a note says so where imports are told.

The two are not one write, so a kill may fall between them. Labels say themselves who made them;
the next labeling of the store, by whomever, finds those that no note counts and notes them.

Read next: `palate/data/store.py`, parts and notes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from palate.core.files import digest_json
from palate.data.comparison import Comparison, compare
from palate.data.store import Store
from palate.data.synthetic import MACHINES
from palate.label.labeler import Answer, Labeler, Question
from palate.label.withheld import Withheld, place_of, read_withheld

# What a note calls its source, and with what the origin of a label begins.
_LABEL: Final = "label"


def signed(question: Question, answer: Answer, labeler: Labeler) -> Comparison:
    """An answer as a record."""
    return compare(
        prompt=question.prompt,
        images=question.images,
        agreement=answer.agreement,
        judge=labeler.judge,
        source=labeler.source,
        shown=answer.shown,
        generation=question.generation,
        origin=f"{_LABEL} {digest_json(question.key)[:12]}",
        signature=dict(answer.signature),
    )


def by_reason(withheld: Iterable[Withheld]) -> dict[str, int]:
    """How many pairs have no label for which reason."""
    return dict(sorted(Counter(each.reason for each in withheld).items()))


def add_labels(
    store: Store, labeler: Labeler, made: Sequence[Comparison], withheld: Sequence[Withheld]
) -> None:
    """Add labels as one part, and note them with what was withheld. The list of it is written."""
    kept = store.add(made) if made else 0
    _note(store, labeler.judge, labeler.identity, made, kept, withheld)


def noted(store: Store, judge: str) -> bool:
    """Whether any labeling by this judge was noted."""
    return any(each.get("path") == judge for each in _notes(store))


def note_the_unnoted(store: Store, folder: Path, rows: Iterable[Comparison]) -> None:
    """Note labels that a kill left without one, with the pairs then withheld.

    Args:
        store: Whose labels.
        folder: Where lists of withheld pairs are.
        rows: All its records, in their order.
    """
    counted = Counter[str]()
    for each in _notes(store):
        counted[str(each["path"])] += int(each["kept"])
    there: dict[str, list[Comparison]] = {}
    for row in rows:
        if row.origin.startswith(f"{_LABEL} ") and row.source in MACHINES:
            there.setdefault(row.judge, []).append(row)
    for judge, labels in there.items():
        # Rows are in the order in which they were added: those without a note are the last.
        new = labels[counted[judge] :]
        if new:
            identity = str((new[-1].signature or {}).get("identity", ""))
            withheld = list(read_withheld(place_of(folder, judge, identity)).values())
            _note(store, judge, identity, new, len(new), withheld, later=True)


def _note(
    store: Store,
    judge: str,
    identity: str,
    made: Sequence[Comparison],
    kept: int,
    withheld: Sequence[Withheld],
    *,
    later: bool = False,
) -> None:
    facts: dict[str, Any] = {
        "source": _LABEL,
        "path": judge,
        "identity": identity,
        "read": len(made) + len(withheld),
        "kept": kept,
        "ties": sum(row.tie for row in made),
        "dropped": by_reason(withheld),
    }
    store.note_import(facts | ({"noted_later": True} if later else {}))


def _notes(store: Store) -> Iterator[Mapping[str, Any]]:
    return (each for each in store.imports() if each.get("source") == _LABEL)
