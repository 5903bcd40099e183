"""Everybody's pairs in two sides that share nothing, and embeddings of a few pairs of either.

Whether an embedding knows somebody again is asked with other pairs than it was made of. Two pairs
on one prompt, or with one picture in both, would be recognised by what was asked and not by who
answered, so a prompt is on one side only, and a picture too.

Read next: `identify.py`, which asks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.examples import examples_for
from palate.data.folds import folded
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import different, usable
from palate.scorers.users import UserEncoder
from palate.train.embedding import examples_of


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sides:
    """Embeddings of everyone from two sets of their pairs.

    Attributes:
        users: Their names.
        first: Of several subsets of one side's pairs: [users, subsets, tokens, width].
        second: The same of the other side's.
        left_out: Users with too few pairs for two sides.
    """

    users: tuple[str, ...]
    first: Float[Tensor, "u s tokens width"]
    second: Float[Tensor, "u s tokens width"]
    left_out: int


def two_sides(
    encoder: UserEncoder,
    pairs: PreferencePairs,
    *,
    examples: int,
    subsets: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Sides:
    """Everybody's pairs in two sides, and embeddings of subsets of both.

    Args:
        encoder: Who makes embeddings.
        pairs: Many people's.
        examples: Pairs that an embedding is made of; users without twice as many are left out.
        subsets: Subsets of each side, at most: as many as the user with the fewest has.
        seed: Which pairs are on which side.
        progress: Told (users done, users in all).

    Raises:
        DataError: when fewer than two users have pairs enough.
    """
    everybody = usable(pairs).pairs
    found = {user: _halves(mine, user, seed) for user, mine in everybody.items()}
    found = {user: two for user, two in found.items() if min(map(len, two)) >= examples}
    require(
        len(found) >= 2,
        got=f"{len(found)} users with {examples} pairs, and {examples} others that share neither "
        f"prompt nor picture with them, of {len(everybody):,} users",
        need="at least two such users, to tell one from the other",
        fix="Take fewer --examples, or a snapshot with more pairs of each user.",
        kind=DataError,
    )
    chosen = {
        user: [
            examples_for(side, count=examples, subsets=subsets, seed=seed, user=user)
            for side in two
        ]
        for user, two in found.items()
    }
    many = min(len(choices) for two in chosen.values() for choices in two)
    sides: list[list[Tensor]] = [[], []]
    for done, two in enumerate(chosen.values(), start=1):
        for side, choices in zip(sides, two, strict=True):
            side.append(encoder.embed([examples_of(pairs, each) for each in choices[:many]]))
        if progress is not None:
            progress(done, len(chosen))
    return Sides(
        users=tuple(chosen),
        first=torch.stack(sides[0]),
        second=torch.stack(sides[1]),
        left_out=len(everybody) - len(chosen),
    )


def _halves(mine: Sequence[Pair], user: str, seed: int) -> tuple[list[Pair], list[Pair]]:
    """One user's pairs in two sides with prompts and pictures of their own."""
    by_prompt: dict[str, list[Pair]] = {}
    for pair in different(mine):
        by_prompt.setdefault(folded(pair.prompt), []).append(pair)
    streams = Streams(seed)
    order = sorted(by_prompt, key=lambda prompt: streams("side", user, prompt).seed)
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for prompt in order:
        min(sides, key=len).extend(by_prompt[prompt])
    shown = {name for pair in sides[0] for name in (pair.chosen, pair.rejected)}
    return sides[0], [pair for pair in sides[1] if not {pair.chosen, pair.rejected} & shown]
