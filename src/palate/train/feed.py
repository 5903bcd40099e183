"""Where batches come from, step by step: frozen pairs in a keyed order.

A feed is asked for the batch of a step and nothing else, so a resumed run gets the same ones.
`rollout.py` has the other kind, whose pictures the policy draws itself.
"""

from dataclasses import dataclass
from typing import Any, Protocol, final

from palate.core.problems import HealthStop
from palate.data.loader import ByUser, Order
from palate.data.pairs import Pair, PreferencePairs
from palate.train.batch import Batch, Batches, Rows
from palate.train.guard import Guard


class Feed(Protocol):
    """The batch of each step, as a function of the step, and for rollouts of the weights."""

    def batch(self, number: int) -> Rows:
        """The pairs of a step, counted from 0; those in quarantine are left out."""
        ...

    def dropped(self, number: int) -> list[str]:
        """Ids of the pairs of a step that are in quarantine."""
        ...

    def told(self, number: int) -> dict[str, Any]:
        """What the log should say of how a step's batch came about."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PairFeed:
    """Frozen pairs, in an order of their own in each pass through the data.

    Attributes:
        pairs: The training pairs.
        order: Which of them belong to which step.
        batches: Makes batches from cached rows.
        guard: Knows which pairs are in quarantine.
    """

    pairs: PreferencePairs
    order: Order | ByUser
    batches: Batches
    guard: Guard

    def batch(self, number: int) -> Batch:
        """The pairs of a step that are not in quarantine.

        Raises:
            HealthStop: when every pair there is, is in quarantine.
        """
        known = [
            (self.pairs[index], visit)
            for index, visit in zip(
                self.order.indices(number), self.order.visits(number), strict=True
            )
            if self.pairs[index].id not in self.guard.quarantine
        ]
        if not known:
            # An empty batch has no shape to build from, so any pair lends it one.
            return self.batches([self._any_pair()], [0]).rows([])
        return self.batches([pair for pair, _ in known], [visit for _, visit in known])

    def dropped(self, number: int) -> list[str]:
        """Ids of the pairs of a step that are in quarantine."""
        ids = [self.pairs[index].id for index in self.order.indices(number)]
        return [name for name in ids if name in self.guard.quarantine]

    def told(self, number: int) -> dict[str, Any]:
        """Nothing: frozen pairs are what they were."""
        del number
        return {}

    def _any_pair(self) -> Pair:
        for pair in self.pairs:
            if pair.id not in self.guard.quarantine:
                return pair
        raise HealthStop(
            got="no training pair with finite latents and embeddings",
            need="at least one",
            fix="Look at quarantine.jsonl in the run folder; is the autoencoder sound?",
        )
