"""Whose pairs are whose: users, which of their pairs say anything, and how many count.

A user is a judge with a name. Where any person judged, users are the people; machines' labels on
the same pictures are left out and counted. Where nobody but machines judged, machines are the
users, as in PPD's first experiment, in which three scorers stand for three people
(arXiv:2501.06655). A tie says nothing of a taste, and two pictures that one user put in either
order say nothing certain: both are left out and counted.

Read next: `examples.py`, the few pairs that stand for a user; `seen.py`, splits by user and by
prompt; `loader.py`, which draws users evenly.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, final

from palate.core.problems import DataError, SettingError, nearest, require
from palate.core.streams import Streams
from palate.data.agreement import unnamed
from palate.data.comparison import Source
from palate.data.folds import folded
from palate.data.pairs import Pair, PreferencePairs
from palate.data.synthetic import MACHINES

# How many pairs stand for a user (PPD's N).
FEW: Final = 4
_LISTED: Final = 8
_Held = TypeVar("_Held", bound=Sequence[Pair])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UserFacts:
    """What is there of one user.

    Attributes:
        user: Their name in the records.
        source: What kind of judge.
        pairs: Pairs in which they preferred a picture.
        prompts: Different prompts among these.
        ties: Pairs in which they preferred neither.
        contradictory: Pairs whose two pictures they also put in the opposite order.
        usable: Pairs that are left.
        different: Different pairs of pictures among the usable ones.
    """

    user: str
    source: Source
    pairs: int
    prompts: int
    ties: int
    contradictory: int
    usable: int
    different: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Everybody:
    """Everybody in a snapshot, and what can be learned of them.

    Attributes:
        pairs: By user, the busiest first: the pairs that can be used, in the snapshot's order.
            Users without any are not in it.
        facts: Every user, the busiest first.
        machines: Judgements left out because a machine made them and there are people.
        nameless: Judgements left out because nobody knows whose they are.
    """

    pairs: Mapping[str, tuple[Pair, ...]]
    facts: tuple[UserFacts, ...]
    machines: int
    nameless: int

    @property
    def ties(self) -> int:
        """Ties of all users."""
        return sum(each.ties for each in self.facts)

    @property
    def contradictory(self) -> int:
        """Contradictory pairs of all users."""
        return sum(each.contradictory for each in self.facts)

    @property
    def people(self) -> bool:
        """Whether users are people, or at least not known to be machines."""
        return all(each.source not in MACHINES for each in self.facts)


def users_of(pairs: PreferencePairs) -> dict[str, list[Pair]]:
    """By user, the busiest first: the pairs in which they preferred a picture.

    Pairs keep the snapshot's order. Ties are no preference; contradictory pairs are still in it,
    see `usable`.
    """
    found: dict[str, list[Pair]] = {}
    for pair in _counted(pairs, pairs):
        if pair.agreement > 0.5:
            found.setdefault(pair.judge, []).append(pair)
    return _busiest_first(found)


def survey(pairs: PreferencePairs) -> Everybody:
    """Everybody in a snapshot, whether anything can be learned of them or not."""
    strict = users_of(pairs)
    judged = [*pairs, *pairs.ties]
    counted = list(_counted(pairs, judged))
    ties = Counter(pair.judge for pair in counted if pair.agreement == 0.5)
    source: dict[str, Source] = {pair.judge: pair.source for pair in counted}
    left = {user: tuple(without_contradictions(mine)) for user, mine in strict.items()}
    facts = [
        UserFacts(
            user=user,
            source=source[user],
            pairs=len(strict.get(user, ())),
            prompts=len({folded(pair.prompt) for pair in strict.get(user, ())}),
            ties=ties[user],
            contradictory=len(strict.get(user, ())) - len(left.get(user, ())),
            usable=len(left.get(user, ())),
            different=len(different(left.get(user, ()))),
        )
        for user in source
    ]
    named = [pair for pair in judged if not unnamed(pair.judge)]
    return Everybody(
        pairs={user: mine for user, mine in _busiest_first(left).items() if mine},
        facts=tuple(sorted(facts, key=lambda each: (-each.usable, -each.pairs, each.user))),
        machines=len(named) - len(counted),
        nameless=len(judged) - len(named),
    )


def usable(pairs: PreferencePairs) -> Everybody:
    """Everybody in a snapshot, of whom something can be learned.

    Raises:
        DataError: when that is nobody; it says why.
    """
    found = survey(pairs)
    require(
        bool(found.pairs),
        got=f"{pairs.snapshot} without a user's pair that can be used ({_why_not(found)})",
        need="pairs in which somebody with a name preferred one of two pictures, and did not "
        "prefer the other one as well",
        fix=_what_to_do(found),
        kind=DataError,
    )
    return found


def without_contradictions(mine: Iterable[Pair]) -> list[Pair]:
    """One user's pairs without those whose two pictures they put in either order.

    A prompt in other letters is the same one, as wherever pairs are taken apart: a person who says
    the opposite under it says nothing certain of these pictures. `PreferencePairs.contradictions`
    counts what all judges together say of a prompt as it is written, and leaves nothing out.
    """
    pairs = list(mine)
    said = {(folded(pair.prompt), pair.chosen, pair.rejected) for pair in pairs}
    return [pair for pair in pairs if (folded(pair.prompt), pair.rejected, pair.chosen) not in said]


def different(mine: Iterable[Pair]) -> list[Pair]:
    """One user's pairs with every two pictures once: the judgement whose id is first."""
    kept: dict[frozenset[str], Pair] = {}
    for pair in mine:
        two = pictures_of(pair)
        if two not in kept or pair.id < kept[two].id:
            kept[two] = pair
    return list(kept.values())


def pictures_of(pair: Pair) -> frozenset[str]:
    """The two pictures of a pair, whichever was preferred."""
    return frozenset((pair.chosen, pair.rejected))


def capped(pairs: PreferencePairs, cap: int, seed: int) -> PreferencePairs:
    """At most `cap` pairs of each user, drawn by seed and ids; a larger cap holds a smaller one's.

    Pick-a-Pic's users are heavy-tailed: without a cap or even drawing (`loader.ByUser`) the few
    busiest decide. Ties and pairs of judges without a name stay as they are.

    Raises:
        SettingError: when the cap is not positive.
    """
    require(
        cap > 0,
        got=f"a cap of {cap}",
        need="at least 1 pair per user",
        fix="Leave the cap out to keep all pairs.",
    )
    streams, beyond = Streams(seed), set[str]()
    by_judge: dict[str, list[Pair]] = {}
    for pair in pairs:
        if not unnamed(pair.judge):
            by_judge.setdefault(pair.judge, []).append(pair)
    for user, mine in by_judge.items():
        order = sorted((pair.id for pair in mine), key=lambda name: streams("cap", user, name).seed)
        beyond.update(order[cap:])
    return pairs.filter(lambda pair: pair.id not in beyond)


def named_user(name: str, users: Collection[str]) -> str:
    """The user who is meant: by the whole name, or by what follows the last `/` of one only.

    Raises:
        SettingError: when there is no such user, or several; the nearest name is given.
    """
    if name in users:
        return name
    endings: dict[str, list[str]] = {}
    for user in users:
        endings.setdefault(user.rpartition("/")[2], []).append(user)
    meant = endings.get(name, [])
    if len(meant) == 1:
        return meant[0]
    listed = ", ".join([*sorted(users)[:_LISTED], *(["…"] if len(users) > _LISTED else [])])
    guess = meant[0] if meant else nearest(name, users)
    guess = guess or next(iter(endings.get(nearest(name, endings) or "", [])), None)
    raise SettingError(
        got=f"user={name!r}" + (f", which {len(meant)} users are called" if meant else ""),
        need=f"one of {len(users):,} users ({listed})",
        fix=f"Did you mean {guess}?" if guess else "`palate users list` names them.",
    )


def _counted(pairs: PreferencePairs, judged: Iterable[Pair]) -> Iterator[Pair]:
    """The judgements that are users': by people with a name, or by machines where none are."""
    people = any(pair.source not in MACHINES for pair in (*pairs, *pairs.ties))
    for pair in judged:
        if not unnamed(pair.judge) and not (people and pair.source in MACHINES):
            yield pair


def _busiest_first(found: Mapping[str, _Held]) -> dict[str, _Held]:
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _why_not(found: Everybody) -> str:
    """What there was instead, in a few words."""
    counts = {
        "ties": found.ties,
        "contradictory pairs": found.contradictory,
        "judgements without a name": found.nameless,
        "judgements of machines": found.machines,
    }
    told = [f"{number:,} {what}" for what, number in counts.items() if number]
    return ", ".join(told) or "nobody judged a pair"


def _what_to_do(found: Everybody) -> str:
    """What helps, by what there is too much of."""
    if found.facts:
        return (
            "Have them choose between some more pictures: `palate users list` counts what there "
            "is of whom."
        )
    if found.nameless:
        return "Import them again with names, which are taken from user_id or judge."
    return "Import pairs that somebody judged: `palate data show` counts what is there."
