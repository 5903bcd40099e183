"""By which of their pairs everybody is known, and which pairs can therefore be learned from.

Every pair of a side of the split is either used or left out for one reason, so that what is used
and what is counted add up to what there was.

Read next: `examples.py`, which makes embeddings of the choices; `book.py`, which shows them.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from palate.data.agreement import unnamed
from palate.data.examples import Choice, away_from, examples_for
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import Everybody, different
from palate.data.synthetic import MACHINES
from palate.train.personal import PersonalSettings

ALONE = "pairs with no other one of the same person"
NO_VECTOR = "pairs of people without a vector"
NO_PROMPT = "pairs without a prompt"
TIES = "ties"
CONTRADICTORY = "contradictory pairs"
OF_MACHINES = "judgements of machines"
NAMELESS = "judgements without a name"
CAPPED = "pairs above the cap"
# Of somebody known by a vector of their own: a choice of no examples.
_NO_EXAMPLES = Choice()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Everybody's choices of examples, and the pairs that cannot be learned from whoever is known.

    Attributes:
        of: By user, choices of examples; the first is the one to know them by.
        unusable: Why a pair cannot be used whoever is known, by id.
        otherwise: Why any other pair that has no choice is left out.
    """

    of: Mapping[str, tuple[Choice, ...]]
    unusable: Mapping[str, str]
    otherwise: str

    def away(self, pair: Pair) -> tuple[Choice, ...]:
        """The choices of its judge's examples that a pair may be shown."""
        return away_from(self.of.get(pair.judge, ()), pair)

    def why_not(self, pair: Pair) -> str | None:
        """Why a pair is left out; None when it can be learned from."""
        found = self.unusable.get(pair.id)
        return found or (None if self.away(pair) else self.otherwise)

    def asked(self, pairs: PreferencePairs) -> PreferencePairs:
        """The pairs that are not left out."""
        return pairs.filter(lambda pair: self.why_not(pair) is None)

    def left_out(self, pairs: PreferencePairs) -> dict[str, int]:
        """How many pairs are left out, by reason; with those that `asked` keeps it is all."""
        found = Counter(why for pair in pairs if (why := self.why_not(pair)) is not None)
        return dict(found.most_common())

    def without(self, broken: Collection[Choice]) -> "Choices":
        """The same where some choices cannot be shown."""
        away = set(broken)
        kept = {user: tuple(c for c in own if c not in away) for user, own in self.of.items()}
        return replace(self, of={user: own for user, own in kept.items() if own})


def choices_among(
    settings: PersonalSettings,
    everybody: Everybody,
    pairs: PreferencePairs,
    train: PreferencePairs,
    seed: int,
) -> Choices:
    """Choose everybody's examples: from their training pairs, or all theirs where they have none.

    Args:
        settings: How many, and whether anybody has any.
        everybody: Whose pairs can be used.
        pairs: All pairs of the run.
        train: The training side of their split.
        seed: The run's seed.
    """
    learned = _within(everybody, {pair.id for pair in train})
    return Choices(
        of={
            user: choices_of(settings, user, learned.get(user) or list(own), seed)
            for user, own in everybody.pairs.items()
            if user in learned or not settings.learned
        },
        unusable=_unusable(everybody, pairs),
        otherwise=NO_VECTOR if settings.learned else ALONE,
    )


def choices_of(
    settings: PersonalSettings, user: str, mine: Sequence[Pair], seed: int
) -> tuple[Choice, ...]:
    """Choices of a person's examples, and further ones for pairs that are in all of these."""
    if settings.learned:
        return (_NO_EXAMPLES,)
    found = list(
        examples_for(mine, count=settings.examples, subsets=settings.subsets, seed=seed, user=user)
    )
    for pair in mine:
        if away_from(found, pair):
            continue
        others = [each for each in different(mine) if away_from([(each,)], pair)]
        if others:
            found += examples_for(others, count=settings.examples, subsets=1, seed=seed, user=user)
    return tuple(found)


def _within(everybody: Everybody, ids: set[str]) -> dict[str, list[Pair]]:
    """By user, their usable pairs of these ids; users without any are left out."""
    found = {user: [p for p in own if p.id in ids] for user, own in everybody.pairs.items()}
    return {user: own for user, own in found.items() if own}


def _unusable(everybody: Everybody, pairs: PreferencePairs) -> dict[str, str]:
    """Why pairs cannot be used whoever is known, by id.

    Guidance drops the user with the prompt, so that nobody draws for somebody without a prompt,
    and nothing is learned of that. Such a pair may still stand for its judge.
    """
    usable = {pair.id for own in everybody.pairs.values() for pair in own}
    found: dict[str, str] = {}
    for pair in pairs:
        if pair.id not in usable:
            found[pair.id] = _flaw(pair, people=everybody.people)
        elif not pair.prompt:
            found[pair.id] = NO_PROMPT
    return found


def _flaw(pair: Pair, *, people: bool) -> str:
    """Why a pair says nothing of anybody's taste."""
    if unnamed(pair.judge):
        return NAMELESS
    if people and pair.source in MACHINES:
        return OF_MACHINES
    return CONTRADICTORY if pair.agreement > 0.5 else TIES
