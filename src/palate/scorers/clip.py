"""Scorers of CLIP's shape: how near a picture and its prompt lie in one space.

With a picture embedding p and a prompt embedding t, both of length one, the score is
exp(s)·⟨p, t⟩, where s is the model's own logit scale: CLIP's `logits_per_image`. Preference
scorers of this shape (PickScore, arXiv:2305.01569) are CLIP models whose softmax over two such
numbers is the probability that people prefer one picture, so the unit is kept. CLIPScore
(arXiv:2104.08718) is a multiple of the cosine alone, which ranks the same; `scale="cosine"` gives
the cosine.

Read next: `clip_folder.py`, how a folder is opened; `pickscore.py` and `hps.py`, the ones that were
taught people's preferences.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from palate.core.files import digest_json
from palate.core.hub import fetch
from palate.core.problems import WeightsError, require, unknown
from palate.scorers.clip_folder import (
    WANTED,
    facts_of,
    load_network,
    load_processors,
    processors_of,
)
from palate.scorers.kept import kind_of
from palate.scorers.squares import in_batches

Scale = Literal["logit", "cosine"]
Pixels = Callable[[Sequence[UInt8[np.ndarray, " _ _ 3"]]], Float[Tensor, " n 3 _ _"]]
# What folders of ours may say of themselves that are scored as CLIP is.
_SCORED_ALIKE = (None, "pickscore")
# Part of the identity: raised when the same weights would give other numbers.
_ARITHMETIC = 1


@final
class CLIPScorer:
    """A CLIP model's opinion. Opened from a folder or a Hub id; see `open`.

    Args:
        name: What reports call it.
        identity: Digest of what its numbers depend on.
        network: transformers' `CLIPModel`, on its device.
        pixels: Pictures of any sizes to what the network sees.
        words: Its tokenizer.
        scale: `logit` for exp(s)·cosine, `cosine` for the cosine alone.
        batch: Pictures in memory at once.
        spelled: What is done to a prompt before its words are cut.
    """

    def __init__(
        self,
        *,
        name: str,
        identity: str,
        network: Any,
        pixels: Pixels,
        words: Any,
        scale: Scale,
        batch: int,
        spelled: Callable[[str], str] = str,
    ) -> None:
        self.name, self.identity = name, identity
        self._network, self._pixels, self._words = network, pixels, words
        self._scale: Scale = scale
        self._batch, self._spelled = batch, spelled
        self._device = next(network.parameters()).device

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        name: str | None = None,
        scale: Scale = "logit",
        processors: str | Path | None = None,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> "CLIPScorer":
        """Open a folder or Hub id that holds a transformers `CLIPModel` with its processors.

        Args:
            model: The folder, or `owner/name`, or `owner/name@revision`.
            name: What reports call it; the folder's name when left out.
            scale: `logit` for exp(s)·cosine, `cosine` for the cosine alone.
            processors: Where image processor and tokenizer are when the model has none.
            device: Where it computes, in float32.
            batch: Pictures in memory at once. It does not change the scores.

        Raises:
            SettingError: for an unknown scale.
            WeightsError: when the folder is not a whole CLIP model in safetensors, or says that it
                is a scorer of another kind.
        """
        if scale not in get_args(Scale):
            raise unknown("scale", scale, get_args(Scale))
        folder = fetch(model, files=WANTED)
        _check_kind(folder)
        eyes = processors_of(folder, processors)
        facts = facts_of(folder, eyes)
        network = load_network(folder)
        pictures, words = load_processors(eyes)

        def pixels(images: Sequence[np.ndarray]) -> Tensor:
            return pictures(images=list(images), return_tensors="pt").pixel_values

        return cls(
            name=name or folder.name,
            identity=digest_json({"files": facts, "scale": scale, "arithmetic": _ARITHMETIC}),
            network=network.to(device),
            pixels=pixels,
            words=words,
            scale=scale,
            batch=batch,
        )

    def score(
        self, images: Sequence[UInt8[np.ndarray, " _ _ 3"]], prompts: Sequence[str]
    ) -> Float64[np.ndarray, " n"]:
        """One number for each picture with its prompt; words beyond the model's length are cut.

        Raises:
            DataError: when pictures and prompts differ in number, or a picture in form.
        """
        return in_batches(self._rows, images, prompts, self._batch)

    @torch.no_grad()
    def _rows(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """The scores of one batch."""
        pixels = self._pixels(images)
        length = self._network.config.text_config.max_position_embeddings
        tokens = self._words(
            [self._spelled(prompt) for prompt in prompts],
            padding="max_length",
            max_length=min(length, self._words.model_max_length),
            truncation=True,
            return_tensors="pt",
        )
        answer = self._network(
            input_ids=tokens.input_ids.to(self._device),
            attention_mask=tokens.attention_mask.to(self._device),
            pixel_values=pixels.to(self._device, torch.float32),
        )
        # The whole table has every picture against every prompt; the diagonal is what was asked.
        picture, prompt = answer.image_embeds.double(), answer.text_embeds.double()
        cosine = (picture * prompt).sum(1) / (picture.norm(dim=1) * prompt.norm(dim=1))
        factor = {"logit": self._network.logit_scale.double().exp(), "cosine": 1.0}[self._scale]
        return (cosine * factor).cpu().numpy()


def _check_kind(folder: Path) -> None:
    """Refuse a folder of ours that is scored in another way: its numbers would look like CLIP's."""
    kind = kind_of(folder)
    require(
        kind in _SCORED_ALIKE,
        got=f"{folder}, a scorer of kind {kind!r}",
        need="a CLIP model",
        fix="Name it by its own kind.",
        kind=WeightsError,
    )
