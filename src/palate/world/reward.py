r"""The true reward of the small world: what a picture is worth, exactly and in parts.

Each part lies in [0, 1]. Six parts say whether the picture shows what the caption asks for; their
mean is the fidelity. Three say how it is made. A taste weighs the four numbers:

$$r = s\,(w_f\,\text{fidelity} + w_v\,\text{vividness} + w_t\,\text{tidiness}
+ w_c\,\text{composition})$$

with one fixed scale s, so that a reward is in logit units: a judge of temperature 1 prefers a to b
with probability σ(r(a) − r(b)).

Read next: `judges.py`, who answer by this reward; `docs/world.md`, every part with its formula.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import final

import numpy as np

from palate.core.problems import DataError, require
from palate.world.reading import PURE, Blob, Reading, read
from palate.world.render import (
    BACKGROUND_VALUES,
    PLACE_ANCHORS,
    SIZE_VALUES,
    anchors,
)
from palate.world.scenes import COLOURS, RELATIONS, SHAPES, Scene, Thing

FIDELITY_PARTS = ("colour", "shape", "size", "count", "position", "background")
TASTE_PARTS = ("vividness", "tidiness", "composition")
SCALE = 18.0
# Every spot an object can ideally stand on, whatever the caption.
_SPOTS = np.array([*PLACE_ANCHORS.values(), (16.0, 48.0), (48.0, 48.0)])
_DIRECTIONS: dict[str, np.ndarray] = dict(
    zip(RELATIONS, np.array([(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)]), strict=True)
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """What somebody likes: the weights of the reward's four numbers."""

    fidelity: float = 1.0
    vividness: float = 0.0
    tidiness: float = 0.0
    composition: float = 0.0


MAJORITY = Taste(fidelity=1.0, vividness=0.5, tidiness=0.2, composition=0.1)
OPPOSITE = Taste(fidelity=1.0, vividness=-0.5, tidiness=-0.2, composition=-0.1)


def parts(image: np.ndarray, caption: str) -> dict[str, float]:
    """All parts of the reward of one picture, uint8 [h, w, 3]: nine numbers and the fidelity.

    Raises:
        DataError: when the caption is none of the world's, or the array is no picture.
    """
    scene = Scene.parse(caption)
    reading = read(image)
    found = _matched(scene, reading)
    each = [_object_parts(thing, blob) for thing, blob in zip(scene.objects, found, strict=True)]
    colour, shape, size, vividness, composition = np.mean(each, axis=0).tolist()
    result = {
        "colour": colour,
        "shape": shape,
        "size": size,
        "count": max(0.0, 1.0 - abs(reading.count - len(scene.objects))),
        "position": _position(scene, found),
        "background": _background(scene, reading),
    }
    fidelity = sum(result.values()) / len(FIDELITY_PARTS)
    result |= {
        "vividness": vividness,
        "tidiness": float(np.exp(-reading.stray / 60.0)),
        "composition": composition,
        "fidelity": fidelity,
    }
    return result


def reward(image: np.ndarray, caption: str, taste: Taste = MAJORITY) -> float:
    """What one picture is worth to a taste, in logit units."""
    return weigh(parts(image, caption), taste)


def rewards(
    images: Sequence[np.ndarray] | np.ndarray, captions: Sequence[str], taste: Taste = MAJORITY
) -> np.ndarray:
    """The rewards of pictures with their captions, float64 [n].

    Raises:
        DataError: when there are not as many captions as pictures.
    """
    require(
        len(images) == len(captions),
        got=f"{len(images)} pictures and {len(captions)} captions",
        need="one caption for each picture",
        fix="Repeat a caption for each of its pictures",
        kind=DataError,
    )
    values = [reward(image, text, taste) for image, text in zip(images, captions, strict=True)]
    return np.array(values, dtype=np.float64)


def weigh(measured: dict[str, float], taste: Taste) -> float:
    """The reward from parts already measured."""
    return SCALE * (
        taste.fidelity * measured["fidelity"]
        + taste.vividness * measured["vividness"]
        + taste.tidiness * measured["tidiness"]
        + taste.composition * measured["composition"]
    )


def _matched(scene: Scene, reading: Reading) -> tuple[Blob | None, ...]:
    """The blob for each object the caption names, chosen together for the best likeness."""
    wanted, spots = scene.objects, np.array(anchors(scene))
    blobs = [blob for blob in reading.blobs if blob.presence > 0]
    pool: list[Blob | None] = [*blobs, *([None] * max(0, len(wanted) - len(blobs)))]
    worth = np.zeros((len(wanted), len(pool)))
    for row, thing in enumerate(wanted):
        for column, blob in enumerate(pool):
            if blob is not None:
                near = 1.0 - float(np.linalg.norm(blob.centre - spots[row])) / 90.0
                worth[row, column] = sum(_object_parts(thing, blob)[:3]) + blob.presence * near
    rows = np.arange(len(wanted))
    best = max(
        permutations(range(len(pool)), len(wanted)),
        key=lambda columns: float(worth[rows, list(columns)].sum()),
    )
    return tuple(pool[column] for column in best)


def _object_parts(thing: Thing, blob: Blob | None) -> tuple[float, float, float, float, float]:
    """Colour, shape, size, vividness and composition of one object; nothing shows, all zero."""
    if blob is None:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    there = blob.presence
    strength = float(np.linalg.norm(blob.chroma))
    angles = np.degrees(_angles(blob.chroma))
    off = angles[COLOURS.index(thing.colour)]
    # A nearly grey object has no hue to judge.
    colour = np.clip((40.0 - off) / 25.0, 0.0, 1.0) * np.clip(strength / 20.0, 0.0, 1.0)
    pure = float(np.linalg.norm(PURE[int(np.argmin(angles))]))
    gap = float(np.min(np.linalg.norm(_SPOTS - blob.centre, axis=1)))
    return (
        there * float(colour),
        there * _shape(thing, blob),
        there * _size(thing, blob),
        there * min(1.0, strength / pure),
        there * float(np.exp(-0.5 * (gap / 4.0) ** 2)),
    )


def _angles(chroma: np.ndarray) -> np.ndarray:
    """Angles in radians between a chroma vector and the pure colours, in their order."""
    lengths = np.linalg.norm(PURE, axis=1) * max(float(np.linalg.norm(chroma)), 1e-9)
    return np.arccos(np.clip(PURE @ chroma / lengths, -1.0, 1.0))


def _shape(thing: Thing, blob: Blob) -> float:
    """How sure the shape is among the four, times how well it is drawn."""
    wanted = SHAPES.index(thing.shape)
    odds = np.exp(30.0 * (blob.likeness - blob.likeness.max()))
    drawn = np.clip((blob.likeness[wanted] - 0.45) / 0.35, 0.0, 1.0)
    return float(odds[wanted] / odds.sum() * drawn)


def _size(thing: Thing, blob: Blob) -> float:
    """1 on the right side of the middle size, 0 on the wrong, linear in the logarithm between."""
    small, large = np.log(SIZE_VALUES["small"]), np.log(SIZE_VALUES["large"])
    share = (0.5 * np.log(blob.area) - small) / (large - small)
    large_enough = float(np.clip(0.5 + 1.5 * (share - 0.5), 0.0, 1.0))
    return large_enough if thing.size == "large" else 1.0 - large_enough


def _position(scene: Scene, found: tuple[Blob | None, ...]) -> float:
    """Whether the object stands in its place, or two in their relation; 1 if nothing is asked."""
    blobs = [blob for blob in found if blob is not None]
    if scene.relation:
        if len(blobs) < 2:
            return 0.0
        offset = blobs[0].centre - blobs[1].centre
        ahead = float(offset @ _DIRECTIONS[scene.relation])
        cosine = ahead / max(float(np.linalg.norm(offset)), 1e-9)
        clear = np.clip((cosine - 0.5) / 0.35, 0.0, 1.0) * np.clip(ahead / 12.0, 0.0, 1.0)
        return float(clear) * blobs[0].presence * blobs[1].presence
    if scene.place:
        if not blobs:
            return 0.0
        gap = float(np.linalg.norm(blobs[0].centre - np.array(PLACE_ANCHORS[scene.place])))
        return float(np.clip((15.0 - gap) / 8.0, 0.0, 1.0)) * blobs[0].presence
    return 1.0


def _background(scene: Scene, reading: Reading) -> float:
    """1 while the ground is within 12 grey levels of the asked one, 0 from 60 on."""
    gap = float(np.max(np.abs(reading.ground - BACKGROUND_VALUES[scene.background])))
    return float(np.clip((60.0 - gap) / 48.0, 0.0, 1.0))
