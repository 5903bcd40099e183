"""ImageReward: a network that reads the prompt while it looks at the picture.

Trained on people's rankings of pictures for prompts from DiffusionDB (Xu et al., 2023,
"ImageReward", arXiv:2304.05977). The authors standardise the reward by two constants. Its training
fitted the logistic function of the difference of two rewards of one prompt to which of them people
preferred, before standardising: multiply by the deviation, 1.033, to read it so.

Read next: `imagereward_network.py`, the network and the checkpoint's names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from palate.core.files import save_weights, write_json
from palate.core.hub import fetch
from palate.core.problems import WeightsError, require
from palate.scorers.imagereward_network import Network, converted
from palate.scorers.learned import (
    CONFIG,
    FORMAT,
    TOKENIZER,
    WEIGHTS,
    identity_of,
    read_folder,
    refusing,
    tokens_of,
)
from palate.scorers.squares import in_batches, squares

KIND = "imagereward"
# The authors' constants: they belong to their checkpoint and are nowhere in its tensors.
_REWARD = {"mean": 0.16717363830052426, "deviation": 1.0333394966054072, "length": 35}
_WANTED = (CONFIG, WEIGHTS, "manifest.json", f"{TOKENIZER}/*")
_SPELLING = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
# Part of the identity: raised when the same weights would give other numbers.
_ARITHMETIC = 1


@final
class ImageRewardScorer:
    """ImageReward's opinion. Opened from a folder or a Hub id; see `open`."""

    def __init__(
        self,
        *,
        name: str,
        network: Network,
        words: Any,
        settings: Mapping[str, Any],
        device: str | torch.device,
        batch: int,
    ) -> None:
        self.name = name
        self.identity = identity_of(KIND, _ARITHMETIC, settings, network, words)
        self._network, self._words = network.to(device), words
        self._settings, self._batch = settings, batch
        self._device = torch.device(device)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        name: str | None = None,
        batch: int = 16,
    ) -> "ImageRewardScorer":
        """Open a folder that `palate scorer convert` made of the published checkpoint.

        Args:
            folder: The folder, or `owner/name`, or `owner/name@revision`.
            device: Where it computes, in float32.
            name: What reports call it; the folder's name when left out.
            batch: Pictures in memory at once. It does not change the scores.

        Raises:
            WeightsError: when the folder is none of ImageReward, or is damaged.
        """
        place = fetch(folder, files=_WANTED)
        require(
            all((place / part).exists() for part in (CONFIG, WEIGHTS, TOKENIZER)),
            got=f"{place} without {CONFIG}, {WEIGHTS} and {TOKENIZER}",
            need="ImageReward as a folder",
            fix="Make one: palate scorer convert ImageReward.pt FOLDER --kind imagereward.",
            kind=WeightsError,
        )
        found = read_folder(place)
        require(
            found.kind == KIND,
            got=f"{place}: a scorer of kind {found.kind}",
            need=f"one of kind {KIND}",
            fix="Name it by its own kind.",
            kind=WeightsError,
        )
        with refusing(place):
            network = Network.holding(found.settings, found.weights)
            words = _tokenizer(place / TOKENIZER)
        return cls(
            name=name or place.name,
            network=network.requires_grad_(False).eval(),
            words=words,
            settings=found.settings,
            device=device,
            batch=batch,
        )

    @torch.no_grad()
    def score(
        self, images: Sequence[UInt8[np.ndarray, " _ _ 3"]], prompts: Sequence[str]
    ) -> Float64[np.ndarray, " n"]:
        """One reward for each picture with its prompt; words beyond the 35th token are cut.

        Raises:
            DataError: when pictures and prompts differ in number, or a picture in form.
        """
        return in_batches(self._rows, images, prompts, self._batch)

    def _rows(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """The rewards of one batch."""
        reward = self._settings["reward"]
        pixels = squares(images, self._settings["vision"]["image_size"]).to(self._device)
        tokens = tokens_of(self._words, prompts, reward["length"], self._device)
        raw = self._network(pixels, tokens.input_ids, tokens.attention_mask).double()
        return ((raw - reward["mean"]) / reward["deviation"]).cpu().numpy()


def write_imagereward(
    folder: Path, tensors: Mapping[str, Tensor], base: str | Path
) -> Mapping[str, Any]:
    """Write a published checkpoint's tensors as a folder that `ImageRewardScorer` opens.

    Args:
        folder: A folder that exists; `core.files.new_folder` gives one and its manifest.
        tensors: As in `ImageReward.pt`, by its own names.
        base: A folder or Hub id with the tokenizer of bert-base-uncased, which the checkpoint
            does not hold.

    Returns:
        What was written as its settings.

    Raises:
        WeightsError: when the tensors are not ImageReward's, or the tokenizer not its own.
    """
    ours, shapes = converted(tensors)
    source = fetch(base, files=_SPELLING)
    with refusing(source):
        words = _tokenizer(source)
        # The two tokens BLIP adds. ImageReward uses neither, but a prompt may spell them.
        words.add_special_tokens({"bos_token": "[DEC]"})
        words.add_special_tokens({"extra_special_tokens": ["[ENC]"]})
    size = shapes["text"]["vocab_size"]
    require(
        len(words) == size,
        got=f"{base}: a tokenizer of {len(words)} words with [DEC] and [ENC]",
        need=f"one of {size}, as many as the checkpoint knows",
        fix="Give the folder of bert-base-uncased.",
        kind=WeightsError,
    )
    settings = {**shapes, "reward": _REWARD}
    write_json(folder / CONFIG, {"palate_scorer": KIND, "format": FORMAT, **settings})
    save_weights(folder / WEIGHTS, ours)
    words.save_pretrained(folder / TOKENIZER)
    return settings


def _tokenizer(folder: Path) -> Any:
    """BERT's tokenizer from a folder; a vocabulary alone is enough."""
    from transformers import BertTokenizer

    require(
        any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")),
        got=f"{folder} without tokenizer.json or vocab.txt",
        need="the tokenizer of bert-base-uncased",
        fix="Give a folder that holds it.",
        kind=WeightsError,
    )
    return BertTokenizer.from_pretrained(folder, local_files_only=True)
