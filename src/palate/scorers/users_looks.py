r"""What somebody likes, told from plain numbers of the pictures: no model, nothing to download.

For one example, with the numbers s of a picture (see `picture_statistics.py`) and the typical
spread of each,

$$v = \tanh\frac{s(\text{chosen}) - s(\text{rejected})}{\text{spread}}.$$

The tanh keeps one large difference from drowning all others: where a difference is far beyond
what is typical, as between photographs, only its sign is left. Captions are not read, so a taste
for what is shown, rather than for how, cannot be told.

Read next: `users.py`, what an embedding is; `users_clip.py`, which sees more.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.files import digest_json
from palate.core.problems import require, unknown
from palate.scorers.picture_statistics import STATISTICS, statistics
from palate.scorers.users import Example, Remembered, checked, filled, in_order, scaled

Pooling = Literal["mean", "pairs"]
# Part of the identity: raised when the same pictures would give other numbers.
_ARITHMETIC = 1


def mean_of(rows: Float[Tensor, " examples width"]) -> Float[Tensor, " 1 width"]:
    """One row for all examples."""
    return rows.mean(0, keepdim=True)


def each_of(rows: Float[Tensor, " examples width"]) -> Float[Tensor, " examples width"]:
    """One row for every example."""
    return rows


# What is made of one row per example; either way nothing hangs on the examples' order.
POOLINGS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = MappingProxyType(
    {"mean": mean_of, "pairs": each_of}
)


@final
class LooksUsers:
    """User embeddings of plain picture statistics.

    Args:
        pooling: `mean` for one row, the mean over the examples; `pairs` for one per example.
        examples: How many examples a person may have with `pairs`, which is its number of rows.
            The mean takes any number.

    Raises:
        SettingError: for an unknown pooling, or fewer than one example.
    """

    def __init__(self, *, pooling: Pooling = "mean", examples: int = 4) -> None:
        if pooling not in get_args(Pooling):
            raise unknown("pooling", pooling, get_args(Pooling))
        require(examples >= 1, got=f"examples={examples}", need="at least 1", fix="Take 4.")
        self.name = "looks"
        self.width = len(STATISTICS)
        self.tokens = {"mean": 1, "pairs": examples}[pooling]
        self.about: Mapping[str, Any] = {
            "encoder": "looks",
            "pooling": pooling,
            "tokens": self.tokens,
            "width": self.width,
            "statistics": dict(STATISTICS),
            "arithmetic": _ARITHMETIC,
        }
        self.identity = digest_json(self.about)
        self._room = {"mean": None, "pairs": examples}[pooling]
        self._pool = POOLINGS[pooling]
        self._spread = torch.tensor(list(STATISTICS.values()), dtype=torch.float64)
        self._known = Remembered()

    def embed(self, people: Sequence[Sequence[Example]]) -> Float[Tensor, " n tokens width"]:
        """One embedding per person, float32; equal pictures say nothing and give a row of zeros.

        Raises:
            DataError: when somebody has no example, or more than there are rows for.
        """
        checked(people, self._room)
        rows = [self._pool(self._rows(in_order(mine))) for mine in people]
        empty = torch.zeros(0, self.tokens, self.width)
        return torch.cat([empty, *(filled(scaled(each), self.tokens)[None] for each in rows)])

    def _rows(self, mine: Sequence[Example]) -> Float[Tensor, " examples width"]:
        """One row per example, in float64."""
        chosen = self._known.of([example.chosen for example in mine], _looked)
        rejected = self._known.of([example.rejected for example in mine], _looked)
        return torch.tanh((chosen - rejected) / self._spread)


def _looked(images: Sequence[np.ndarray]) -> Float[Tensor, " n width"]:
    return torch.from_numpy(np.stack([statistics(image) for image in images]))
