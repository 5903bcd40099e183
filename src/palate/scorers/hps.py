"""HPSv2 and HPSv2.1: an open_clip ViT-H-14 that was taught which pictures people prefer.

arXiv:2306.09341. The score is the cosine of picture and prompt, about 0.2 to 0.4; the published
tables show it times 100. The facts below were read in the authors' package, hpsv2 1.2.0:

- Pictures are not cropped: the longer side becomes the network's side, black fills the rest, and
  only then come CLIP's means and deviations.
- Values between 0 and 1 are resized by torch, not bytes by Pillow (`squares.by_torch`), and what
  overshoots is not cut. The package leaves smoothing to torchvision, which smooths since 0.17.
- Texts are cut by CLIP's own byte pairs after HTML's escapes are undone twice, quotation marks made
  straight, ligatures taken apart and wide letters made narrow. (The package leaves all but the
  escapes to ftfy, which also guesses at wrongly decoded characters; that is not done here.) They
  are padded with zeros and not with the end's number; both are right of the end, where a causal
  attention does not look, so the numbers are the same.
- A picture that has the longer side right and the shorter side not breaks the package; here it is
  filled up like any other.

Read next: `open_clip.py`, how its checkpoint is read.
"""

import html
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import pad

from palate.core.files import save_weights, write_json
from palate.core.problems import WeightsError, require
from palate.scorers.clip import CLIPScorer
from palate.scorers.clip_folder import CONFIG, WEIGHTS, load_network, load_words, save_words
from palate.scorers.kept import identity_of, open_kept
from palate.scorers.open_clip import layout_of, renamed
from palate.scorers.squares import MEAN, SPREAD, by_torch

KIND = "hpsv2"
# Both towers of ViT-H-14, the only architecture HPSv2 was published with.
_HEADS = 16
_ARITHMETIC = 1
# Curled quotation marks, ligatures, and the wide letters of East Asian typing.
_PLAINER = {
    **dict.fromkeys((0x2BC, *range(0x2018, 0x201C)), "'"),
    **dict.fromkeys(range(0x201C, 0x2020), '"'),
    **{code: normalize("NFKC", chr(code)) for code in (*range(0xFB00, 0xFB05), 0xFB06)},
    0xFB05: "ſt",
    **{code: normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFF0)},
}
_MARKS = re.compile(r"<\|(startoftext|endoftext)\|>", re.IGNORECASE)


def open_hps(
    model: str | Path,
    *,
    name: str | None = None,
    device: str | torch.device = "cpu",
    batch: int = 32,
) -> CLIPScorer:
    """Open a folder that `palate scorer convert --kind hpsv2` wrote.

    Args:
        model: The folder, or `owner/name`, or `owner/name@revision`.
        name: What reports call it; the folder's name when left out.
        device: Where it computes, in float32.
        batch: Pictures in memory at once. It does not change the scores.

    Raises:
        WeightsError: when it is no such folder, or is not as it was written.
    """
    folder = open_kept(model, KIND)
    network = load_network(folder)
    return CLIPScorer(
        name=name or folder.name,
        identity=identity_of(folder, KIND, _ARITHMETIC),
        network=network.to(device),
        pixels=partial(framed, side=network.config.vision_config.image_size),
        words=load_words(folder),
        scale="cosine",
        batch=batch,
        spelled=_spelled,
    )


def write_hps(tensors: Mapping[str, Tensor], words: Path, folder: Path) -> int:
    """Write the network and its tokenizer into a folder that exists.

    Args:
        tensors: In open_clip's own names.
        words: A folder with CLIP's tokenizer.
        folder: Where to.

    Returns:
        How many tensors were written.

    Raises:
        WeightsError: when names or shapes are not the network's, or the tokenizer not its own.
    """
    layout = layout_of(tensors, heads=_HEADS)
    tokenizer = load_words(words)
    count, end, last = len(tokenizer), tokenizer.eos_token_id, layout.vocabulary - 1
    require(
        end == last and count == layout.vocabulary,
        got=f"{words}: a tokenizer of {count} words that ends with {end}",
        need=f"{layout.vocabulary} words, ending with {last}, as the checkpoint has",
        fix="Give --base the folder of a CLIP model such as openai/clip-vit-large-patch14.",
        kind=WeightsError,
    )
    written = renamed(tensors, layout)
    save_weights(folder / WEIGHTS, written)
    write_json(folder / CONFIG, layout.config())
    tokenizer.model_max_length = layout.context
    save_words(tokenizer, folder)
    return len(written)


def framed(
    images: Sequence[UInt8[np.ndarray, " _ _ 3"]], side: int
) -> Float[Tensor, " n 3 side side"]:
    """Longer side to `side`, black around, CLIP's means and deviations; float32.

    Args:
        images: Pictures of any sizes.
        side: Pixels of the square's side.
    """
    return torch.stack([_framed(image, side) for image in images])


def _framed(image: UInt8[np.ndarray, " _ _ 3"], side: int) -> Float[Tensor, " 3 side side"]:
    scale = side / max(image.shape[:2])
    # `round` takes the even neighbour of a half, as the package does; a line stays a line.
    height, width = (max(1, round(size * scale)) for size in image.shape[:2])
    above, left = (side - height) // 2, (side - width) // 2
    below, right = side - height - above, side - width - left
    whole = pad(by_torch(image, height, width), (left, right, above, below))
    mean, spread = (torch.tensor(each)[:, None, None] for each in (MEAN, SPREAD))
    return (whole - mean) / spread


def _spelled(prompt: str) -> str:
    """A prompt as the package's tokenizer reads it, before its letters are made small."""
    plain = html.unescape(html.unescape(prompt)).translate(_PLAINER)
    # What marks the ends is spelled like any other word: no prompt may end itself.
    return " ".join(_MARKS.sub(r"<| \1 |>", plain).split())
