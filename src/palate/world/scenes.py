"""The small world's scenes and the sentences that name them, exactly in both directions.

A scene is one object in a place, two or three alike, or two objects in a relation, on a plain
background. `Scene.caption` writes it as an English sentence and `Scene.parse` reads the sentence
back, so everything that knows a caption knows the whole truth about what should be in the picture.

Read next: `render.py` (draws a scene), `reward.py` (judges a picture by its caption).
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Self, final

import numpy as np

from palate.core.problems import DataError, nearest, require, unknown
from palate.core.streams import Streams

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
SIZES = ("small", "large")
BACKGROUNDS = ("white", "grey", "black")
PLACES = {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {"two": 2, "three": 3}
SPLITS = ("train", "held-out")

_PLURALS = {shape: f"{shape}es" if shape.endswith("s") else f"{shape}s" for shape in SHAPES}
_THING = rf"({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_GROUND = rf"({'|'.join(BACKGROUNDS)}) background"
_SINGLE = re.compile(rf"a {_THING} ({'|'.join(PLACES.values())}) of a {_GROUND}")
_PAIR = re.compile(rf"a {_THING} ({'|'.join(RELATIONS)}) a {_THING} on a {_GROUND}")
_SEVERAL = re.compile(
    rf"({'|'.join(NUMBERS)}) ({'|'.join(SIZES)}) ({'|'.join(COLOURS)})"
    rf" ({'|'.join(_PLURALS.values())}) on a {_GROUND}"
)
_EXAMPLE = "a large red circle left of a small blue square on a grey background"
# Of a hundred drawn prompts: thirty single objects, twenty groups, fifty relations.
_KINDS, _KIND_SHARES = ("single", "several", "pair"), (0.3, 0.2, 0.5)
_HELD_OUT_IN_FOUR = 1


@final
@dataclass(frozen=True, slots=True)
class Thing:
    """One kind of object: its size, colour and shape."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What should be in a picture.

    Attributes:
        things: One kind of object, or two that differ in colour and stand in a relation.
        background: White, grey or black.
        number: How many of the one kind there are: 1, 2 or 3. Always 1 with two kinds.
        place: Where a single object stands, a key of `PLACES`; empty otherwise.
        relation: How the first kind stands to the second, of `RELATIONS`; empty otherwise.
    """

    things: tuple[Thing, ...]
    background: str
    number: int = 1
    place: str = ""
    relation: str = ""

    @property
    def objects(self) -> tuple[Thing, ...]:
        """Every object that should be seen, one entry each."""
        return self.things * self.number

    @property
    def caption(self) -> str:
        """The sentence that names this scene; `parse` reads it back."""
        first = self.things[0]
        if self.relation:
            return f"a {first} {self.relation} a {self.things[1]} on a {self.background} background"
        if self.number > 1:
            word = next(word for word, number in NUMBERS.items() if number == self.number)
            group = f"{word} {first.size} {first.colour} {_PLURALS[first.shape]}"
            return f"{group} on a {self.background} background"
        return f"a {first} {PLACES[self.place]} of a {self.background} background"

    @classmethod
    def parse(cls, caption: str) -> Self:
        """Read a caption of the world back into its scene.

        Case, surrounding space and a final full stop do not matter.

        Raises:
            DataError: when the sentence is not one of the world's.
        """
        text = " ".join(caption.lower().split()).rstrip(". ")
        if found := _PAIR.fullmatch(text):
            *words, background = found.groups()
            first, relation, second = Thing(*words[:3]), words[3], Thing(*words[4:])
            require(
                first.colour != second.colour,
                got=f"two {first.colour} objects in {caption!r}",
                need="two objects of different colours",
                fix=f"Change one colour, as in {_EXAMPLE!r}",
                kind=DataError,
            )
            return cls(things=(first, second), background=background, relation=relation)
        if found := _SINGLE.fullmatch(text):
            *words, phrase, background = found.groups()
            place = next(place for place, value in PLACES.items() if value == phrase)
            return cls(things=(Thing(*words),), background=background, place=place)
        if found := _SEVERAL.fullmatch(text):
            word, size, colour, plural, background = found.groups()
            shape = next(shape for shape, value in _PLURALS.items() if value == plural)
            thing = Thing(size, colour, shape)
            return cls(things=(thing,), background=background, number=NUMBERS[word])
        raise _unreadable(caption, text)


def every_scene() -> Iterator[Scene]:
    """All scenes of the world, in a fixed order: singles, groups, relations."""
    things = [Thing(*words) for words in product(SIZES, COLOURS, SHAPES)]
    for thing, place, background in product(things, PLACES, BACKGROUNDS):
        yield Scene(things=(thing,), background=background, place=place)
    for thing, number, background in product(things, NUMBERS.values(), BACKGROUNDS):
        yield Scene(things=(thing,), background=background, number=number)
    for first, second, relation, background in product(things, things, RELATIONS, BACKGROUNDS):
        if first.colour != second.colour:
            yield Scene(things=(first, second), background=background, relation=relation)


def split_of(caption: str) -> str:
    """Which side of the wall a caption is on: "train" or "held-out" (one in four)."""
    digest = hashlib.blake2b(caption.encode(), digest_size=4).digest()
    return "held-out" if int.from_bytes(digest, "big") % 4 < _HELD_OUT_IN_FOUR else "train"


def prompts(split: str, n: int, seed: int) -> list[str]:
    """Draw `n` distinct captions of one split, all kinds of scene mixed.

    Raises:
        SettingError: for an unknown split, or more prompts than the split can give.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    most = 4000 if split == "held-out" else 12000
    require(
        0 <= n <= most,
        got=f"n={n} prompts of the {split} split",
        need=f"between 0 and {most}",
        fix="Ask for fewer prompts, or draw several pictures per prompt.",
    )
    chance = Streams(seed)("prompts", split).numpy()
    chosen: dict[str, None] = {}
    while len(chosen) < n:
        caption = random_scene(chance).caption
        if split_of(caption) == split:
            chosen[caption] = None
    return list(chosen)


def random_scene(chance: np.random.Generator) -> Scene:
    """Draw a scene of either split."""
    kind = chance.choice(_KINDS, p=_KIND_SHARES)
    background = str(chance.choice(BACKGROUNDS))
    first = _random_thing(chance, COLOURS)
    if kind == "single":
        place = str(chance.choice(list(PLACES)))
        return Scene(things=(first,), background=background, place=place)
    if kind == "several":
        number = int(chance.choice(list(NUMBERS.values())))
        return Scene(things=(first,), background=background, number=number)
    others = tuple(colour for colour in COLOURS if colour != first.colour)
    things = (first, _random_thing(chance, others))
    return Scene(things=things, background=background, relation=str(chance.choice(RELATIONS)))


def _random_thing(chance: np.random.Generator, colours: tuple[str, ...]) -> Thing:
    words = (chance.choice(options) for options in (SIZES, colours, SHAPES))
    return Thing(*(str(word) for word in words))


def _unreadable(caption: str, text: str) -> DataError:
    """The error for a sentence of no scene, with the word that most probably spoils it."""
    known = set(" ".join(phrase for phrase in (*PLACES.values(), *RELATIONS)).split())
    known |= {"a", "of", "on", "background", *SHAPES, *_PLURALS.values(), *COLOURS, *SIZES}
    known |= {*BACKGROUNDS, *NUMBERS}
    stranger = next((word for word in text.split() if word not in known), None)
    guess = nearest(stranger, known) if stranger else None
    hint = f"Did you mean {guess!r} instead of {stranger!r}? " if guess else ""
    return DataError(
        got=f"caption {caption!r}",
        need=f"a sentence of the small world, such as {_EXAMPLE!r}",
        fix=f"{hint}Every sentence has size, colour and shape, in docs/world.md's order",
    )
