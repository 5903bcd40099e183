"""Opening a book: everybody's examples are chosen, and their embeddings are made and kept.

An embedding is named by the examples it was made from, whoever they are of, and lies on a rack of
its encoder, so that a resumed run and other runs on the same people read it again.

Read next: `users.py`, who makes embeddings; `opening.py`, what a run does with the book.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from palate.core.files import digest_json
from palate.core.problems import DataError, HealthStop, require
from palate.data.examples import Choice
from palate.data.pairs import PreferencePairs
from palate.data.people import Everybody, capped, usable
from palate.scorers.users import UserEncoder
from palate.train.book import Book, Read
from palate.train.cache import ROWS_AT_ONCE, Tell, fill_rack
from palate.train.choices import CAPPED, Choices, choices_among
from palate.train.embedding import examples_of
from palate.train.facts import label_pairs
from palate.train.guard import FEWEST as FEWEST_BROKEN
from palate.train.labels import Scores
from palate.train.personal import PersonalSettings
from palate.train.rack import Rack
from palate.train.run import Run
from palate.train.users import Learned, learned_from, open_user_encoder

ROOM, _ROW = "users", "user"
# Raise it when embeddings are made differently: it is part of the rack's key.
PREPARATION = 1
# What one person prefers, anybody's training learns; a user tells two apart.
FEWEST = 2
Sides = tuple[PreferencePairs, PreferencePairs]


def open_book(
    run: Run, pairs: PreferencePairs | None, cache: Path, *, device: str, tell: Tell
) -> Book | None:
    """Choose everybody's examples and make their embeddings; None for a run without people.

    Whoever makes them is let go afterwards: a large model need not fit beside the trained one.

    Raises:
        DataError: when there are not two people to tell apart, or nothing to check them by.
        HealthStop: when too many embeddings are not finite.
        SettingError, WeightsError: when whoever makes embeddings cannot be opened.
    """
    settings = run.personal
    if settings is None or pairs is None:
        return None
    judged = label_pairs(run, pairs, Scores(folder=cache, device=device, tell=tell)).pairs
    everybody = usable(judged)
    sides = judged.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    choices = choices_among(settings, everybody, judged, sides[0], run.seed)
    # Before a large encoder is opened, and whatever is on the rack.
    people = _told_apart(run, everybody, choices, sides)
    encoder = open_user_encoder(
        settings.users,
        pooling=settings.pooling,
        layer=settings.layer,
        prompt=settings.prompt,
        examples=settings.examples,
        device=device,
        people=people,
    )
    read, broken, digest = _embedded(encoder, choices, run, pairs, cache, device, tell)
    if broken:
        choices = choices.without(broken)
        people = _told_apart(run, everybody, choices, sides)
    return Book(
        settings=settings,
        seed=run.seed,
        form=(encoder.tokens, encoder.width),
        about=about_of(settings, encoder),
        choices=choices,
        people=people,
        read=read,
        digest=digest,
        left_out=_left_out(run, settings, choices, sides),
        broken=len(broken),
        notes=tuple(_notes(settings, encoder, pairs, len(broken))),
        dropout=settings.dropout,
    )


def _told_apart(run: Run, everybody: Everybody, choices: Choices, sides: Sides) -> tuple[str, ...]:
    """Who can be learned from, sorted.

    Raises:
        DataError: when there are not two people to tell apart, or no held-out pair of anybody who
            is known.
    """
    train, held_out = sides
    people = sorted({pair.judge for pair in choices.asked(train)})
    require(
        len(people) >= FEWEST,
        got=f"{len(people)} of {len(everybody.pairs)} people with a training pair and an example, "
        f"after a share of {run.split.held_out:g} was held out by {run.split.by}",
        need="two people or more, each with two pairs or more to be told apart by",
        fix="`palate users list` counts everybody's. A smaller split.held_out leaves more of them; "
        "one person's pairs are trained without the group personal.",
        kind=DataError,
    )
    lost = ", ".join(f"{many:,} {why}" for why, many in choices.left_out(held_out).items())
    require(
        bool(len(choices.asked(held_out))),
        got=f"{len(held_out)} held-out pairs, none of anybody who is known: {lost}",
        need="at least one, to check the run's health",
        fix="Use a larger split.held_out, so that people with several pairs are among them, or "
        "another seed; `palate users list` counts everybody's.",
        kind=DataError,
    )
    return tuple(people)


def _left_out(
    run: Run, settings: PersonalSettings, choices: Choices, sides: Sides
) -> dict[str, dict[str, int]]:
    """By side of the split: how many of its pairs are left out, by reason."""
    train, held_out = sides
    lost, found = choices.left_out(train), choices.asked(train)
    cap = settings.cap
    over = 0 if cap is None else len(found) - len(capped(found, cap, run.seed))
    return {
        "training": {**lost, CAPPED: over} if over else lost,
        "held out": choices.left_out(held_out),
    }


def _notes(
    settings: PersonalSettings, encoder: UserEncoder, pairs: PreferencePairs, broken: int
) -> Iterator[str]:
    """What one should know of who made the embeddings, a sentence each."""
    made: Mapping[str, Any] = encoder.about.get("made", {})
    if learned_from(encoder.about) == pairs.digest:
        yield (
            f"{settings.users} was learned from these very pairs and has seen their answers, held-"
            "out ones included: held-out accuracy is flattered. Judge it by other pairs."
        )
    if made.get("examples", settings.examples) != settings.examples:
        yield (
            f"{settings.users} was made for people known by {made['examples']} pairs, and "
            f"personal.examples is {settings.examples}: its numbers are of another size than usual."
        )
    if broken:
        yield f"{broken:,} embeddings of people were not finite and are not shown to anybody."


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


def _embedded(
    encoder: UserEncoder,
    choices: Choices,
    run: Run,
    pairs: PreferencePairs,
    cache: Path,
    device: str,
    tell: Tell,
) -> tuple[Read, tuple[Choice, ...], str]:
    """How to read the embedding of each choice, made where it was not kept.

    Returns:
        The way to read them, the choices whose embedding is not finite, and the digest of all.

    Raises:
        HealthStop: when too many embeddings are not finite.
    """
    if isinstance(encoder, Learned):
        # Bound to a name of its own: what is read later must not hold on to anything large.
        known = encoder.known
        return (lambda user, _choice: known([user])[0]), (), encoder.identity
    rack = Rack(cache / ROOM, _factors(encoder, device))
    wanted = {name_of(choice): choice for own in choices.of.values() for choice in own}

    def make(part: Sequence[Choice]) -> dict[str, Tensor]:
        return {_ROW: encoder.embed([examples_of(pairs, choice) for choice in part])}

    fill_rack(rack, wanted, tell, ROOM, make)
    broken = [choice for name, choice in wanted.items() if name in rack.refused]
    require(
        len(broken) < FEWEST_BROKEN or len(broken) <= run.health.nan_budget * len(wanted),
        got=f"{len(broken)} of {len(wanted)} embeddings of people that are not finite, by "
        f"{encoder.name}",
        need=f"at most {100 * run.health.nan_budget:g} %",
        fix="Are its weights sound? Try it in fp32.",
        kind=HealthStop,
    )

    def read(_user: str, choice: Choice) -> Tensor:
        return rack.rows([name_of(choice)])[_ROW][0]

    return read, tuple(broken), digest_json([encoder.identity, rack.digest(sorted(wanted))])


def name_of(choice: Choice) -> str:
    """The name of an embedding: all that it was made from, in order."""
    return digest_json([[pair.prompt, pair.chosen, pair.rejected] for pair in choice])


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
