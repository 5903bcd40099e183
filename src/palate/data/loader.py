"""Which pairs belong to which step: a function of the seed and the step, with nothing to save.

Training walks through an endless row of epochs, each a keyed permutation of all pairs. Step s
with batch b takes positions s*b to s*b + b - 1 of that row, so a resumed run needs only its step
number, and a batch may reach from one epoch into the next without losing or repeating a pair.

Where a few users made most pairs, `ByUser` draws users evenly instead, each with their own pairs in
turn.
"""

from collections.abc import Sequence
from typing import Protocol, final

from palate.core.problems import require
from palate.core.streams import Streams


class Visiting(Protocol):
    """What training walks through: a function of the step, endless, with nothing to save."""

    @property
    def size(self) -> int:
        """How many pairs there are."""
        ...

    @property
    def batch(self) -> int:
        """Pairs per optimizer step."""
        ...

    @property
    def seed(self) -> int:
        """The run's seed."""
        ...

    def indices(self, step: int) -> list[int]:
        """The pairs of one step, counted from 0."""
        ...

    def visits(self, step: int) -> list[int]:
        """For each pair of a step, how often it was visited before."""
        ...


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


@final
class ByUser:
    """An order in which every user comes equally often, however many pairs are theirs.

    An endless row of rounds, each a keyed permutation of all users. The r-th time a user comes,
    they show the next pair of a row of their own: endless keyed permutations of their pairs. So
    each pair of somebody with few pairs is visited often, and a visit is counted by user.

    Args:
        users: Whose each pair is, pair by pair.
        batch: Pairs per optimizer step.
        seed: The run's seed.

    Raises:
        SettingError: when there is no pair, or the batch is not positive.
    """

    def __init__(self, users: Sequence[str], batch: int, seed: int) -> None:
        for name, value in (("size", len(users)), ("batch", batch)):
            require(
                value > 0,
                got=f"{name}={value}",
                need=f"{name} of at least 1",
                fix="Check that the data set is not empty and the batch is positive.",
            )
        self.size = len(users)
        self.batch = batch
        self.seed = seed
        self._pairs: dict[str, list[int]] = {user: [] for user in sorted(set(users))}
        for index, user in enumerate(users):
            self._pairs[user].append(index)
        self._users = list(self._pairs)
        # Caches, not state: the round, and by user the visit, that were last asked for.
        self._round: tuple[int, list[int]] = (-1, [])
        self._visit: dict[str, tuple[int, list[int]]] = {}

    def indices(self, step: int) -> list[int]:
        """The pairs of one step, counted from 0."""
        return [self._at(position)[0] for position in self._positions(step)]

    def visits(self, step: int) -> list[int]:
        """For each pair of a step, how often its user has shown all of theirs before."""
        return [self._at(position)[1] for position in self._positions(step)]

    def _positions(self, step: int) -> range:
        require(step >= 0, got=f"step={step}", need="a step from 0 on", fix="Count steps from 0.")
        return range(step * self.batch, (step + 1) * self.batch)

    def _at(self, position: int) -> tuple[int, int]:
        """The pair at a place of the row, and its visit."""
        turn, place = divmod(position, len(self._users))
        if self._round[0] != turn:
            permutation = Streams(self.seed)("users", turn).permutation(len(self._users))
            self._round = (turn, permutation)
        user = self._users[self._round[1][place]]
        pairs = self._pairs[user]
        # Everybody comes once a round: the round is how often this user came before.
        visit, rank = divmod(turn, len(pairs))
        known = self._visit.get(user, (-1, []))
        if known[0] != visit:
            order = Streams(self.seed)("user's order", user, visit).permutation(len(pairs))
            known = self._visit[user] = (visit, order)
        return pairs[known[1][rank]], visit
