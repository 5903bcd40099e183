"""How each picture looks, in a few numbers: enough to find copies, and what winners share.

Two pictures are copies to the eye when their shapes of light and dark are the same and so are
their colours, coarsely. Light is compared with its mean taken out, because copies are often a
little brighter; colours more coarsely, because JPEG files keep them coarsely.

Read next: `checks/t002_near_duplicate_pairs.py`, which looks for copies among all pictures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import KDTree

Array = NDArray[np.float64]
TRAITS: Final = (
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "complexity",
    "resolution",
    "aspect",
)
# Root mean square differences, of a range of 1. At 64 pixels a side a JPEG copy of quality 40 is
# 0.0053 away at most and of quality 70 0.0033; of 2,000 pairs of different pictures the small
# model drew for one prompt none is nearer than 0.0075. A picture made 5 % brighter shifts all
# colours by 0.043 at most.
SAME_LIGHT: Final = 0.006
SAME_COLOUR: Final = 0.045
_LIGHT, _COLOUR, _DIRECTIONS = 16, 4, 8


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """How some pictures look.

    Attributes:
        places: Digest of a picture → its row in the arrays.
        light: [pictures, 256] grey values of 16 × 16 fields, mean taken out, range 1.
        colour: [pictures, 48] red, green, blue of 4 × 4 fields, range 1.
        traits: [pictures, 7] one column per name in `TRAITS`: mean light; its standard
            deviation; mean distance of the largest from the smallest colour channel; mean step
            of light between neighbours; bytes of its PNG file per pixel; logarithm of the
            number of pixels; logarithm of width by height.
    """

    places: Mapping[str, int]
    light: NDArray[np.float32]
    colour: NDArray[np.float32]
    traits: Array

    def trait(self, sha256: str) -> Array:
        """A picture's traits, [7]."""
        return self.traits[self.places[sha256]]

    def same(self, one: str, other: str) -> bool:
        """Whether two pictures are copies to the eye."""
        a, b = self.places[one], self.places[other]
        return bool(self._same(a, np.array([b]))[0])

    def leaders(self) -> dict[str, str]:
        """Every picture's leader: the first picture, by digest, of which it is a copy, or itself.

        Pictures are compared with leaders only, so that thousands of empty pictures cost no more
        than others. A copy of a copy that is no copy of the leader leads on its own.
        """
        names = sorted(self.places)
        near = self._near()
        leader = np.full(len(names), -1, dtype=np.int64)
        for place in (self.places[name] for name in names):
            if leader[place] >= 0:
                continue
            close = near(place)
            close = close[leader[close] < 0]
            leader[close[self._same(place, close)]] = place
            leader[place] = place
        by_place = {place: name for name, place in self.places.items()}
        return {name: by_place[int(leader[self.places[name]])] for name in names}

    def _near(self) -> Callable[[int], NDArray[np.int64]]:
        """A function: which pictures may be copies of one. None is missed.

        Seen along a few directions, two pictures are never farther apart than they are.
        """
        light = self.light.astype(np.float64)
        _, axes = np.linalg.eigh(light.T @ light)
        seen = light @ axes[:, -_DIRECTIONS:]
        tree, reach = KDTree(seen), SAME_LIGHT * _LIGHT * (1 + 1e-6)
        return lambda place: np.asarray(tree.query_ball_point(seen[place], reach), dtype=np.int64)

    def _same(self, place: int, others: NDArray[np.int64]) -> NDArray[np.bool_]:
        light = np.sqrt(np.square(self.light[others] - self.light[place]).mean(1))
        colour = np.sqrt(np.square(self.colour[others] - self.colour[place]).mean(1))
        return (light <= SAME_LIGHT) & (colour <= SAME_COLOUR)


def look(
    names: Sequence[str],
    image: Callable[[str], NDArray[np.uint8]],
    encoded: Callable[[str], int],
) -> Looks:
    """Look at some pictures, one at a time.

    Args:
        names: Their digests.
        image: Digest → pixels, uint8 [height, width, 3].
        encoded: Digest → bytes of its PNG file.
    """
    seen = [_seen(image(name), encoded(name)) for name in names]
    light, colour, traits = zip(*seen, strict=True) if seen else ((), (), ())
    return Looks(
        places={name: place for place, name in enumerate(names)},
        light=np.array(light, dtype=np.float32).reshape(len(names), _LIGHT**2),
        colour=np.array(colour, dtype=np.float32).reshape(len(names), 3 * _COLOUR**2),
        traits=np.array(traits, dtype=np.float64).reshape(len(names), len(TRAITS)),
    )


def _seen(pixels: NDArray[np.uint8], size: int) -> tuple[Array, Array, list[float]]:
    picture = Image.fromarray(pixels)
    grey = picture.convert("L")
    light = _fields(grey, _LIGHT)
    return light - light.mean(), _fields(picture, _COLOUR), list(_traits(pixels, grey, size))


def _fields(picture: Image.Image, side: int) -> Array:
    small = picture.resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel() / 255


def _traits(pixels: NDArray[np.uint8], grey: Image.Image, size: int) -> Iterator[float]:
    light = np.asarray(grey, dtype=np.float32) / 255
    height, width = light.shape
    steps = [float(np.abs(np.diff(light, axis=axis)).mean()) for axis in (0, 1)]
    spread = pixels.max(2).astype(np.float32) - pixels.min(2)
    yield float(light.mean())
    yield float(light.std())
    yield float(spread.mean()) / 255
    yield sum(steps) / 2
    yield size / (height * width)
    yield float(np.log(height * width))
    yield float(np.log(width / height))
