"""A machine's labels for pairs of pictures: from scores, or tuned on the labels people gave.

Read next: `tuned.py`, how opinions are tuned; `part.py`, which puts the labels into a snapshot.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from palate.core.files import digest_json
from palate.core.problems import DataError, require
from palate.data.comparison import Comparison, Source, relabelled
from palate.data.pack import Pack
from palate.data.synthetic import MACHINES, agreement_of
from palate.data.tuned import Array, tune
from palate.data.votes import PairKey

AT_ONCE: Final = 64
Score = Callable[[Sequence[NDArray[np.uint8]], Sequence[str]], NDArray[np.float64]]
Groups = Mapping[PairKey, Sequence[Comparison]]
# What machines say of pairs, as records to add to a snapshot.
Said = dict[PairKey, list[Comparison]]
Told = Callable[[int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Who labels the pairs that people's labels are taken from, and the others.

    Attributes:
        judge: Its name in the records, unlike any other's.
        score: Pictures and prompts → one number each.
        sharpness: What differences of scores are multiplied by; None gives hard labels.
        source: What kind of judge it is.
    """

    judge: str
    score: Score
    sharpness: float | None = 1.0
    source: Source = "scorer"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opinions:
    """What several machines say of the same pairs, before it is a label.

    Attributes:
        keys: The pairs.
        judges: The machines' names.
        values: [pairs, judges] in favour of the first picture of a key; NaN where one is missing.
        source: What kind of judge they are together.
    """

    keys: tuple[PairKey, ...]
    judges: tuple[str, ...]
    values: Array
    source: Source


def said_already(groups: Groups) -> Said:
    """The machines' labels that are there."""
    said = {key: [row for row in rows if by_machine(row)] for key, rows in groups.items()}
    return {key: rows for key, rows in said.items() if rows}


def by_machine(row: Comparison) -> bool:
    """Whether this is a machine's label."""
    return row.labelled and row.source in MACHINES


def by_people(row: Comparison) -> bool:
    """Whether this is a person's label."""
    return row.labelled and row.source not in MACHINES


def said_by(groups: Groups, opinions: Opinions, machines: Sequence[Machine], origin: str) -> Said:
    """Each machine's own label of each pair; none where it could not score a picture."""
    said: Said = {}
    for key, values in zip(opinions.keys, opinions.values, strict=True):
        row = groups[key][0]
        more = -values if _turned(row, key) else values
        rows = [
            relabelled(
                row,
                agreement_of(float(value), machine.sharpness),
                judge=machine.judge,
                source=machine.source,
                origin=origin,
            )
            for machine, value in zip(machines, more, strict=True)
            if np.isfinite(value)
        ]
        if rows:
            said[key] = rows
    return said


def said_tuned(
    groups: Groups, opinions: Opinions, people: Array, *, seed: int, origin: str
) -> tuple[Said, dict[str, Any]]:
    """One label of each pair by a labeler tuned on people's labels, and how it was tuned.

    Args:
        groups: The records of each pair.
        opinions: What machines say of them.
        people: For each pair of `opinions`, people's probability that the first picture is
            preferred; NaN where nobody judged or the label is not to be used.
        seed: How prompts are dealt into folds.
        origin: Where the new records come from.

    Raises:
        DataError: when there are too few of people's labels to tune on.
    """
    tuned = tune(opinions.values, people, [key[0] for key in opinions.keys], seed=seed)
    about = {"judges": list(opinions.judges), "seed": seed, **tuned.asdict()}
    judge = f"tuned {' + '.join(opinions.judges)} {digest_json(about)[:12]}"
    said: Said = {}
    for key, first, fold in zip(opinions.keys, tuned.agreement, tuned.fold, strict=True):
        if np.isfinite(first):
            row = groups[key][0]
            label = relabelled(
                row,
                float(1 - first if _turned(row, key) else first),
                judge=judge,
                source=opinions.source,
                origin=origin,
                signature={"tuned": {"without fold": int(fold)}},
            )
            said[key] = [label]
    return said, about


def opinions_of(
    groups: Groups, machines: Sequence[Machine], pack: Pack, told: Told | None
) -> Opinions:
    """Differences of scores, the first picture's minus the second's."""
    keys = tuple(groups)
    every = [_scores(machine.score, keys, pack, told) for machine in machines]
    values = np.array(
        [
            [
                said.get((key[0], key[1]), np.nan) - said.get((key[0], key[2]), np.nan)
                for said in every
            ]
            for key in keys
        ],
        np.float64,
    )
    return Opinions(
        keys=keys,
        judges=tuple(machine.judge for machine in machines),
        values=np.array(values, np.float64).reshape(len(keys), len(machines)),
        source=_source({machine.source for machine in machines}),
    )


def opinions_in(groups: Groups) -> Opinions:
    """The labels that machines gave already, less one half; 0 where one of several gave none.

    Raises:
        DataError: when there are none.
    """
    said = said_already(groups)
    judges = tuple(sorted({row.judge for rows in said.values() for row in rows}))
    require(
        bool(judges),
        got="pairs without a machine's label to tune",
        need="labels by machines in the snapshot, or a scorer",
        fix="Name one: --scorer; or label the pairs first: palate label.",
        kind=DataError,
    )
    values = np.zeros((len(said), len(judges)))
    for line, (key, rows) in enumerate(said.items()):
        for column, judge in enumerate(judges):
            mean = mean_of([row for row in rows if row.judge == judge], key)
            values[line, column] = 0.0 if mean is None else mean - 0.5
    return Opinions(
        keys=tuple(said),
        judges=judges,
        values=values,
        source=_source({row.source for rows in said.values() for row in rows}),
    )


def mean_of(rows: Sequence[Comparison], key: PairKey) -> float | None:
    """The mean probability that the first picture of a pair is preferred; None without labels."""
    said = [
        1 - row.agreement if _turned(row, key) else row.agreement
        for row in rows
        if row.agreement is not None
    ]
    return sum(said) / len(said) if said else None


def _source(sources: Collection[Source]) -> Source:
    """What kind of judge several are together."""
    return next(iter(sources)) if len(sources) == 1 else "scorer"


def _turned(row: Comparison, key: PairKey) -> bool:
    """Whether a record lists the second picture of its pair first."""
    return row.images[0].sha256 != key[1]


def _scores(
    score: Score, keys: Sequence[PairKey], pack: Pack, told: Told | None
) -> dict[tuple[str, str], float]:
    """A score of each picture with its prompt; those that are not finite left out."""
    names = list(dict.fromkeys((key[0], name) for key in keys for name in key[1:]))
    found: dict[tuple[str, str], float] = {}
    for start in range(0, len(names), AT_ONCE):
        few = names[start : start + AT_ONCE]
        answers = score([pack.get(name) for _, name in few], [prompt for prompt, _ in few])
        found |= dict(zip(few, map(float, answers), strict=True))
        if told is not None:
            told(start + len(few), len(names))
    return {name: value for name, value in found.items() if np.isfinite(value)}
