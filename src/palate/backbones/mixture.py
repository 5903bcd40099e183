"""Trained weights added up on the network they were trained from.

What training changed is a difference of weights, and differences can be scaled and added: all of
one is that training itself, part of it is a step towards it, and two are both at once.

Read next: `policy.py`, which opens a network with a mixture on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from palate.core.problems import SettingError, WeightsError, require

Weights = Mapping[str, Tensor]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The base and shares of what trainings changed: base + Σ share · (trained − base).

    Attributes:
        parts: Exports or LoRA files, each with its share.
    """

    parts: tuple[tuple[Path, float], ...]

    def __post_init__(self) -> None:
        require(
            bool(self.parts) and all(abs(share) <= 10 for _, share in self.parts),
            got=f"a mixture with shares {[share for _, share in self.parts]}",
            need="at least one training, with shares of -10 to 10",
            fix="Use 1 for the whole of a training, 0.5 for half of it.",
            kind=SettingError,
        )

    @classmethod
    def whole(cls, weights: Path) -> "Mixture":
        """One training, folded into the network it was trained from."""
        return cls(parts=((weights, 1.0),))


def mixed(base: Weights, trained: Sequence[tuple[Weights, float]]) -> dict[str, Tensor]:
    """Base + Σ share · (trained − base), weight by weight.

    The sum is taken in float64, as (1 − Σ share) · base + Σ share · trained, so that a single
    training with share 1 comes out to the bit.

    Raises:
        WeightsError: when a training has other weights than the base.
    """
    for weights, _ in trained:
        wrong = sorted(set(base) ^ set(weights))
        require(
            not wrong,
            got=f"{len(wrong)} weights that only one of two networks has ({', '.join(wrong[:3])})",
            need="trainings of one and the same base",
            fix="Mix what was trained from the same model.",
            kind=WeightsError,
        )
    rest = 1.0 - sum(share for _, share in trained)
    return {name: _sum(base, trained, name, rest) for name in base}


def _sum(base: Weights, trained: Sequence[tuple[Weights, float]], name: str, rest: float) -> Tensor:
    total = rest * base[name].double()
    for weights, share in trained:
        total = total + share * weights[name].double()
    return total.to(torch.promote_types(base[name].dtype, torch.float32))
