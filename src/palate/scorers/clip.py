"""Scorers of CLIP's shape: how near a picture and its prompt lie in one space.

With a picture embedding p and a prompt embedding t, both of length one, the score is
exp(s)·⟨p, t⟩, where s is the model's own logit scale: CLIP's `logits_per_image`. Preference
scorers of this shape (PickScore, arXiv:2305.01569) are CLIP models whose softmax over two such
numbers is the probability that people prefer one picture, so the unit is kept. CLIPScore
(arXiv:2104.08718) is a multiple of the cosine alone, which ranks the same; `scale="cosine"` gives
the cosine.

Read next: `scorer.py`, the protocol.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from palate.core.files import digest_file, digest_json, read_json
from palate.core.hub import fetch
from palate.core.problems import DataError, Problem, WeightsError, require, unknown

Scale = Literal["logit", "cosine"]
_WEIGHTS = "model.safetensors"
_SHARDS = f"{_WEIGHTS}.index.json"
_WANTED = (_WEIGHTS, "model-*-of-*.safetensors", "*.json", "*.txt")
_PICTURES, _TOKENS = "preprocessor_config.json", "tokenizer_config.json"
# Part of the identity: raised when the same weights would give other numbers.
_ARITHMETIC = 1


@final
class CLIPScorer:
    """A CLIP model's opinion. Opened from a folder or a Hub id; see `open`."""

    def __init__(
        self,
        *,
        name: str,
        identity: str,
        network: Any,
        pictures: Any,
        words: Any,
        scale: Scale,
        batch: int,
    ) -> None:
        self.name, self.identity = name, identity
        self._network, self._pictures, self._words = network, pictures, words
        self._scale: Scale = scale
        self._batch = batch
        self._device = next(network.parameters()).device

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        name: str | None = None,
        scale: Scale = "logit",
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> "CLIPScorer":
        """Open a folder or Hub id that holds a transformers `CLIPModel` with its processors.

        Args:
            model: The folder, or `owner/name`, or `owner/name@revision`.
            name: What reports call it; the folder's name when left out.
            scale: `logit` for exp(s)·cosine, `cosine` for the cosine alone.
            device: Where it computes, in float32.
            batch: Pictures in memory at once. It does not change the scores.

        Raises:
            SettingError: for an unknown scale.
            WeightsError: when the folder is not a whole CLIP model in safetensors.
        """
        if scale not in get_args(Scale):
            raise unknown("scale", scale, get_args(Scale))
        folder = fetch(model, files=_WANTED)
        files = _files(folder)
        network, pictures, words = load_clip(folder)
        facts = {path.name: digest_file(path) for path in files}
        identity = digest_json({"files": facts, "scale": scale, "arithmetic": _ARITHMETIC})
        return cls(
            name=name or folder.name,
            identity=identity,
            network=network.to(device),
            pictures=pictures,
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
        require(
            len(images) == len(prompts),
            got=f"{len(images)} pictures and {len(prompts)} prompts",
            need="one prompt per picture",
            fix="Repeat a prompt for each of its pictures.",
            kind=DataError,
        )
        for place, image in enumerate(images):
            require(
                image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3,
                got=f"picture {place} of {image.dtype} {image.shape}",
                need="uint8 [height, width, 3]",
                fix="Give RGB values from 0 to 255.",
                kind=DataError,
            )
        starts = range(0, len(images), self._batch)
        parts = [
            self._rows(images[i : i + self._batch], prompts[i : i + self._batch]) for i in starts
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    @torch.no_grad()
    def _rows(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """The scores of one batch."""
        pixels = self._pictures(images=list(images), return_tensors="pt").pixel_values
        length = self._network.config.text_config.max_position_embeddings
        tokens = self._words(
            list(prompts),
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


def _files(folder: Path) -> list[Path]:
    """The files the numbers depend on, once it is sure that all are there."""
    found = [folder / _WEIGHTS] if (folder / _WEIGHTS).is_file() else []
    if not found and (folder / _SHARDS).is_file():
        found = sorted(folder.glob("model-*-of-*.safetensors"))
    pickled = sorted(p.name for p in folder.glob("*.bin"))
    only = f" (only {', '.join(pickled)}, a format that can run code when opened)"
    missing = [] if found else [_WEIGHTS + (only if pickled else "")]
    missing += [n for n in ("config.json", _PICTURES, _TOKENS) if not (folder / n).is_file()]
    require(
        not missing,
        got=f"{folder} without {', '.join(missing)}",
        need="a CLIP model with its image processor and tokenizer, weights in safetensors",
        fix="Copy the folder again, or save the model and its processor with save_pretrained.",
        kind=WeightsError,
    )
    texts = (p for p in folder.iterdir() if p.suffix in (".json", ".txt"))
    return [*found, *sorted(texts)]


def find_clip(model: str | Path) -> Path:
    """The folder of a CLIP model, from the Hub if need be.

    Raises:
        WeightsError: when it is not there, or a file of it is missing.
    """
    folder = fetch(model, files=_WANTED)
    _files(folder)
    return folder


def load_clip(folder: Path) -> tuple[Any, Any, Any]:
    """Network, image processor and tokenizer, each by a class that we name.

    Raises:
        WeightsError: when they cannot be read, or are not a whole CLIP model.
    """
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
    from transformers.utils import logging

    kind = _mapping(folder / "config.json").get("model_type")
    require(
        kind == "clip",
        got=f"{folder}: a model of type {kind!r}",
        need="type 'clip'",
        fix="Use a CLIP model, such as the ones PickScore and CLIPScore are.",
        kind=WeightsError,
    )
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    loader: Any = CLIPModel
    try:
        network, facts = loader.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
        pictures = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        words = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    # A stranger's folder in a library's hands: it dislikes bad ones in many ways.
    except Exception as error:
        raise _unusable(folder, (str(error).strip() or type(error).__name__)) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    missing = sorted(facts["missing_keys"])
    broken = [n for n, t in network.state_dict().items() if not bool(torch.isfinite(t).all())]
    if missing or broken:
        raise _unusable(folder, f"missing {missing[:3]}, not finite {broken[:3]}")
    return network.requires_grad_(False).eval(), pictures, words


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        value = read_json(path)
    except DataError as error:
        raise _unusable(path.parent, error.got) from error
    return value if isinstance(value, dict) else {}


def _unusable(folder: Path, reason: str) -> Problem:
    return WeightsError(
        got=f"{folder}: {reason.splitlines()[0][:300]}",
        need="weights and settings of a whole CLIP model that fit each other",
        fix="Copy or download the folder again.",
    )
