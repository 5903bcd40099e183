"""What a scorer is: pictures and prompts in, one number each out, higher is better."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float64, UInt8


class Scorer(Protocol):
    """A deterministic opinion on pictures, each with its prompt."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def identity(self) -> str:
        """Digest of everything its numbers depend on: weights, settings, its own arithmetic."""
        ...

    def score(
        self, images: Sequence[UInt8[np.ndarray, " _ _ 3"]], prompts: Sequence[str]
    ) -> Float64[np.ndarray, " n"]:
        """One number for each picture with its prompt.

        Raises:
            DataError: when pictures and prompts differ in number, or a picture in form.
        """
        ...
