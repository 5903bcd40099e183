"""Reads a picture without knowing its caption: the background, the objects, the stray specks.

Works on clean drawings and on a model's soft or compressed ones: everything is measured in parts
of a pixel and of the object's own contrast, so that fading or blur alone changes no shape.

Read next: `reward.py`, which compares what was read with what the caption asked for.
"""

from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
from PIL import Image

from palate.core.problems import DataError, require
from palate.world.render import COLOUR_VALUES, SIDE, outline
from palate.world.scenes import SHAPES

# Below this distance from the background (of at most 441) a pixel is background.
_FLOOR = 24.0
# Blobs of fewer pixels than the first number are no objects, of more than the second surely are.
_SPECK, _OBJECT = 36.0, 80.0
_MOST_BLOBS = 6
_GRID, _REACH = 129, 1.6


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blob:
    """One connected patch that differs from the background.

    Attributes:
        area: Covered area in pixels, edges counted by their coverage.
        centre: (x, y) in pixels.
        chroma: Mean chroma vector of its inside: length 0 (grey) to 255, direction = hue.
        presence: 0 for a speck, 1 for an object, linear between.
        likeness: Intersection over union with each of `SHAPES` at the same area and centre.
    """

    area: float
    centre: np.ndarray
    chroma: np.ndarray
    presence: float
    likeness: np.ndarray


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What is in a picture.

    Attributes:
        ground: The background's mean RGB.
        blobs: The largest blobs, largest first.
        count: How many objects there are; blobs between speck and object count in part.
        stray: Pixels that belong neither to the background nor to an object.
    """

    ground: np.ndarray
    blobs: tuple[Blob, ...]
    count: float
    stray: float


def chroma_of(rgb: np.ndarray) -> np.ndarray:
    """RGB [..., 3] to chroma vectors [..., 2]: linear, zero for greys, hue is the angle."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([red - 0.5 * (green + blue), 0.8660254 * (green - blue)], axis=-1)


PURE = np.array([chroma_of(np.array(value, dtype=float)) for value in COLOUR_VALUES.values()])
_PURE_DIRECTIONS = PURE / np.linalg.norm(PURE, axis=1, keepdims=True)


def read(image: np.ndarray) -> Reading:
    """Read a picture, uint8 [h, w, 3]; other sizes than 64×64 are scaled first.

    Raises:
        DataError: when the array is no such picture.
    """
    require(
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3,
        got=f"an image of {getattr(image, 'dtype', type(image).__name__)} "
        f"{getattr(image, 'shape', '')}",
        need="uint8 [height, width, 3]",
        fix="Convert it first, as with numpy.asarray(picture.convert('RGB'))",
        kind=DataError,
    )
    if image.shape[:2] != (SIDE, SIDE):
        image = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))
    rgb = image.astype(np.float64)
    rim = np.concatenate(
        [
            rgb[:2].reshape(-1, 3),
            rgb[-2:].reshape(-1, 3),
            rgb[2:-2, :2].reshape(-1, 3),
            rgb[2:-2, -2:].reshape(-1, 3),
        ]
    )
    ground = np.median(rim, axis=0)
    distance = np.sqrt(np.square(rgb - ground).sum(axis=-1))
    blobs, owned = [], np.zeros((SIDE, SIDE))
    for mask in _patches(rgb, distance > _FLOOR):
        wide = _widen(mask)
        blob = _measure(rgb, ground, wide, mask)
        blobs.append(blob)
        # One more pixel than the blob itself: a soft edge is not a speck.
        owned = np.maximum(owned, _widen(wide) * blob.presence)
    strength = np.clip((distance - 0.5 * _FLOOR) / _FLOOR, 0.0, 1.0)
    return Reading(
        ground=ground,
        blobs=tuple(blobs),
        count=float(sum(blob.presence for blob in blobs)),
        stray=float((strength * (1.0 - owned)).sum()),
    )


def _patches(rgb: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """The largest connected patches of a mask; two objects that touch are parted by their hue."""
    patches = []
    for patch in _connected(mask):
        size = int(patch.sum())
        if size < _SPECK / 2:
            continue
        kinds = np.argmax(chroma_of(rgb) @ _PURE_DIRECTIONS.T, axis=-1)
        shares = np.bincount(kinds[patch], minlength=len(PURE))
        main = np.flatnonzero(shares >= max(_SPECK, 0.15 * size))
        if len(main) < 2:
            patches.append(patch)
            continue
        nearest = main[np.argmax(chroma_of(rgb) @ _PURE_DIRECTIONS[main].T, axis=-1)]
        patches += [patch & (nearest == kind) for kind in main]
    patches.sort(key=lambda patch: -int(patch.sum()))
    return patches[:_MOST_BLOBS]


def _connected(mask: np.ndarray) -> list[np.ndarray]:
    """Split a mask [h, w] into its 4-connected patches, by joining runs of neighbouring rows."""
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    first = np.searchsorted(rows, np.arange(height + 1)).tolist()
    left, right = starts.tolist(), ends.tolist()
    for row in range(1, height):
        above, below = first[row - 1], first[row]
        while above < first[row] and below < first[row + 1]:
            if left[above] < right[below] and left[below] < right[above]:
                parent[root(below)] = root(above)
            if right[above] < right[below]:
                above += 1
            else:
                below += 1
    patches: dict[int, np.ndarray] = {}
    for run, row in enumerate(rows.tolist()):
        patch = patches.setdefault(root(run), np.zeros((height, width), dtype=bool))
        patch[row, left[run] : right[run]] = True
    return list(patches.values())


def _widen(mask: np.ndarray) -> np.ndarray:
    """The mask and its four neighbours."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def _measure(rgb: np.ndarray, ground: np.ndarray, wide: np.ndarray, mask: np.ndarray) -> Blob:
    """Measure one blob by how far each of its pixels is covered by the blob's own colour."""
    offset = rgb[wide] - ground
    length = np.sqrt(np.square(rgb[mask] - ground).sum(axis=-1))
    inside = rgb[mask][length >= np.quantile(length, 0.5)]
    colour = inside.mean(axis=0)
    contrast = colour - ground
    cover = np.clip(offset @ contrast / max(float(contrast @ contrast), 1e-9), 0.0, 1.0)
    y, x = np.nonzero(wide)
    area = float(cover.sum())
    centre = np.array([cover @ x, cover @ y]) / max(area, 1e-9) + 0.5
    points = np.stack([x + 0.5, y + 0.5], axis=1)
    return Blob(
        area=area,
        centre=centre,
        chroma=chroma_of(colour),
        presence=float(np.clip((area - _SPECK) / (_OBJECT - _SPECK), 0.0, 1.0)),
        likeness=_likeness(points, cover, centre, area),
    )


def _likeness(points: np.ndarray, cover: np.ndarray, centre: np.ndarray, area: float) -> np.ndarray:
    """Intersection over union of the covered pixels with each shape, drawn equally large there."""
    side = max(np.sqrt(area), 1.0)
    spots = np.rint(((points - centre) / side + _REACH) * ((_GRID - 1) / (2 * _REACH))).astype(int)
    spots = np.clip(spots, 0, _GRID - 1)
    depth = _depths()[:, spots[:, 1], spots[:, 0]]
    drawn = np.clip(0.5 + depth * side / 1.4, 0.0, 1.0)
    shared = np.minimum(drawn, cover).sum(axis=1)
    # Both have the same area; what is drawn outside the listed pixels still counts.
    return shared / np.maximum(2.0 * area - shared, 1e-9)


@cache
def _depths() -> np.ndarray:
    """How deep inside each shape of area 1 a point lies (negative outside): [shape, y, x]."""
    line = np.linspace(-_REACH, _REACH, _GRID)
    points = np.stack(np.meshgrid(line, line, indexing="xy"), axis=-1)
    return np.stack([_depth(points, outline(shape)) for shape in SHAPES])


def _depth(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance of points [..., 2] to a polygon's edge, positive inside."""
    nearest = np.full(points.shape[:-1], np.inf)
    inside = np.zeros(points.shape[:-1], dtype=bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge, offset = end - start, points - start
        along = np.clip(offset @ edge / (edge @ edge), 0.0, 1.0)
        gap = np.linalg.norm(offset - along[..., None] * edge, axis=-1)
        nearest = np.minimum(nearest, gap)
        crosses = (start[1] > points[..., 1]) != (end[1] > points[..., 1])
        if edge[1] != 0:
            at = start[0] + (points[..., 1] - start[1]) / edge[1] * edge[0]
            inside ^= crosses & (points[..., 0] < at)
    return np.where(inside, nearest, -nearest)
