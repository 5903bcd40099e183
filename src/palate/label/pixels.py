"""Pictures as a labeler shows them: empty ones, and ones that travel as text.

Read next: `endpoint.py`, which sends them.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GREY = 128


def grey_like(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An empty grey picture of the same size."""
    return np.full_like(pixels, _GREY)


def data_url(pixels: NDArray[np.uint8]) -> str:
    """The picture as a PNG inside an address, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
