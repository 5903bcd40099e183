"""What a user embedding is: a few of somebody's own choices made into a few rows of numbers.

A model that follows many tastes is told whose taste to follow by such rows (PPD: arXiv:2501.06655).
Whoever makes them sees examples only, each a prompt with the picture that was chosen and the one
that was not, and is never told who it was. Every row ends divided by its root mean square, so that
magnitudes compare between people and between encoders. A layer norm would take the mean over the
features out as well; of a difference that mean is part of the direction, most of all in few
dimensions, and it stays. A row that is all zeros is absent, and a user all of whose rows are
absent is nobody.

Read next: `users_looks.py`, by plain numbers of the pictures; `users_clip.py`, by CLIP features;
`users_vision.py`, by the hidden states of a vision-language model; `users_taste.py`, by a place
among the tastes of many.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from palate.core.files import digest_bytes, digest_json
from palate.core.problems import DataError, require

# Below this root mean square a row holds what arithmetic left over, and is absent.
_NOTHING = 1e-6


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One choice somebody made.

    Attributes:
        prompt: What both pictures were drawn for.
        chosen: The picture that was preferred.
        rejected: The other one; it may have another size.

    Raises:
        DataError: when a picture is not uint8 [height, width, 3].
    """

    prompt: str
    chosen: np.ndarray
    rejected: np.ndarray

    def __post_init__(self) -> None:
        for which, image in (("chosen", self.chosen), ("rejected", self.rejected)):
            require(
                image.dtype == np.uint8
                and image.ndim == 3
                and image.shape[2] == 3
                and image.size > 0,
                got=f"a {which} picture of {image.dtype} {image.shape}",
                need="uint8 [height, width, 3]",
                fix="Give RGB values from 0 to 255.",
                kind=DataError,
            )

    @property
    def digest(self) -> str:
        """Told by its content alone: the same choice, the same digest."""
        return digest_json([self.prompt, seen(self.chosen), seen(self.rejected)])


class UserEncoder(Protocol):
    """Makes user embeddings. Deterministic: the same examples, the same rows."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def identity(self) -> str:
        """Digest of everything its numbers depend on: weights, settings, its own arithmetic."""
        ...

    @property
    def tokens(self) -> int:
        """Rows per user."""
        ...

    @property
    def width(self) -> int:
        """Numbers per row."""
        ...

    @property
    def about(self) -> Mapping[str, Any]:
        """What it is and how it was set, for the record: only what JSON can hold."""
        ...

    def embed(self, people: Sequence[Sequence[Example]]) -> Float[Tensor, " n tokens width"]:
        """One embedding per sequence of examples, float32, on the processor.

        Rows beyond what there are examples for are zero.

        Raises:
            DataError: when somebody has no example, or more than the encoder has room for.
        """
        ...


def seen(image: UInt8[np.ndarray, " _ _ 3"]) -> str:
    """Digest of a picture: its size and its pixels."""
    return digest_bytes(f"{image.shape}|".encode() + np.ascontiguousarray(image).tobytes())


def checked(people: Sequence[Sequence[Example]], room: int | None = None) -> None:
    """Refuse people no embedding can be made of.

    Args:
        people: Their examples.
        room: How many examples one may have at most; any number when left out.

    Raises:
        DataError: when somebody has no example, or more than there is room for.
    """
    for place, mine in enumerate(people):
        require(
            len(mine) > 0 and (room is None or len(mine) <= room),
            got=f"{len(mine)} examples of person {place}",
            need="at least one" if room is None else f"between 1 and {room}",
            fix="Take a few of the person's own choices, ties left out.",
            kind=DataError,
        )


def in_order(mine: Sequence[Example]) -> list[Example]:
    """The same examples in an order that does not depend on how they were given."""
    return sorted(mine, key=lambda example: example.digest)


def scaled(rows: Float[Tensor, " *rows width"]) -> Float[Tensor, " *rows width"]:
    """Each row divided by its root mean square, in float32; a row of nothing stays zero."""
    wide = rows.double()
    size = wide.square().mean(-1, keepdim=True).sqrt()
    there = size > _NOTHING
    return torch.where(there, wide / torch.where(there, size, 1.0), 0.0).float()


@final
class Remembered:
    """What was found of a picture or a text, kept by name: each is looked at once.

    Args:
        name: By what a thing is told from others; a picture by its digest.
        most: How many to remember; what was found first is forgotten first.
    """

    def __init__(self, name: Callable[[Any], str] = seen, most: int = 50_000) -> None:
        self._name, self._most = name, most
        self._found: dict[str, Tensor] = {}

    def of(
        self, things: Sequence[Any], look: Callable[[Sequence[Any]], Float[Tensor, " n width"]]
    ) -> Float[Tensor, " things width"]:
        """One row per thing, of which there is one at least.

        Args:
            things: What is asked about.
            look: Asked once about all that are not yet known, each of them once.
        """
        names = [self._name(thing) for thing in things]
        new = {n: thing for n, thing in zip(names, things, strict=True) if n not in self._found}
        rows = {name: self._found[name] for name in names if name in self._found}
        if new:
            rows |= dict(zip(new, look(list(new.values())), strict=True))
        self._found |= rows
        while len(self._found) > self._most:
            del self._found[next(iter(self._found))]
        return torch.stack([rows[name] for name in names])
