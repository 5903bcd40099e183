"""A picture in some thirty plain numbers: its light, colour, detail, and how it is laid out.

Nothing here is learned and nothing knows what a picture shows. Light is ITU-R BT.709's weighted
sum; colour is two opponent axes, red against green and yellow against blue, as in Hasler and
Süsstrunk's colourfulness (2003). What differs from the colour of the picture's rim is called
figure; its connected patches are parts when they cover a hundredth of the picture or more,
and specks when they cover less.

Read next: `users_looks.py`, which tells from these numbers what somebody likes.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Array = NDArray[np.float64]
# Name → how far two pictures of one prompt typically lie apart in it: the root mean square over
# the first 500 pairs that ship with the package, rounded. On other pictures the spreads are others;
# they only say how much of one counts as much as how much of another.
STATISTICS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "light": 0.0056,
        "light spread": 0.007,
        "shadow": 0.026,
        "highlight": 0.022,
        "chroma": 0.014,
        "strongest chroma": 0.088,
        "red against green": 0.0066,
        "yellow against blue": 0.0066,
        "red-green spread": 0.021,
        "yellow-blue spread": 0.022,
        "one hue": 0.078,
        "fine detail": 0.0021,
        "middle detail": 0.0052,
        "coarse detail": 0.0045,
        "sharpness": 0.029,
        "edges": 0.015,
        "figure": 0.019,
        "figure chroma": 0.066,
        "figure contrast": 0.039,
        "parts": 0.19,
        "part size": 0.035,
        "specks": 0.012,
        "speck count": 0.61,
        "across": 0.036,
        "down": 0.04,
        "off centre": 0.035,
        "scatter": 0.063,
        "lopsided": 0.15,
        "top-heavy": 0.13,
        "off the quarters": 0.029,
        "off the thirds": 0.026,
    }
)
# The longer side is made this small first, so that the numbers mean the same at every size.
_SIDE = 64
_LIGHT = np.array((0.2126, 0.7152, 0.0722))
_RIM, _PART = 2, 1 / 100
# Distance from the rim's colour, of √3 at most, where figure begins and where it is beyond doubt.
_BEGINS, _SURE = 0.06, 0.14
_EDGE = 0.08


def statistics(image: UInt8[np.ndarray, " _ _ 3"]) -> Float64[np.ndarray, " statistics"]:
    """The numbers of one picture, in the order of `STATISTICS` and in its units.

    Places are in shares of the longer side, from the picture's middle; values are of a range of 1;
    counts are logarithms of one more.
    """
    rgb = _shrunk(image)
    light = rgb @ _LIGHT
    colours = np.stack([rgb[..., 0] - rgb[..., 1], rgb[..., :2].mean(-1) - rgb[..., 2]], axis=-1)
    found = [*_light(light), *_colour(colours), *_detail(light), *_layout(rgb, colours)]
    return np.array(found, dtype=np.float64)


def _shrunk(image: NDArray[np.uint8]) -> Array:
    """RGB between 0 and 1, the longer side 64 pixels."""
    height, width = image.shape[:2]
    longer = max(height, width)
    size = (max(1, round(width * _SIDE / longer)), max(1, round(height * _SIDE / longer)))
    if size != (width, height):
        small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
        image = np.asarray(small)
    return image.astype(np.float64) / 255


def _light(light: Array) -> Iterator[float]:
    yield float(light.mean())
    yield float(light.std())
    yield float(np.quantile(light, 0.05))
    yield float(np.quantile(light, 0.95))


def _colour(colours: Array) -> Iterator[float]:
    chroma = np.linalg.norm(colours, axis=-1)
    yield float(chroma.mean())
    yield float(np.quantile(chroma, 0.95))
    yield from colours.mean((0, 1)).tolist()
    yield from colours.std((0, 1)).tolist()
    # 1 when every coloured pixel has one hue, 0 when hues cancel.
    yield float(np.linalg.norm(colours.sum((0, 1))) / max(float(chroma.sum()), 1e-9))


def _detail(light: Array) -> Iterator[float]:
    """How much the light changes over one, a few and many pixels, and how sharply."""
    near, far = (ndimage.gaussian_filter(light, width) for width in (1.0, 4.0))
    fine, middle, coarse = (float(part.std()) for part in (light - near, near - far, far))
    yield from (fine, middle, coarse)
    # Of what changes within a few pixels, the share that changes within one.
    yield fine / max(float(np.hypot(fine, middle)), 1e-9)
    steps = np.hypot(ndimage.sobel(light, 0), ndimage.sobel(light, 1)) / 8
    yield float((steps > _EDGE).mean())


def _layout(rgb: Array, colours: Array) -> Iterator[float]:
    """The figure, its parts and specks, and where the parts stand."""
    cover = _figure(rgb)
    total = max(float(cover.sum()), 1e-9)
    chroma, distance = np.linalg.norm(colours, axis=-1), np.linalg.norm(rgb - _ground(rgb), axis=-1)
    yield float(cover.mean())
    yield float((cover * chroma).sum()) / total
    yield float((cover * distance).sum()) / total
    parts, specks, centres = _patches(cover)
    yield float(np.log1p(len(parts)))
    yield float(np.sqrt(parts.mean())) if len(parts) else 0.0
    yield float(specks.sum())
    yield float(np.log1p(len(specks)))
    yield from _places(cover, parts, centres)


def _ground(rgb: Array) -> Array:
    """The colour of the rim, [3]: the median over its pixels."""
    inner = np.zeros(rgb.shape[:2], dtype=bool)
    inner[_RIM:-_RIM, _RIM:-_RIM] = True
    return np.median(rgb[~inner], axis=0)


def _figure(rgb: Array) -> Array:
    """How surely each pixel is figure, 0 to 1."""
    distance = np.linalg.norm(rgb - _ground(rgb), axis=-1)
    return np.clip((distance - _BEGINS) / (_SURE - _BEGINS), 0.0, 1.0)


def _patches(cover: Array) -> tuple[Array, Array, Array]:
    """Sizes of parts and of specks, as shares of the picture, and the parts' centres [parts, 2]."""
    found: Any = ndimage.label(cover > 0.5)
    labels, count = found
    names = np.arange(1, count + 1)
    sizes = np.asarray(ndimage.sum_labels(cover, labels, names)) / cover.size
    large = sizes >= _PART
    middle = (np.array(cover.shape) - 1) / 2
    where = ndimage.center_of_mass(cover, labels, names[large])
    centres = (np.array(where).reshape(-1, 2) - middle) / max(cover.shape)
    return sizes[large], sizes[~large], centres


def _places(cover: Array, parts: Array, centres: Array) -> Iterator[float]:
    """Where the figure stands, how scattered and even it is, and whether parts stand on a grid."""
    share = parts / parts.sum() if len(parts) else parts
    mean = share @ centres if len(parts) else np.zeros(2)
    yield from (float(mean[1]), float(mean[0]), float(np.linalg.norm(mean)))
    yield float(np.sqrt(share @ np.square(centres - mean).sum(1))) if len(parts) else 0.0
    total = max(2 * float(cover.sum()), 1e-9)
    yield float(np.abs(cover - cover[:, ::-1]).sum()) / total
    yield float(np.abs(cover - cover[::-1]).sum()) / total
    yield _off(centres, 0.0, 4)
    yield _off(centres, 1 / 6, 3)


def _off(centres: Array, first: float, lines: int) -> float:
    """How far parts stand from the nearest crossing of a grid's lines, on average."""
    if not len(centres):
        return 0.0
    gaps = centres - first
    return float(np.linalg.norm(gaps - np.round(gaps * lines) / lines, axis=1).mean())
