r"""What somebody likes, told from plain numbers of the pictures: no model, nothing to download.

For one example, with the numbers s of a picture (see `picture_statistics.py`) and the typical
spread of each,

$$v = \tanh\frac{s(\text{chosen}) - s(\text{rejected})}{\text{spread}}.$$

The tanh keeps one large difference from drowning all others: where a difference is far beyond
what is typical, as between photographs, only its sign is left. Captions are not read, so a taste
for what is shown, rather than for how, cannot be told.

Read next: `users.py`, what an embedding is; `users_clip.py`, which sees more.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.files import digest_json
from palate.scorers.picture_statistics import STATISTICS, statistics
from palate.scorers.users import Example, Remembered, in_order
from palate.scorers.users_pooled import Pool, Pooling

# Part of the identity: raised when the same pictures would give other numbers.
_ARITHMETIC = 1


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
        self._pool = Pool(pooling, examples)
        self.name = "looks"
        self.width = len(STATISTICS)
        self.tokens = self._pool.tokens
        self.about: Mapping[str, Any] = {
            "encoder": "looks",
            "pooling": pooling,
            "tokens": self.tokens,
            "width": self.width,
            "statistics": dict(STATISTICS),
            "arithmetic": _ARITHMETIC,
        }
        self.identity = digest_json(self.about)
        self._spread = torch.tensor(list(STATISTICS.values()), dtype=torch.float64)
        self._known = Remembered()

    def embed(self, people: Sequence[Sequence[Example]]) -> Float[Tensor, " n tokens width"]:
        """One embedding per person, float32; equal pictures say nothing and give a row of zeros.

        Raises:
            DataError: when somebody has no example, or more than there are rows for.
        """
        self._pool.check(people)
        return self._pool.of([self.differences(in_order(mine)) for mine in people], self.width)

    def differences(self, examples: Sequence[Example]) -> Float[Tensor, " n width"]:
        """One row per example, in their order, in float64 and not scaled."""
        chosen = self._known.of([example.chosen for example in examples], _looked)
        rejected = self._known.of([example.rejected for example in examples], _looked)
        return torch.tanh((chosen - rejected) / self._spread)


def _looked(images: Sequence[np.ndarray]) -> Float[Tensor, " n width"]:
    return torch.from_numpy(np.stack([statistics(image) for image in images]))
