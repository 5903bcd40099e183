"""What was lost on the way: variety, style, and whole pictures.

A model can win every comparison by drawing one pleasing picture again and again. So the pictures
of one prompt are compared with each other, in a space no scorer here uses: 8×8 averages of the
pixels. Style is followed by four plain statistics of the pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from palate.core.stats import Estimate, cluster_mean
from palate.core.streams import Streams

Array = NDArray[np.float64]
Images = NDArray[np.uint8]
_GRID = 8
# In levels of 0 … 255. A drawn object on a plain ground is far above all three.
_CONSTANT, _BLACK = 1.0, 2.0
STYLES = {
    "brightness": "mean of the luma, 0 to 1",
    "saturation": "mean difference of the strongest and the weakest channel, 0 to 1",
    "edge energy": "mean step of the luma between neighbouring pixels, 0 to 1",
    "clipped pixels": "share of channel values at 0 or 255",
}
VARIETIES = {
    "variety": "mean RMS distance between pictures of one prompt, as 8×8 averages, 0 to 1",
    "variety of pattern": "the same without brightness and contrast: 1 minus their correlation",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One property of the pictures, before and after, paired over prompts.

    Attributes:
        name: What is measured.
        meaning: How, in words.
        before: Its mean before.
        after: Its mean after.
        difference: After minus before.
        ratio: Mean after over mean before; None where before is 0.
        pictures: Pictures of each prompt it was measured on.
    """

    name: str
    meaning: str
    before: Estimate
    after: Estimate
    difference: Estimate
    ratio: Estimate | None
    pictures: int


def broken(images: Images) -> NDArray[np.bool_]:
    """Which pictures are black or of one colour: what a network that made NaN leaves behind."""
    flat = images.reshape(len(images), -1, images.shape[-1])
    spread = np.array([picture.std(axis=0).max() for picture in flat])
    level = np.array([picture.mean() for picture in flat])
    return (spread < _CONSTANT) | (level < _BLACK)


def style(images: Images) -> dict[str, Array]:
    """Each property of `STYLES` for each picture."""
    rows = [_style(picture.astype(np.float64) / 255) for picture in images]
    return {name: np.array([row[at] for row in rows]) for at, name in enumerate(STYLES)}


def spread(images: Images) -> tuple[float, float]:
    """How much the pictures of one prompt differ: RMS distance, and 1 minus correlation.

    Means over all pairs of pictures, so the number of pictures does not change what is expected.
    A picture without any pattern correlates with nothing.
    """
    small = np.stack([_averages(picture) for picture in images])
    pairs = np.triu_indices(len(small), k=1)
    square = ((small[:, None] - small[None, :]) ** 2).mean(axis=-1)
    centred = small - small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    # Rounding may put identical pictures at -1e-16.
    apart = np.maximum(1 - unit @ unit.T, 0.0)
    return float(np.sqrt(square)[pairs].mean()), float(apart[pairs].mean())


def variety(before: Images, after: Images, prompts: Sequence[str]) -> tuple[Drift, ...]:
    """How variety within a prompt changed; pictures [n, h, w, 3] with their prompts [n].

    Every prompt must have the same number of pictures, at least two.
    """
    names = list(dict.fromkeys(prompts))
    where = {name: [at for at, prompt in enumerate(prompts) if prompt == name] for name in names}
    old = np.array([spread(before[where[name]]) for name in names])
    new = np.array([spread(after[where[name]]) for name in names])
    count = len(where[names[0]])
    return tuple(
        drift(name, meaning, old[:, at], new[:, at], names, pictures=count)
        for at, (name, meaning) in enumerate(VARIETIES.items())
    )


def drift(
    name: str, meaning: str, before: Array, after: Array, prompts: Sequence[str], *, pictures: int
) -> Drift:
    """Compare one property of each picture [n], or each prompt, before and after."""
    old = cluster_mean(before, prompts)
    return Drift(
        name=name,
        meaning=meaning,
        before=old,
        after=cluster_mean(after, prompts),
        difference=cluster_mean(after - before, prompts),
        ratio=_ratio(before, after, prompts) if old.value > 0 else None,
        pictures=pictures,
    )


def _ratio(before: Array, after: Array, prompts: Sequence[str], *, draws: int = 10_000) -> Estimate:
    """The ratio of the two means; whole prompts are resampled, both sides together."""
    names = {name: at for at, name in enumerate(dict.fromkeys(prompts))}
    codes = np.array([names[prompt] for prompt in prompts])
    counts = np.bincount(codes)
    old, new = np.bincount(codes, before) / counts, np.bincount(codes, after) / counts
    chance = Streams(0)("ratio", len(names)).numpy()
    block = max(1, 1_000_000 // len(names))
    ratios: list[Array] = []
    for start in range(0, draws, block):
        picked = chance.integers(0, len(names), (min(block, draws - start), len(names)))
        below = old[picked].mean(axis=1)
        # A resample in which nothing varied before says nothing about the ratio.
        ratios.append(new[picked].mean(axis=1)[below > 0] / below[below > 0])
    low, high = np.percentile(np.concatenate(ratios), [2.5, 97.5])
    if len(names) == 1:
        low, high = -np.inf, np.inf
    return Estimate(
        value=float(new.mean() / old.mean()),
        low=float(low),
        high=float(high),
        n=len(names),
        measurements=len(prompts),
        method="paired bootstrap of the ratio of means",
    )


def _style(picture: Array) -> tuple[float, float, float, float]:
    luma = picture @ np.array([0.299, 0.587, 0.114])
    chroma = picture.max(axis=-1) - picture.min(axis=-1)
    steps = np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
    clipped = ((picture <= 0) | (picture >= 1)).mean()
    return float(luma.mean()), float(chroma.mean()), float(steps / 2), float(clipped)


def _averages(picture: Images) -> Array:
    """The picture as 8×8 averages of its blocks, flattened, 0 to 1."""
    bands = np.array_split(picture.astype(np.float64) / 255, min(_GRID, len(picture)), axis=0)
    rows = np.stack([band.mean(axis=0) for band in bands])
    columns = np.array_split(rows, min(_GRID, rows.shape[1]), axis=1)
    return np.stack([column.mean(axis=1) for column in columns], axis=1).reshape(-1)
