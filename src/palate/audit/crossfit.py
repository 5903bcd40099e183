"""Foretelling each label from all the others: no label helps to judge itself.

A logistic regression learns, from differences between the two pictures of a pair, which one is
preferred. Pairs are dealt into folds by prompt, and each is foretold by a model that has seen no
pair of its prompt. It knows no sides: the pair turned round is foretold the opposite.

Read next: `minority.py`, what the foretold says of the label that was recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray

from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.folds import deal
from palate.data.ridge import ridge

FOLDS: Final = 5
# Standard deviation of a standardised difference's weight: from nearly nothing to a wide guess.
WIDTHS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
FEWEST: Final = 50
LOOKED_AT: Final = 128
Array = NDArray[np.float64]


def foretold(
    differences: Float[np.ndarray, "n d"],
    first: Float[np.ndarray, " n"],
    prompts: Sequence[str],
    *,
    folds: int = FOLDS,
    seed: int = 0,
    most: int | None = None,
) -> Float[np.ndarray, " n"]:
    """Log-odds that the first picture is preferred, [n], each by a model that never saw its prompt.

    How strongly weights are held near zero is chosen within the other folds, by prompts too.

    Args:
        differences: What is known of the first picture minus the same of the second, [n, d].
        first: Recorded probability that the first is preferred, [n]; one half is a tie, and
            teaches nothing.
        prompts: The prompt of each pair.
        folds: How many parts the prompts are dealt into.
        seed: Which prompt is in which part.
        most: How many pairs are learned from, a random draw where there are more; all are
            foretold.

    Raises:
        DataError: when there are too few labels to learn from.
    """
    strict = int((first != 0.5).sum())
    require(
        strict >= FEWEST and len(set(prompts)) >= 2 * folds,
        got=f"{strict} strict labels on {len(set(prompts))} prompts",
        need=f"at least {FEWEST}, on {2 * folds} prompts",
        fix="Use a larger snapshot, or several votes per pair.",
        kind=DataError,
    )
    parts = deal(prompts, folds, seed)
    learned = drawn(first != 0.5, most, seed)
    found = np.zeros(len(first))
    for fold in range(folds):
        away, known = parts == fold, learned & (parts != fold)
        width = _best_width(differences[known], first[known], parts[known])
        found[away] = _fit(differences[known], first[known], width)(differences[away])
    return found


def drawn(strict: Bool[np.ndarray, " n"], most: int | None, seed: int) -> Bool[np.ndarray, " n"]:
    """Which pairs are learned from: all that teach something, or a random draw of so many."""
    places = np.flatnonzero(strict)
    if most is not None and len(places) > most:
        order = Streams(seed)("learned from", len(places)).numpy().permutation(len(places))
        places = places[order[:most]]
    found = np.zeros(len(strict), dtype=np.bool_)
    found[places] = True
    return found


def _best_width(x: Array, first: Array, parts: Int[np.ndarray, " n"]) -> float:
    """The width under which the remaining folds foretell one another best."""
    losses: dict[float, float] = {}
    for width in WIDTHS:
        losses[width] = 0.0
        for fold in np.unique(parts):
            away = parts == fold
            logit = _fit(x[~away], first[~away], width)(x[away])
            losses[width] += float(_surprise(logit, first[away]).sum())
    return min(losses, key=lambda width: losses[width])


def _surprise(logit: Array, first: Array) -> Array:
    """Minus the logarithm of what was foretold of each label."""
    return np.logaddexp(0, logit) - first * logit


def _fit(x: Array, first: Array, width: float) -> Callable[[Array], Array]:
    """A function from differences to log-odds, learned from these pairs."""
    scale = np.sqrt(np.square(x).mean(0))
    scale[scale == 0] = 1.0
    strict = first != 0.5
    weight = np.abs(2 * first[strict] - 1)
    won, looseness = first[strict] > 0.5, width**2
    found = ridge(x[strict] / scale, won, weight, looseness=looseness, tolerance=1e-4, steps=500)
    weights = found / scale
    return lambda fresh: fresh @ weights


def picture_numbers(picture: UInt8[np.ndarray, "h w 3"]) -> Mapping[str, float]:
    """Plain numbers of one picture, whatever it shows: light, colour, contrast, edges, places.

    Of a large picture only every n-th row and column is looked at, at least `LOOKED_AT` of them.
    """
    height, width = picture.shape[:2]
    stride = max(1, min(height, width) // LOOKED_AT)
    # Too small to be parted in three: every pixel as a field of nine.
    times = 1 if min(height, width) >= 3 else 3
    picture = picture[::stride, ::stride].repeat(times, 0).repeat(times, 1)
    rgb = picture.astype(np.float64) / 255
    light = rgb @ np.array([0.299, 0.587, 0.114])
    chroma = rgb.max(2) - rgb.min(2)
    down, right = np.abs(np.diff(light, axis=0)), np.abs(np.diff(light, axis=1))
    found = {
        "width": float(width),
        "height": float(height),
        "light": float(light.mean()),
        "contrast": float(light.std()),
        "saturation": float(chroma.mean()),
        "strongest colour": float(np.quantile(chroma, 0.95)),
        "coloured share": float((chroma > 0.25).mean()),
        "variety of colour": float(chroma.std()),
        "edges down": float(down.mean()),
        "edges right": float(right.mean()),
        "sharp edges": float((right > 0.1).mean() + (down > 0.1).mean()),
        "darkest": float(np.quantile(light, 0.02)),
        "brightest": float(np.quantile(light, 0.98)),
    }
    for name, plane in zip(("red", "green", "blue"), np.moveaxis(rgb, 2, 0), strict=True):
        found |= {name: float(plane.mean()), f"{name} spread": float(plane.std())}
    for row, band in enumerate(np.array_split(chroma, 3, axis=0)):
        for column, cell in enumerate(np.array_split(band, 3, axis=1)):
            found[f"colour at {row}, {column}"] = float(cell.mean())
    return found
