"""One picture of many: a grid with captions, and a strip that slides from one thing to another."""

from collections.abc import Sequence
from textwrap import shorten, wrap

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
        page.paste(_sized(image, side), (x, y))
        for number, line in enumerate(text):
            pen.text((x, y + side + 2 + _LINE * number), line, fill=_INK, font=font)
    return page


def strip(
    images: Sequence[Sequence[NDArray[np.uint8]]],
    captions: Sequence[str],
    labels: Sequence[str],
    *,
    side: int = 192,
) -> Image.Image:
    """A table of pictures: what a row shows is written under it, what a column is above it.

    Args:
        images: For each row, one uint8 [height, width, 3] per column.
        captions: One line of text per row; cut where it is wider than the row.
        labels: One short text per column.
        side: Width and height of a picture in the strip, in pixels.
    """
    wide, high = side + _GAP, side + _LINE + _GAP
    page = Image.new(
        "RGB",
        (len(labels) * wide + _GAP, len(captions) * high + _LINE + 2 * _GAP),
        (255, 255, 255),
    )
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for column, label in enumerate(labels):
        middle = _GAP + column * wide + side // 2
        pen.text((middle, _GAP), label, fill=_INK, font=font, anchor="ma")
    for row, (pictures, caption) in enumerate(zip(images, captions, strict=True)):
        y = _LINE + 2 * _GAP + row * high
        for column, picture in enumerate(pictures):
            page.paste(_sized(picture, side), (_GAP + column * wide, y))
        text = shorten(caption, max(len(labels) * wide // _LETTER, 1), placeholder=" …")
        pen.text((_GAP, y + side + 2), text, fill=_INK, font=font)
    return page


def _sized(image: NDArray[np.uint8], side: int) -> Image.Image:
    """A picture as a square; small ones are enlarged without smoothing."""
    how = Image.Resampling.NEAREST if image.shape[0] <= side else Image.Resampling.LANCZOS
    return Image.fromarray(image).resize((side, side), how)
