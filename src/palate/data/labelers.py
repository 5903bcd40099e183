"""Every machine's labels in some records, held against people's on the same pictures.

Read next: `worth.py`, the arithmetic; `part.py`, which reports it of a snapshot it makes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import numpy as np

from palate.data.comparison import Comparison
from palate.data.looks import LOOKS
from palate.data.machine import Said, by_machine, by_people, mean_of
from palate.data.pack import Pack
from palate.data.tuned import Array
from palate.data.votes import PairKey
from palate.data.worth import Worth, worth_of

# Every machine's labels of a pair, averaged: what DeDPO reads where there are several.
TOGETHER: Final = "all machines together"


def worths_in(groups: Mapping[PairKey, Sequence[Comparison]], pack: Pack) -> tuple[Worth, ...]:
    """Every machine's labels held against people's, and the mean of all where there are several."""
    keys = tuple(groups)
    people, prompts = people_on(groups, keys, groups), [key[0] for key in keys]
    said: Said = {key: [row for row in groups[key] if by_machine(row)] for key in keys}
    judges = sorted({row.judge for rows in said.values() for row in rows})
    if not judges or not np.isfinite(people).any():
        return ()
    both = [key for key, z in zip(keys, people, strict=True) if said[key] and np.isfinite(z)]
    looks = _looks(keys, frozenset(both), pack)
    wanted: dict[str, Callable[[Comparison], bool]] = {
        judge: lambda row, judge=judge: row.judge == judge for judge in judges
    }
    wanted |= {TOGETHER: lambda row: True} if len(judges) > 1 else {}
    found: list[Worth] = []
    for name, mine in wanted.items():
        means = [mean_of([row for row in said[key] if mine(row)], key) for key in keys]
        machine = np.array([np.nan if each is None else each for each in means], np.float64)
        worth = worth_of(name, machine, people, prompts, looks)
        found += [worth] if worth is not None else []
    return tuple(found)


def people_on(
    groups: Mapping[PairKey, Sequence[Comparison]],
    keys: Sequence[PairKey],
    kept: Collection[PairKey],
) -> Array:
    """People's mean label of each pair that keeps it, the first picture first; else NaN."""
    said = [
        mean_of([row for row in groups[key] if by_people(row)], key) if key in kept else None
        for key in keys
    ]
    return np.array([np.nan if each is None else each for each in said], np.float64)


def _looks(keys: Sequence[PairKey], asked: Collection[PairKey], pack: Pack) -> dict[str, Array]:
    """How much more of something the first picture of a pair has; 0 where nobody asks."""
    values: dict[str, dict[str, float]] = {}
    for name in sorted({name for key in asked for name in key[1:]}):
        image = pack.get(name)
        values[name] = {word: look(image) for word, look in LOOKS.items()}
    return {
        word: np.array(
            [values[k[1]][word] - values[k[2]][word] if k in asked else 0.0 for k in keys]
        )
        for word in LOOKS
    }
