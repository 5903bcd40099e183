"""Weights, pictures and vocabularies that two environments make alike from nothing but names.

The reference packages need an old environment, so their scores are stored (`lab/scorers/parity`).
Both sides build weights here: a tensor's values depend on its name and shape in the reference
package's own layout, and on nothing else.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from palate.core.streams import Streams

STREAMS = Streams(20261121)
# Odd differences between the sides, so that cutting out the middle has to round; one smaller and
# one exactly as large as the networks' 32 pixels.
SIZES = ((32, 32), (47, 64), (64, 47), (21, 40), (100, 33))
PROMPTS = (
    "a red ball",
    "A Blue-ish box, on the green table; it's 3 o'clock!",
    "",
    "the small cat and the big red dog walk along the old road to the sea and then come back home "
    "over the hill with the two blue birds and a green ball and the red box and the black hat",
    "naïve café (a photo) – no text",
    "a “curly” ﬁlm’s &amp;amp; ｗｉｄｅ letters &lt;lora:x&gt; in ＣＡＰＩＴＡＬＳ…",
)
# Merges in the order in which a byte-pair encoding applies them.
MERGES = ("t h", "th e</w>", "r e", "re d</w>", "b a", "l l</w>", "ba ll</w>", "a n", "an d</w>")


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """A value for every name, far enough from zero that pictures and prompts tell.

    Norms lie around one and biases around nought; what is multiplied keeps the size of its input.
    """
    return {name: _values(name, tuple(shape)) for name, shape in sorted(shapes.items())}


def pictures() -> list[np.ndarray]:
    """Five pictures of five sizes: coarse random patches, so that resizing matters, and noise."""
    return [_picture(place, height, width) for place, (height, width) in enumerate(SIZES)]


def word_pieces() -> list[str]:
    """A vocabulary for BERT: its own tokens, some words, and every letter alone or joined on."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = ["red", "blue", "ball", "box", "the", "and", "green", "cat", "##ish", "##and"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*special, *words, *letters, *(f"##{letter}" for letter in letters)]


def byte_pairs(start: str, end: str) -> list[str]:
    """A vocabulary for CLIP in its own order: bytes, bytes that end a word, merges, two marks."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    alphabet = [chr(byte) for byte in seen] + [chr(256 + place) for place in range(len(hidden))]
    merged = [merge.replace(" ", "") for merge in MERGES]
    return [*alphabet, *(f"{sign}</w>" for sign in alphabet), *merged, start, end]


def _values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    drawn = STREAMS("parity", name).normal(shape)
    if len(shape) < 2:
        centre = float(name.endswith("weight"))
        return centre + 0.2 * drawn
    return drawn * (1.5 / math.sqrt(math.prod(shape[1:])))


def _picture(place: int, height: int, width: int) -> np.ndarray:
    draw = STREAMS("parity picture", place).numpy()
    coarse = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    patches = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    noise = draw.integers(-40, 41, (height, width, 3))
    return np.clip(patches + noise, 0, 255).astype(np.uint8)
