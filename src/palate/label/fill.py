"""A store's pairs, put to a labeler; what it answers becomes one part of the store.

Every two pictures of a prompt are asked about once, however many records there are of them, and
not again where this judge labelled them before. A killed labeling leaves its journal: the next one
asks what is left, and adds everything as if nothing had happened.

A pair without a label is not forgotten: `withheld.py` keeps which ones, and why.

Read next: `palate/data/store.py`, what a part is.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from palate.core.problems import DataError, require
from palate.core.stats import Estimate, cluster_share
from palate.data.comparison import Comparison, ImageRef
from palate.data.store import Store
from palate.data.synthetic import MACHINES
from palate.data.votes import PairKey, by_pair
from palate.label.journal import Journal
from palate.label.labeler import Labeler, Question, Told
from palate.label.noted import add_labels, by_reason, note_the_unnoted, noted, signed
from palate.label.withheld import Withheld, place_of, read_withheld, write_withheld

ASKED: Final = "asked"
_NAME: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What came of a labeling.

    Attributes:
        judge: Who labelled.
        identity: Digest of what its answers depend on.
        pairs: Different pairs in the store.
        before: How many of them this judge had labelled before.
        asked: How many were put to it now.
        labels: Labels made now, by what they say: `preferred` or `tie`.
        withheld: Pairs asked about now that got no label, with the reason.
        listed: Where all pairs that this judge withheld a label from are listed.
        agree: Share of pairs on which this judge and people prefer the same picture, of those
            where both prefer one; None where there are none. Prompts are the independent units.
        seconds: How long it took.
    """

    judge: str
    identity: str
    pairs: int
    before: int
    asked: int
    labels: Mapping[str, int]
    withheld: tuple[Withheld, ...]
    listed: Path
    agree: Estimate | None
    seconds: float

    @property
    def labelled(self) -> int:
        """Labels made now."""
        return sum(self.labels.values())

    @property
    def none(self) -> Mapping[str, int]:
        """Pairs without a label now, by reason."""
        return by_reason(self.withheld)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "judge": self.judge,
            "identity": self.identity,
            "pairs": self.pairs,
            "before": self.before,
            "asked": self.asked,
            "labels": dict(self.labels),
            "none": dict(self.none),
            "withheld": [each.asdict() for each in self.withheld],
            "withheld_in": str(self.listed) if self.withheld else None,
            "agree": None if self.agree is None else self.agree.asdict(),
            "seconds": round(self.seconds, 3),
        }


def questions_of(groups: Mapping[PairKey, Sequence[Comparison]]) -> list[Question]:
    """One question for every pair, in the order in which pairs first came up."""
    return [_question(key, rows[0]) for key, rows in groups.items()]


def pictures_of(rows: Iterable[Comparison]) -> dict[str, list[str]]:
    """Prompt → digests of all its pictures, sorted."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.prompt, set()).update(image.sha256 for image in row.images)
    return {prompt: sorted(names) for prompt, names in found.items()}


def fill(store: Store, labeler: Labeler, *, told: Told, limit: int | None = None) -> Filled:
    """Ask a labeler about a store's pairs, and add what it answers.

    Args:
        store: Whose pairs; nobody else can write to it until this is done.
        labeler: Who is asked.
        told: Hears how far the labeler is.
        limit: Ask about no more pairs than this; None asks about all.

    Raises:
        DataError: when there is no pair, or a picture or the journal is damaged.
        StateError: when another process is writing to the store, or the disk refuses.
        Problem: whatever stops the labeler; what it was told is kept.
    """
    started = time.monotonic()
    with store.writing():
        rows = list(store.rows())
        groups = by_pair(rows)
        require(
            bool(groups),
            got=f"{store.folder} without any pair",
            need="pictures to compare, with or without labels",
            fix="Import some first: palate data import.",
            kind=DataError,
        )
        folder = store.folder / ASKED
        note_the_unnoted(store, folder, rows)
        listed = place_of(folder, labeler.judge, labeler.identity)
        before = read_withheld(listed)
        left = [q for q in questions_of(groups) if not _knows(labeler, groups[q.key])]
        # What was withheld comes last, or a limit would ask about the same pairs for ever.
        left.sort(key=lambda question: question.key in before)
        asked = left[:limit]
        with Journal(folder / f"{labeler.asks[:_NAME]}.jsonl") as journal:
            made, withheld = _put(labeler, asked, store, journal, told)
        now = _now(before, asked, withheld)
        write_withheld(listed, labeler.judge, now.values())
        if made or now != before or (withheld and not noted(store, labeler.judge)):
            add_labels(store, labeler, made, withheld)
        return Filled(
            judge=labeler.judge,
            identity=labeler.identity,
            pairs=len(groups),
            before=len(groups) - len(left),
            asked=len(asked),
            labels=dict(Counter("tie" if row.tie else "preferred" for row in made)),
            withheld=tuple(withheld),
            listed=listed,
            agree=agreement_with_people(labeler.judge, by_pair([*rows, *made])),
            seconds=time.monotonic() - started,
        )


def agreement_with_people(
    judge: str, groups: Mapping[PairKey, Sequence[Comparison]]
) -> Estimate | None:
    """How often a machine prefers the picture that most people prefer, with its interval.

    Pairs on which either side is even say nothing and are left out. None where none is left.
    """
    same: list[float] = []
    prompts: list[str] = []
    for (prompt, first, _), rows in groups.items():
        people = _lean(first, (row for row in rows if row.source not in MACHINES))
        machine = _lean(first, (row for row in rows if row.judge == judge))
        if people and machine:
            same.append(float((people > 0) == (machine > 0)))
            prompts.append(prompt)
    return cluster_share(same, prompts) if same else None


def _put(
    labeler: Labeler, asked: Sequence[Question], store: Store, journal: Journal, told: Told
) -> tuple[list[Comparison], list[Withheld]]:
    """What a labeler answers: labels, and pairs without one."""
    made: list[Comparison] = []
    withheld: list[Withheld] = []
    for question, answer in labeler.label(asked, store.image, journal, told):
        if answer.agreement is None:
            withheld.append(Withheld.of(question, answer))
        else:
            made.append(signed(question, answer, labeler))
    return made, withheld


def _now(
    before: Mapping[PairKey, Withheld], asked: Sequence[Question], withheld: Sequence[Withheld]
) -> dict[PairKey, Withheld]:
    """All pairs without a label: those of before that were not asked about again, and the new."""
    again = {question.key for question in asked}
    kept = {key: each for key, each in before.items() if key not in again}
    return kept | {each.pair: each for each in withheld}


def _lean(first: str, rows: Iterator[Comparison]) -> float:
    """The sum of votes for the first picture, one half less each: above 0 where it is preferred."""
    total = 0.0
    for row in rows:
        if row.agreement is not None:
            lean = row.agreement - 0.5
            total += lean if row.images[0].sha256 == first else -lean
    return total


def _question(key: PairKey, row: Comparison) -> Question:
    """The question about a record's pair, its pictures in canonical order."""
    turned = row.images[0].sha256 != key[1]
    order = (1, 0) if turned else (0, 1)
    images: tuple[ImageRef, ImageRef] = (row.images[order[0]], row.images[order[1]])
    made = (row.generation[order[0]], row.generation[order[1]])
    return Question(prompt=key[0], images=images, generation=made)


def _knows(labeler: Labeler, rows: Sequence[Comparison]) -> bool:
    """Whether this very labeler labelled a pair; its name alone is not proof where more is said."""
    return any(
        row.labelled
        and (row.judge, row.source) == (labeler.judge, labeler.source)
        and (row.signature or {}).get("identity", labeler.identity) == labeler.identity
        for row in rows
    )
