"""Pictures as a vision model is shown them: our own pixels, made smaller at most."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def fitted(pixels: NDArray[np.uint8], largest_side: int | None) -> NDArray[np.uint8]:
    """The picture, uint8 [height, width, 3], with no side above a bound; never made larger."""
    height, width = pixels.shape[:2]
    if largest_side is None or max(height, width) <= largest_side:
        return pixels
    scale = largest_side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
