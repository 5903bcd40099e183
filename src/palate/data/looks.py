"""Plain measures of a picture by which a judge may be led: brightness, colour, contrast, size."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

Look = Callable[[NDArray[np.uint8]], float]
# How much red, green and blue add to brightness (ITU-R BT.601).
_BRIGHTNESS = np.array((0.299, 0.587, 0.114))


def brightness(image: NDArray[np.uint8]) -> float:
    """Mean brightness, from 0 to 255."""
    return float((image @ _BRIGHTNESS).mean())


def colourfulness(image: NDArray[np.uint8]) -> float:
    """Mean distance of the strongest colour from the weakest, from 0 (grey) to 255."""
    return float((image.max(-1).astype(np.float64) - image.min(-1)).mean())


def contrast(image: NDArray[np.uint8]) -> float:
    """Standard deviation of brightness within the picture."""
    return float((image @ _BRIGHTNESS).std())


def size(image: NDArray[np.uint8]) -> float:
    """How many pixels it has."""
    return float(image.shape[0] * image.shape[1])


# By the word that says which of two pictures has more of it.
LOOKS: Final[Mapping[str, Look]] = MappingProxyType(
    {
        "brighter": brightness,
        "more colourful": colourfulness,
        "of more contrast": contrast,
        "larger": size,
    }
)
