"""Opening a book: everybody's examples are chosen, and their embeddings are made and kept.

An embedding is named by the examples it was made from, whoever they are of, and lies on a rack of
its encoder, so that a resumed run and other runs on the same people read it again.

Read next: `users.py`, who makes embeddings; `opening.py`, what a run does with the book.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from palate.core.files import digest_json
from palate.core.problems import DataError, require
from palate.data.examples import away_from, examples_for
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import Everybody, different, usable
from palate.scorers.users import Example, UserEncoder
from palate.train.book import Book, Choice, Read
from palate.train.cache import ROWS_AT_ONCE, Tell, fill_rack
from palate.train.facts import label_pairs
from palate.train.labels import Scores
from palate.train.personal import PersonalSettings
from palate.train.rack import Rack
from palate.train.run import Run
from palate.train.users import Learned, open_user_encoder

ROOM, _ROW = "users", "user"
# Raise it when embeddings are made differently: it is part of the rack's key.
PREPARATION = 1
# What one person prefers, anybody's training learns; a user tells two apart.
FEWEST = 2
# Of somebody known by a vector of their own: a choice of no examples.
_NO_EXAMPLES: Choice = ()


def open_book(
    run: Run, pairs: PreferencePairs | None, cache: Path, *, device: str, tell: Tell
) -> Book | None:
    """Choose everybody's examples and make their embeddings; None for a run without people.

    Whoever makes them is let go afterwards: a large model need not fit beside the trained one.

    Raises:
        DataError: when there are not two people to tell apart.
        SettingError, WeightsError: when whoever makes embeddings cannot be opened.
    """
    settings = run.personal
    if settings is None or pairs is None:
        return None
    pairs = label_pairs(run, pairs, Scores(folder=cache, device=device, tell=tell)).pairs
    everybody = usable(pairs)
    train, _ = pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    learned = _within(everybody, {pair.id for pair in train})
    choices = {
        user: choices_of(settings, user, learned.get(user) or list(own), run.seed)
        for user, own in everybody.pairs.items()
        if user in learned or not settings.learned
    }
    people, alone = _told_apart(learned, choices)
    encoder = open_user_encoder(
        settings.users,
        pooling=settings.pooling,
        layer=settings.layer,
        prompt=settings.prompt,
        examples=settings.examples,
        device=device,
        people=people,
    )
    read, digest = _embedded(encoder, choices, pairs, cache, device, tell)
    return Book(
        settings=settings,
        seed=run.seed,
        form=(encoder.tokens, encoder.width),
        about=about_of(settings, encoder),
        choices=choices,
        people=people,
        read=read,
        digest=digest,
        left_out={
            "pairs with no other one of the same person": alone,
            "contradictory pairs": everybody.contradictory,
            "judgements of machines": everybody.machines,
            "judgements without a name": everybody.nameless,
        },
        dropout=settings.dropout,
    )


def _told_apart(
    learned: Mapping[str, Sequence[Pair]], choices: Mapping[str, Sequence[Choice]]
) -> tuple[tuple[str, ...], int]:
    """Who can be learned from, sorted, and how many pairs have no example but themselves.

    Raises:
        DataError: when there are not two people to tell apart.
    """
    alone = {
        pair.id
        for user, own in learned.items()
        for pair in own
        if not away_from(choices[user], pair)
    }
    people = sorted(user for user, own in learned.items() if any(p.id not in alone for p in own))
    require(
        len(people) >= FEWEST,
        got=f"{len(people)} of {len(learned)} people with a training pair and an example",
        need="two people or more, each with two pairs or more to be told apart by",
        fix="`palate users list` counts everybody's; one person's pairs are trained without the "
        "group personal.",
        kind=DataError,
    )
    return tuple(people), len(alone)


def about_of(settings: PersonalSettings, encoder: UserEncoder) -> dict[str, Any]:
    """Who makes embeddings, in plain values, so that somebody else can make another one alike."""
    return {
        "users": settings.users,
        "identity": encoder.identity,
        "examples": settings.examples,
        "pooling": settings.pooling,
        "layer": settings.layer,
        "prompt": settings.prompt,
        "dtype": encoder.about.get("dtype"),
        "encoder": dict(encoder.about),
    }


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


def _embedded(
    encoder: UserEncoder,
    choices: Mapping[str, Sequence[Choice]],
    pairs: PreferencePairs,
    cache: Path,
    device: str,
    tell: Tell,
) -> tuple[Read, str]:
    """How to read the embedding of each choice, made where it was not kept, and their digest."""
    if isinstance(encoder, Learned):
        # Bound to a name of its own: what is read later must not hold on to anything large.
        known = encoder.known
        return (lambda user, _choice: known([user])[0]), encoder.identity
    rack = Rack(cache / ROOM, _factors(encoder, device))
    wanted = {name_of(choice): choice for own in choices.values() for choice in own}

    def make(part: Sequence[Choice]) -> dict[str, Tensor]:
        people = [[example_of(pairs, pair) for pair in choice] for choice in part]
        return {_ROW: encoder.embed(people)}

    fill_rack(rack, wanted, tell, ROOM, make)
    require(
        not rack.refused.keys() & wanted.keys(),
        got=f"{len(rack.refused.keys() & wanted.keys())} of {len(wanted)} embeddings of people "
        f"that are not finite, by {encoder.name}",
        need="finite ones",
        fix="Are its weights sound? Try it in fp32.",
        kind=DataError,
    )

    def read(_user: str, choice: Choice) -> Tensor:
        return rack.rows([name_of(choice)])[_ROW][0]

    return read, digest_json([encoder.identity, rack.digest(sorted(wanted))])


def name_of(choice: Choice) -> str:
    """The name of an embedding: all that it was made from, in order."""
    return digest_json([[pair.prompt, pair.chosen, pair.rejected] for pair in choice])


def example_of(pairs: PreferencePairs, pair: Pair) -> Example:
    """A pair with its pictures, as encoders are shown it."""
    chosen, rejected = pairs.images([pair.chosen, pair.rejected])
    return Example(prompt=pair.prompt, chosen=chosen, rejected=rejected)


def _factors(encoder: UserEncoder, device: str) -> dict[str, Any]:
    """Everything embeddings depend on besides the examples."""
    return {
        "encoder": encoder.identity,
        "tokens": encoder.tokens,
        "width": encoder.width,
        "rows at once": ROWS_AT_ONCE,
        "device": device.partition(":")[0],
        "preparation": PREPARATION,
    }
