"""One picture of many, each with its caption underneath."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_LETTER, _LINE, _GAP, _INK = 6, 14, 8, (40, 40, 40)


def grid(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], *, columns: int, side: int = 192
) -> Image.Image:
    """Pictures in rows, small ones enlarged to `side` pixels without smoothing.

    Args:
        images: uint8 [height, width, 3] each.
        captions: One line of text per picture; wrapped where it is too long.
        columns: Pictures in a row.
        side: Width and height of a picture in the grid, in pixels.
    """
    lines = [wrap(caption, (side + _GAP) // _LETTER)[:4] for caption in captions]
    height = side + _LINE * max(map(len, lines)) + _GAP
    rows = -(-len(images) // columns)
    page = Image.new(
        "RGB", (columns * (side + _GAP) + _GAP, rows * (height + _GAP) + _GAP), (255, 255, 255)
    )
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for place, (image, text) in enumerate(zip(images, lines, strict=True)):
        x = _GAP + (place % columns) * (side + _GAP)
        y = _GAP + (place // columns) * (height + _GAP)
        how = Image.Resampling.NEAREST if image.shape[0] <= side else Image.Resampling.LANCZOS
        page.paste(Image.fromarray(image).resize((side, side), how), (x, y))
        for number, line in enumerate(text):
            pen.text((x, y + side + 2 + _LINE * number), line, fill=_INK, font=font)
    return page
