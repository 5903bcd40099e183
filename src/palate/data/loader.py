"""Which pairs belong to which step: a function of the seed and the step, with nothing to save.

Training walks through an endless row of epochs, each a keyed permutation of all pairs. Step s
with batch b takes positions s*b to s*b + b - 1 of that row, so a resumed run needs only its step
number, and a batch may reach from one epoch into the next without losing or repeating a pair.
"""

from typing import final

from palate.core.problems import require
from palate.core.streams import Streams


@final
class Order:
    """The order in which pairs are visited.

    Args:
        size: How many pairs there are.
        batch: Pairs per optimizer step.
        seed: The run's seed.

    Raises:
        SettingError: when size or batch is not positive.
    """

    def __init__(self, size: int, batch: int, seed: int) -> None:
        for name, value in (("size", size), ("batch", batch)):
            require(
                value > 0,
                got=f"{name}={value}",
                need=f"{name} of at least 1",
                fix="Check that the data set is not empty and the batch is positive.",
            )
        self.size = size
        self.batch = batch
        self.seed = seed
        # A cache, not state: the permutation of the epoch that was last asked for.
        self._cached: tuple[int, list[int]] = (-1, [])

    def indices(self, step: int) -> list[int]:
        """The pairs of one step, counted from 0."""
        require(step >= 0, got=f"step={step}", need="a step from 0 on", fix="Count steps from 0.")
        first = step * self.batch
        return [self._at(position) for position in range(first, first + self.batch)]

    def visits(self, step: int) -> list[int]:
        """For each pair of a step, the epoch it is visited in: tells repeated visits apart."""
        first = step * self.batch
        return [position // self.size for position in range(first, first + self.batch)]

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self.size)
        if self._cached[0] != epoch:
            permutation = Streams(self.seed)("order", epoch).permutation(self.size)
            self._cached = (epoch, permutation)
        return self._cached[1][place]
