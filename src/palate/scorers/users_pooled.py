"""From one row per example to a user embedding: their mean, or each for itself.

Read next: `users.py`, what an embedding is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.problems import require, unknown
from palate.scorers.users import Example, checked, scaled

Pooling = Literal["mean", "pairs"]


def _mean(rows: Float[Tensor, " examples width"]) -> Float[Tensor, " 1 width"]:
    return rows.mean(0, keepdim=True)


def _each(rows: Float[Tensor, " examples width"]) -> Float[Tensor, " examples width"]:
    return rows


_POOLINGS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = MappingProxyType(
    {"mean": _mean, "pairs": _each}
)


@final
@dataclass(frozen=True, slots=True)
class Pool:
    """How rows of examples become rows of a person.

    Args:
        pooling: `mean` for one row, the mean over the examples; `pairs` for one per example.
        examples: How many examples a person may have with `pairs`, which is its number of rows.
            The mean takes any number.

    Raises:
        SettingError: for an unknown pooling, or fewer than one example.
    """

    pooling: Pooling
    examples: int

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise unknown("pooling", self.pooling, get_args(Pooling))
        enough(self.examples)

    @property
    def tokens(self) -> int:
        """Rows per person."""
        return {"mean": 1, "pairs": self.examples}[self.pooling]

    def check(self, people: Sequence[Sequence[Example]]) -> None:
        """Refuse people there are no rows for.

        Raises:
            DataError: when somebody has no example, or more than there are rows for.
        """
        checked(people, {"mean": None, "pairs": self.examples}[self.pooling])

    def of(
        self, people: Sequence[Float[Tensor, " _ width"]], width: int
    ) -> Float[Tensor, " n tokens width"]:
        """One embedding per person, from one row per example of each."""
        found = torch.zeros(len(people), self.tokens, width)
        for place, rows in enumerate(people):
            mine = scaled(_POOLINGS[self.pooling](rows))
            found[place, : len(mine)] = mine
        return found


def enough(examples: int) -> None:
    """Refuse an encoder that is to make something of nothing.

    Raises:
        SettingError: when `examples` is less than one.
    """
    require(examples >= 1, got=f"examples={examples}", need="at least 1", fix="Take 4.")
