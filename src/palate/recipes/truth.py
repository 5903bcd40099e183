"""The small world's true reward, as a scorer that evaluation can ask like any other."""

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from palate import __version__
from palate.world import MAJORITY, Taste, parts, rewards


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
        return rewards(list(images), list(prompts), self.taste)


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
        found = [parts(image, text)[self.part] for image, text in zip(images, prompts, strict=True)]
        return np.array(found, dtype=np.float64)
