"""Whether an embedding tells who somebody is: found again among others, above chance.

Two embeddings of each user are made from two disjoint sets of their pairs. Everyone's first is
then compared with everybody's second: the share of users whose own second is among the k most
similar, against k / users by chance. Nothing is learned for that.

A probe learns: a logistic regression from several subsets of each user's pairs, asked about
subsets made from *other* pairs of theirs. It shows what is in an embedding even where the nearest
neighbour does not. Subsets that share pairs with those learned from would be recognised by these
pairs, and tell nothing of taste; the caller keeps them apart (`examples_for` on a part each).

Embeddings that are equally similar share their places, so one that says nothing is found exactly
as often as chance has it. The unit is the user.

Read next: `palate/data/probe.py`, the regression.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from palate.core.problems import DataError, require
from palate.core.stats import Estimate, cluster_share
from palate.data.probe import chances

Array = NDArray[np.float64]
AT: Final = (1, 5, 16)
# Similarities that differ by rounding only are equal.
_DIGITS: Final = 12


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """How often users were found again.

    Attributes:
        how: By what, in words.
        users: How many there were to tell apart.
        found: Share of users found among the first k, for each k below the number of users.
    """

    how: str
    users: int
    found: Mapping[int, Estimate]

    @property
    def chance(self) -> dict[int, float]:
        """How often guessing would find them."""
        return {places: places / self.users for places in self.found}

    @property
    def above_chance(self) -> dict[int, bool]:
        """Where the whole interval is above chance."""
        return {k: estimate.low > self.chance[k] for k, estimate in self.found.items()}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "how": self.how,
            "users": self.users,
            "found": {str(places): each.asdict() for places, each in self.found.items()},
            "chance": {str(places): share for places, share in self.chance.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read it back."""
        found = {int(places): Estimate.from_json(one) for places, one in values["found"].items()}
        return cls(how=values["how"], users=values["users"], found=found)


def identify(
    first: Float[Tensor, " u tokens width"],
    second: Float[Tensor, " u tokens width"],
    *,
    at: Sequence[int] = AT,
    order: bool = False,
    centred: bool = True,
) -> Identified:
    """Look for everyone's first embedding among everybody's second, by cosine.

    Args:
        first: One embedding of each user.
        second: Another one of each, from other pairs, in the same order of users.
        at: How many places count as found; those that all users fit into are left out.
        order: Compare token with token, as recorded; otherwise the means of the tokens that are
            there, which do not depend on the order of examples.
        centred: Subtract the mean of each side first: what all of a side have in common, such as
            the pictures that happened to be shown, says nothing of who somebody is.

    Raises:
        DataError: for fewer than two users, other shapes, or numbers that are not finite.
    """
    require(
        first.shape == second.shape and first.ndim == 3 and len(first) >= 2,
        got=f"embeddings {tuple(first.shape)} and {tuple(second.shape)}",
        need="two embeddings, [tokens, width], of each of at least two users",
        fix="Make both with one encoder, from two sets of pairs of each user.",
        kind=DataError,
    )
    sides = [_rows(side, order=order) for side in (first, second)]
    if centred:
        sides = [side - side.mean(axis=0) for side in sides]
    likeness = (_unit(sides[0]) @ _unit(sides[1]).T).round(_DIGITS)
    words = ("token by token" if order else "mean of tokens") + (", centred" if centred else "")
    return _identified(f"nearest by cosine, {words}", likeness, np.arange(len(first)), at)


def probe(
    learned: Float[Tensor, " u s tokens width"],
    held_out: Float[Tensor, " u r tokens width"],
    *,
    at: Sequence[int] = AT,
    order: bool = False,
    looseness: float = 1.0,
) -> Identified:
    """Learn whose embedding is whose, and ask about embeddings made from other pairs.

    Args:
        learned: Embeddings of several subsets of each user's pairs.
        held_out: Embeddings of subsets of other pairs of the same users, in the same order.
        at: How many places count as found; those that all users fit into are left out.
        order: Learn from tokens as recorded; otherwise from the means of those that are there.
        looseness: Inverse strength of the penalty, on standardised features.

    Raises:
        DataError: for fewer than two users, or two subsets to learn from, other shapes, or
            numbers that are not finite.
    """
    require(
        learned.ndim == held_out.ndim == 4
        and learned.shape[0] == held_out.shape[0] >= 2
        and learned.shape[2:] == held_out.shape[2:]
        and learned.shape[1] >= 2
        and held_out.shape[1] >= 1,
        got=f"embeddings {tuple(learned.shape)} and {tuple(held_out.shape)}",
        need="[users, subsets, tokens, width] of the same users, at least two, and at least two "
        "subsets of each to learn from",
        fix="Make both with one encoder, from disjoint pairs of each user.",
        kind=DataError,
    )
    users = learned.shape[0]
    known = np.repeat(np.arange(users), learned.shape[1])
    asked = np.repeat(np.arange(users), held_out.shape[1])
    told = chances(
        _rows(learned.flatten(0, 1), order=order),
        known,
        _rows(held_out.flatten(0, 1), order=order),
        looseness=looseness,
    )
    how = f"logistic probe on {learned.shape[1]} subsets per user, other pairs held out"
    return _identified(how, told.round(_DIGITS), asked, at)


def _identified(
    how: str, likeness: Array, answers: NDArray[np.int64], at: Sequence[int]
) -> Identified:
    """Shares of rows whose own column is among the k best, from likeness [rows, users]."""
    users = likeness.shape[1]
    own = likeness[np.arange(len(answers)), answers][:, None]
    better, equal = (likeness > own).sum(axis=1), (likeness == own).sum(axis=1)
    return Identified(
        how=how,
        users=users,
        found={
            places: cluster_share(np.clip((places - better) / equal, 0.0, 1.0), answers.tolist())
            for places in sorted(set(at))
            if 1 <= places < users
        },
    )


def _rows(embeddings: Float[Tensor, " n tokens width"], *, order: bool) -> Array:
    """One row of numbers per embedding; a token of zeros is absent and counts for nothing."""
    require(
        bool(torch.isfinite(embeddings).all()),
        got="user embeddings that are not finite",
        need="finite numbers",
        fix="Look for broken pictures among the examples.",
        kind=DataError,
    )
    numbers = embeddings.detach().cpu().double().numpy()
    if order:
        return numbers.reshape(len(numbers), -1)
    there = np.maximum((numbers != 0).any(axis=2).sum(axis=1), 1)
    return numbers.sum(axis=1) / there[:, None]


def _unit(rows: Array) -> Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12)
