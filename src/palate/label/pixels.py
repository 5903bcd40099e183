"""Pictures as a vision model is shown them: our own pixels, made smaller at most.

Read next: `endpoint.py`, which sends them.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GREY = 128


def fitted(pixels: NDArray[np.uint8], largest_side: int | None) -> NDArray[np.uint8]:
    """The picture, uint8 [height, width, 3], with no side above a bound; never made larger."""
    height, width = pixels.shape[:2]
    if largest_side is None or max(height, width) <= largest_side:
        return pixels
    scale = largest_side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def grey_like(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An empty grey picture of the same size."""
    return np.full_like(pixels, _GREY)


def data_url(pixels: NDArray[np.uint8]) -> str:
    """The picture as a PNG inside an address, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
