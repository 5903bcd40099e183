"""Named random streams: a draw depends on its name, never on what was drawn before.

`Streams(seed)("noise", step, pair_id)` is the same stream on every machine, in every order of
calls and after every interruption. Resuming, re-batching or adding a draw somewhere else
therefore changes nothing here, and there is no generator state to save.

Draws are made on the CPU in float32 or float64 and moved afterwards, so that a run on another
device sees the same numbers.
"""

import hashlib
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

Key = int | str


@final
@dataclass(frozen=True, slots=True)
class Stream:
    """One named source of random numbers. Asking twice gives the same answer.

    Attributes:
        seed: A 63-bit integer derived from the run seed and the stream's name.
    """

    seed: int

    def generator(self) -> torch.Generator:
        """A fresh torch generator at the start of this stream."""
        return torch.Generator().manual_seed(self.seed)

    def numpy(self) -> np.random.Generator:
        """A fresh numpy generator at the start of this stream."""
        return np.random.Generator(np.random.PCG64(self.seed))

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers of the given shape, on the CPU."""
        return torch.randn(shape, generator=self.generator(), dtype=dtype)

    def uniform(self) -> float:
        """One number in [0, 1)."""
        return float(torch.rand((), generator=self.generator(), dtype=torch.float64))

    def integer(self, low: int, high: int) -> int:
        """One integer in [low, high)."""
        return int(torch.randint(low, high, (), generator=self.generator()))

    def permutation(self, n: int) -> list[int]:
        """The numbers 0 … n-1 in random order."""
        return torch.randperm(n, generator=self.generator()).tolist()


@final
@dataclass(frozen=True, slots=True)
class Streams:
    """All random streams of one run.

    Attributes:
        seed: The run's seed.
    """

    seed: int

    def __call__(self, purpose: str, *keys: Key) -> Stream:
        """The stream for a purpose, told apart from others by its keys (step, pair id, …)."""
        parts = [f"i{self.seed}", f"s{purpose}"]
        parts += [f"i{key}" if isinstance(key, int) else f"s{key}" for key in keys]
        # Lengths make the encoding unambiguous: ("a", "bc") is never ("ab", "c").
        text = "".join(f"{len(part)}:{part}" for part in parts)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return Stream(int.from_bytes(digest, "big") >> 1)
