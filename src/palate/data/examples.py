"""The few pairs that stand for a user, and which of them a pair may be learned with.

A user embedding is made of a few of somebody's own pairs (PPD: arXiv:2501.06655). Several choices
of them are drawn, so that every pair can be learned with one that does not give its answer away.

Read next: `people.py`, who is a user; `palate/train/choices.py`, everybody's choices in a training.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count as numbers
from math import comb
from typing import final

from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.pairs import Pair
from palate.data.people import different, pictures_of


@final
class Choice(tuple[Pair, ...]):
    """A few pairs of a user, and what they show, which is found once and kept."""

    @cached_property
    def judged(self) -> frozenset[frozenset[str]]:
        """The two pictures of every pair."""
        return frozenset(pictures_of(pair) for pair in self)

    @cached_property
    def pictures(self) -> frozenset[str]:
        """All pictures of all pairs."""
        return frozenset[str]().union(*self.judged)


def examples_for(
    mine: Sequence[Pair], *, count: int, subsets: int, seed: int, user: str
) -> tuple[Choice, ...]:
    """Choices of a few of a user's pairs, drawn by seed, name and ids; each sorted by id.

    All choices differ; there are fewer where no more exist. The first one has as many pairs as can
    be had. Of somebody with `count` pairs or fewer it has all, and the others leave one out each,
    so that this pair too can be learned with examples that are not itself. Pairs are left out
    evenly: with enough choices (`subsets · (n − count) ≥ n`) each of the user's n pairs is missing
    from one of them.

    Args:
        mine: The user's usable pairs, in any order; of two judgements of the same two pictures one
            is drawn from.
        count: Pairs in each choice.
        subsets: How many choices.
        seed: The run's seed.
        user: Whose pairs they are.

    Raises:
        SettingError: when count or subsets is not positive.
        DataError: when there is no pair.
    """
    for name, value in (("count", count), ("subsets", subsets)):
        require(
            value > 0,
            got=f"{name}={value}",
            need=f"{name} of at least 1",
            fix="PPD takes four pairs of a user; several choices of them are ours.",
        )
    pool = sorted(different(mine), key=lambda pair: pair.id)
    require(
        bool(pool),
        got=f"no pair of user {user}",
        need="at least one",
        fix="`palate users list` says how many pairs of whom can be used.",
        kind=DataError,
    )
    every = len(pool) <= count
    size = len(pool) - 1 if every else count
    chosen: dict[tuple[str, ...], Choice] = {}
    if every:
        chosen[tuple(pair.id for pair in pool)] = Choice(pool)
    room = min(subsets, len(chosen) + (comb(len(pool), size) if size else 0))
    for drawn in _choices(pool, size, Streams(seed), user):
        if len(chosen) >= room:
            break
        chosen.setdefault(tuple(pair.id for pair in drawn), drawn)
    return tuple(chosen.values())


def away_from(subsets: Iterable[tuple[Pair, ...]], pair: Pair) -> tuple[Choice, ...]:
    """The choices that do not give a pair's answer away: what it may be learned with.

    None holds a judgement of the same two pictures. Those that show neither picture at all come
    before others: in Pick-a-Pic the picture preferred last is often shown again.

    Returns:
        The choices with neither picture where there are any, otherwise those without the pair;
        empty where there is none, such as for a user's only pair.
    """
    two = pictures_of(pair)
    choices = (each if isinstance(each, Choice) else Choice(each) for each in subsets)
    without = tuple(each for each in choices if two not in each.judged)
    return tuple(each for each in without if two.isdisjoint(each.pictures)) or without


def _choices(pool: Sequence[Pair], size: int, streams: Streams, user: str) -> Iterator[Choice]:
    """Endless choices: neighbours in a drawn order, or all but neighbours where those are fewer."""
    out = len(pool) - size
    block = min(size, out)
    for epoch in numbers() if block else ():
        key = {pair.id: streams("examples", user, epoch, pair.id).seed for pair in pool}
        order = sorted(pool, key=lambda pair: key[pair.id])
        for first in range(0, len(order), block):
            taken = {order[place % len(order)].id for place in range(first, first + block)}
            yield Choice(pair for pair in pool if (pair.id in taken) == (size <= out))
