"""Slow and fast averages of the weights being trained, which can be asked like the policy.

They are kept in float32: at a decay of 0.9999 an update is smaller than half precision can add.

Read next: `palate/objectives/annotators.py`, who asks them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import final

import torch
from torch import Tensor, nn

from palate.core.problems import StateError, require

_PREFIX = "average"


@final
class Averages:
    """Exponential moving averages of the same weights, one per decay."""

    def __init__(self, weights: Mapping[str, nn.Parameter], decays: Sequence[float]) -> None:
        """Start as copies of the weights; the first update copies them once more.

        Args:
            weights: The weights being trained, float32.
            decays: How much of itself each average keeps at an update, in [0, 1).
        """
        self._weights = weights
        self._decays = tuple(decays)
        self._kept = [
            {name: weight.detach().clone() for name, weight in weights.items()} for _ in decays
        ]
        self._updates = 0

    def voices(self) -> list[AbstractContextManager[None]]:
        """One context per average; inside, the model speaks with its weights."""
        return [self._speaking(kept) for kept in self._kept]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights in, once per optimizer step; the first time, copy them."""
        for decay, kept in zip(self._decays, self._kept, strict=True):
            share = 1 - decay if self._updates else 1.0
            for name, weight in self._weights.items():
                kept[name].lerp_(weight, share)
        self._updates += 1

    def state(self) -> dict[str, Tensor]:
        """The averages as named tensors, with the number of updates; empty where there are none."""
        if not self._kept:
            return {}
        found = {
            f"{_PREFIX}.{number}.{name}": tensor
            for number, kept in enumerate(self._kept)
            for name, tensor in kept.items()
        }
        return {**found, f"{_PREFIX}.updates": torch.tensor(self._updates)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put the averages back; returns the tensors that are not theirs.

        Raises:
            StateError: when names differ from those of this run.
        """
        mine = {name: value for name, value in tensors.items() if name.startswith(f"{_PREFIX}.")}
        require(
            set(mine) == set(self.state()),
            got=f"a checkpoint with {len(mine)} tensors of averages",
            need=f"{len(self.state())}",
            fix="Resume with the objective the run was started with.",
            kind=StateError,
        )
        with torch.no_grad():
            for number, kept in enumerate(self._kept):
                for name, tensor in kept.items():
                    tensor.copy_(mine[f"{_PREFIX}.{number}.{name}"])
        if self._kept:
            self._updates = int(mine[f"{_PREFIX}.updates"])
        return {name: value for name, value in tensors.items() if name not in mine}

    @contextmanager
    def _speaking(self, kept: Mapping[str, Tensor]) -> Iterator[None]:
        """Lend the average's values to the network, and give it its own back."""
        own = {name: weight.data for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            weight.data = kept[name]
        try:
            yield
        finally:
            for name, weight in self._weights.items():
                weight.data = own[name]
