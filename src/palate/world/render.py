"""Draws scenes: what is in the picture comes from the scene, how well it is done from the style.

Pictures are 64×64 RGB, drawn four times larger and averaged down, so edges are smooth. All four
shapes of one size cover the same area: size can be judged without knowing the shape.

Read next: `reward.py`, which looks for the same shapes, colours and anchors in any picture.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from palate.core.streams import Stream, Streams
from palate.world.scenes import RELATIONS, Scene, Thing, random_scene, split_of

SIDE = 64
_OVERSAMPLE = 4
COLOUR_VALUES = {
    "red": (220, 40, 40),
    "yellow": (235, 200, 30),
    "green": (40, 170, 70),
    "cyan": (40, 190, 200),
    "blue": (50, 90, 220),
    "purple": (160, 60, 200),
}
BACKGROUND_VALUES = {"white": 245, "grey": 168, "black": 16}
# Side of the square with the object's area, in pixels.
SIZE_VALUES = {"small": 11.5, "large": 18.0}
# Stray blobs keep this far from an object's centre, in pixels, where they can.
_CLEARANCE = 15.0
_NEAR, _FAR, _MIDDLE = 16.0, 48.0, 32.0
PLACE_ANCHORS = {
    "centre": (_MIDDLE, _MIDDLE),
    "left": (_NEAR, _MIDDLE),
    "right": (_FAR, _MIDDLE),
    "top": (_MIDDLE, _NEAR),
    "bottom": (_MIDDLE, _FAR),
}
_RELATION_ANCHORS: dict[str, tuple[str, str]] = dict(
    zip(
        RELATIONS,
        (("left", "right"), ("right", "left"), ("top", "bottom"), ("bottom", "top")),
        strict=True,
    )
)
_GROUP_ANCHORS = {
    2: ((_NEAR, _MIDDLE), (_FAR, _MIDDLE)),
    3: ((_MIDDLE, _NEAR), (_NEAR, _FAR), (_FAR, _FAR)),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How well a picture is made, apart from what it shows.

    Attributes:
        vividness: Share of the pure colour's chroma, 0 (grey) to 1 (pure).
        clutter: Number of stray blobs.
        blob: Mean radius of a stray blob in pixels.
        misplacement: Standard deviation of an object's displacement, in pixels per axis.
        softness: Radius of a blur over the whole picture, in pixels.
    """

    vividness: float = 1.0
    clutter: int = 0
    blob: float = 2.0
    misplacement: float = 0.0
    softness: float = 0.0

    @staticmethod
    def mediocre(chance: np.random.Generator) -> "Style":
        """Draw a style as the shipped model's training pictures have it: mostly middling.

        Pure colours and empty backgrounds are rare, but well inside the range.
        """
        return Style(
            vividness=0.28 + 0.72 * float(chance.beta(1.5, 2.0)),
            clutter=int(chance.choice(8, p=(0.2, 0.14, 0.14, 0.14, 0.13, 0.1, 0.08, 0.07))),
            blob=float(chance.uniform(1.4, 2.4)),
            misplacement=float(chance.uniform(0.0, 4.0)),
            softness=float(chance.uniform(0.0, 0.6)),
        )


PERFECT = Style()


def anchors(scene: Scene) -> tuple[tuple[float, float], ...]:
    """The ideal centres (x, y) in pixels, one for each of the scene's objects."""
    if scene.relation:
        first, second = _RELATION_ANCHORS[scene.relation]
        return PLACE_ANCHORS[first], PLACE_ANCHORS[second]
    if scene.number > 1:
        return _GROUP_ANCHORS[scene.number]
    return (PLACE_ANCHORS[scene.place],)


def outline(shape: str) -> np.ndarray:
    """The corners (k, 2) of a shape of area 1 with its centroid at the origin; y grows downwards.

    The circle is a polygon of 48 corners.
    """
    if shape == "triangle":
        side = 2.0 / 3.0**0.25
        height = side * math.sqrt(3.0) / 2.0
        low, high = height / 3.0, -2.0 * height / 3.0
        return np.array([(0.0, high), (side / 2.0, low), (-side / 2.0, low)])
    if shape == "square":
        return np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    if shape == "cross":
        # Five equal squares: an arm is one third of the whole width.
        s, w = 0.5 / math.sqrt(5.0), 1.5 / math.sqrt(5.0)
        quarter = [(s, -w), (s, -s), (w, -s)]
        turns = [[(-y, x) for x, y in quarter], [(-x, -y) for x, y in quarter]]
        last = [(y, -x) for x, y in quarter]
        return np.array([*quarter, *turns[0], *turns[1], *last])
    angles = np.arange(48) * (2.0 * math.pi / 48)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) / math.sqrt(math.pi)


def faded(colour: tuple[int, int, int], vividness: float) -> tuple[int, int, int]:
    """The colour pulled towards the grey of its own lightness; hue stays, chroma scales."""
    red, green, blue = colour
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    mixed = (round(grey + vividness * (channel - grey)) for channel in colour)
    return tuple(mixed)  # type: ignore[return-value]


def render(scene: Scene, style: Style, stream: Stream) -> np.ndarray:
    """Draw a scene in a style: uint8 [64, 64, 3]. The stream decides the accidents."""
    chance = stream.numpy()
    ground = BACKGROUND_VALUES[scene.background]
    canvas = Image.new("RGB", (SIDE * _OVERSAMPLE, SIDE * _OVERSAMPLE), (ground, ground, ground))
    pen = ImageDraw.Draw(canvas)
    spots = zip(scene.objects, anchors(scene), strict=True)
    corners = [_placed(thing, anchor, style, chance) for thing, anchor in spots]
    for polygon, thing in zip(corners, scene.objects, strict=True):
        _fill(pen, polygon, faded(COLOUR_VALUES[thing.colour], style.vividness))
    centres = np.array([polygon.mean(axis=0) for polygon in corners])
    for _ in range(style.clutter):
        _stray(pen, centres, style, chance)
    if style.softness > 0:
        canvas = canvas.filter(ImageFilter.BoxBlur(style.softness * _OVERSAMPLE))
    return np.asarray(canvas.reduce(_OVERSAMPLE), dtype=np.uint8)


def training_pictures(n: int, seed: int, *, purpose: str = "train") -> tuple[np.ndarray, list[str]]:
    """Draw `n` mediocre pictures of train prompts: uint8 [n, 64, 64, 3] and their captions.

    Held-out captions are never drawn. `purpose` names disjoint random streams, so that pictures
    for validation differ from those for training.
    """
    streams = Streams(seed)
    captions, pictures = [], np.empty((n, SIDE, SIDE, 3), dtype=np.uint8)
    for index in range(n):
        stream = streams("training picture", purpose, index)
        chance = stream.numpy()
        scene = random_scene(chance)
        while split_of(scene.caption) != "train":
            scene = random_scene(chance)
        captions.append(scene.caption)
        style, accidents = Style.mediocre(chance), streams("accidents", purpose, index)
        pictures[index] = render(scene, style, accidents)
    return pictures, captions


def _placed(
    thing: Thing, anchor: tuple[float, float], style: Style, chance: np.random.Generator
) -> np.ndarray:
    """The object's corners (k, 2) in pixels: sized, displaced, and pushed back into the frame."""
    size = SIZE_VALUES[thing.size] * float(1.0 + 0.015 * style.misplacement * chance.uniform(-1, 1))
    corners = outline(thing.shape) * size
    drift = np.clip(chance.normal(size=2), -2.0, 2.0) * style.misplacement
    corners = corners + np.array(anchor) + drift
    short = np.maximum(1.0 - corners.min(axis=0), 0.0)
    over = np.maximum(corners.max(axis=0) - (SIDE - 1.0), 0.0)
    return corners + short - over


def _stray(
    pen: ImageDraw.ImageDraw, centres: np.ndarray, style: Style, chance: np.random.Generator
) -> None:
    """Drop one blob of any colour, away from the objects where there is room."""
    spot = chance.uniform(3.0, SIDE - 3.0, size=2)
    for _ in range(5):
        if np.min(np.linalg.norm(centres - spot, axis=1)) > _CLEARANCE:
            break
        spot = chance.uniform(3.0, SIDE - 3.0, size=2)
    colours = list(COLOUR_VALUES.values())
    colour = faded(colours[int(chance.integers(len(colours)))], style.vividness)
    radius = style.blob * float(chance.uniform(0.75, 1.25))
    _fill(pen, outline("circle") * radius * math.sqrt(math.pi) + spot, colour)


def _fill(pen: ImageDraw.ImageDraw, corners: np.ndarray, colour: tuple[int, int, int]) -> None:
    # Half a fine pixel back, because the pen counts pixel centres and outlines count edges.
    fine = corners * _OVERSAMPLE - 0.5
    pen.polygon([(float(x), float(y)) for x, y in fine], fill=colour)
