"""The small world's true reward, as a scorer that evaluation can ask like any other."""

from collections.abc import Sequence
from functools import lru_cache
from typing import final

import numpy as np
from numpy.typing import NDArray

from palate import __version__
from palate.world.reward import MAJORITY, Taste, parts, weigh


@final
class TrueReward:
    """Pictures and captions of the small world → their exact reward, in logit units.

    Args:
        taste: Whose reward; the majority's unless told otherwise.
        name: What reports call it.
    """

    def __init__(self, taste: Taste = MAJORITY, name: str = "true reward") -> None:
        self.taste = taste
        self.name = name
        self.identity = f"palate {__version__} world {taste}"

    def score(
        self, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> NDArray[np.float64]:
        """The reward of each picture, float64 [n].

        Raises:
            DataError: when a prompt is no caption of the small world.
        """
        return np.array([weigh(one, self.taste) for one in _measured(images, prompts)])


@final
class RewardPart:
    """One part of the true reward on its own, in [0, 1]: to see what changed, not only that.

    Args:
        part: Name of the part, such as `fidelity` or `vividness`.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.name = part
        self.identity = f"palate {__version__} world part {part}"

    def score(
        self, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> NDArray[np.float64]:
        """The part of each picture, float64 [n]."""
        return np.array([one[self.part] for one in _measured(images, prompts)])


def _measured(
    images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
) -> list[dict[str, float]]:
    """The parts of each picture. Several scorers ask about the same ones: each is measured once."""
    return [
        _parts(image.tobytes(), image.shape, text)
        for image, text in zip(images, prompts, strict=True)
    ]


@lru_cache(maxsize=2048)
def _parts(pixels: bytes, shape: tuple[int, ...], caption: str) -> dict[str, float]:
    return parts(np.frombuffer(pixels, np.uint8).reshape(shape), caption)
