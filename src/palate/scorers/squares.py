"""Pictures as torchvision's Resize, CenterCrop and Normalize make them, without torchvision.

The reference packages of the preference scorers prepare pictures in two ways that differ in the
last digits: Pillow resizes bytes and rounds them (ImageReward, OpenAI's CLIP and with it the
aesthetic predictor), or torch resizes values between 0 and 1, which rounds nothing and may
overshoot (HPSv2). A scorer says which of the two it was trained and published with.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from palate.core.problems import DataError, require

# Channel means and deviations of the pictures CLIP was trained on; all these scorers use them.
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Pixels = UInt8[np.ndarray, " _ _ 3"]
Resize = Callable[[Pixels, int, int], Float[Tensor, " 3 _ _"]]


def by_pillow(image: Pixels, height: int, width: int) -> Float[Tensor, " 3 _ _"]:
    """Bicubic by Pillow: bytes in, rounded bytes out, then divided by 255."""
    size = (height, width)
    if size != image.shape[:2]:
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        image = np.asarray(resized)
    return _values(image)


def by_torch(image: Pixels, height: int, width: int) -> Float[Tensor, " 3 _ _"]:
    """Bicubic by torch on values between 0 and 1, smoothed when the picture gets smaller.

    Smoothing is what torchvision does since 0.17 unless told otherwise; earlier ones did not, so
    numbers of that time differ on pictures larger than the network's side.
    """
    values = _values(image)
    if (height, width) == tuple(values.shape[1:]):
        return values
    return interpolate(
        values[None], (height, width), mode="bicubic", align_corners=False, antialias=True
    )[0]


def squares(
    images: Sequence[Pixels], side: int, *, resize: Resize = by_pillow
) -> Float[Tensor, " n 3 _ _"]:
    """Shorter side to `side`, the middle square, CLIP's means and deviations; float32.

    Args:
        images: Pictures of any sizes.
        side: Pixels of the square's side.
        resize: One of this module's two ways.
    """
    return torch.stack([_square(image, side, resize) for image in images])


def in_batches(
    rows: Callable[[Sequence[np.ndarray], Sequence[str]], NDArray[np.float64]],
    images: Sequence[np.ndarray],
    prompts: Sequence[str],
    batch: int,
) -> NDArray[np.float64]:
    """One number for each picture with its prompt, from a function that takes a few at once.

    Raises:
        DataError: when pictures and prompts differ in number, or a picture in form.
    """
    checked(images, prompts)
    starts = range(0, len(images), batch)
    parts = [rows(images[i : i + batch], prompts[i : i + batch]) for i in starts]
    return np.concatenate(parts) if parts else np.zeros(0)


def checked(images: Sequence[np.ndarray], prompts: Sequence[str]) -> None:
    """Refuse what no scorer can score.

    Raises:
        DataError: when pictures and prompts differ in number, or a picture in form.
    """
    require(
        len(images) == len(prompts),
        got=f"{len(images)} pictures and {len(prompts)} prompts",
        need="one prompt per picture",
        fix="Repeat a prompt for each of its pictures.",
        kind=DataError,
    )
    for place, image in enumerate(images):
        require(
            image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0,
            got=f"picture {place} of {image.dtype} {image.shape}",
            need="uint8 [height, width, 3]",
            fix="Give RGB values from 0 to 255.",
            kind=DataError,
        )


def _square(image: Pixels, side: int, resize: Resize) -> Float[Tensor, " 3 _ _"]:
    height, width = image.shape[:2]
    shorter = min(height, width)
    # Cut, not rounded, where the longer side does not come out whole; and `round` takes the even
    # neighbour of a half: both are torchvision's, and a pixel too far is another picture.
    height, width = int(side * height / shorter), int(side * width / shorter)
    values = resize(image, height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    inside = values[:, top : top + side, left : left + side]
    mean, spread = (torch.tensor(each)[:, None, None] for each in (MEAN, SPREAD))
    return (inside - mean) / spread


def _values(image: Pixels) -> Float[Tensor, " 3 _ _"]:
    """Bytes [h, w, 3] as values between 0 and 1."""
    return torch.tensor(image).permute(2, 0, 1).to(torch.float32) / 255
