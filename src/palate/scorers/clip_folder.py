"""The folder of a CLIP model: what must be in it, and its parts opened by classes that we name.

Read next: `clip.py`, the scorer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from palate.core.files import digest_file, write_json
from palate.core.hub import fetch
from palate.core.problems import WeightsError, require
from palate.scorers.opening import mapping, quietly, unusable

Shapes = Mapping[str, tuple[int, ...]]
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_KIND = "CLIP model"
WANTED = (WEIGHTS, "model-*-of-*.safetensors", "*.json", "*.txt")
_SHARDS = f"{WEIGHTS}.index.json"
_PICTURES, _TOKENS = "preprocessor_config.json", "tokenizer_config.json"
_WHENCE = ("is_local", "local_files_only", "name_or_path")


def find_clip(model: str | Path) -> Path:
    """The folder of a CLIP model, from the Hub if need be.

    Raises:
        WeightsError: when it is not there, or a file of it is missing.
    """
    folder = fetch(model, files=WANTED)
    _files(folder)
    return folder


def load_clip(folder: Path) -> tuple[Any, Any, Any]:
    """Network, image processor and tokenizer, each by a class that we name.

    Raises:
        WeightsError: when they cannot be read, or are not a whole CLIP model.
    """
    return load_network(folder), *load_processors(folder)


def load_network(folder: Path) -> Any:
    """Transformers' `CLIPModel` of a folder, whole, finite, in float32, and still.

    Raises:
        WeightsError: when it cannot be read, or is not a whole CLIP model.
    """
    from transformers import CLIPModel

    return load_named(CLIPModel, folder, "clip")


def load_named(loader: Any, folder: Path, called: str) -> Any:
    """A network of transformers' class `loader` from a folder whose config calls it `called`.

    Raises:
        WeightsError: when it cannot be read, is another one, or is not whole.
    """
    _check_kind(folder, called)
    with quietly(folder, _KIND):
        network, facts = loader.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    missing = sorted(facts["missing_keys"])
    broken = [n for n, t in network.state_dict().items() if not bool(torch.isfinite(t).all())]
    if missing or broken:
        raise unusable(folder, f"missing {missing[:3]}, not finite {broken[:3]}", _KIND)
    return network.requires_grad_(False).eval()


def expected_of(folder: Path, *, only_sees: bool = False) -> tuple[Mapping[str, Any], Shapes]:
    """What a CLIP folder's config says: settings, and the name and shape of every tensor.

    Args:
        folder: Where `config.json` is. No weights are read.
        only_sees: Of the tower that sees and its projection alone.

    Raises:
        WeightsError: when the config cannot be read, or is of another model.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPVisionModelWithProjection

    _check_kind(folder, "clip")
    with quietly(folder, _KIND), torch.device("meta"):
        config: Any = CLIPConfig.from_pretrained(folder, local_files_only=True)
        if only_sees:
            width, config = config.projection_dim, config.vision_config
            config.projection_dim = width
        network: Any = (CLIPVisionModelWithProjection if only_sees else CLIPModel)(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return config.to_dict(), shapes


def load_processors(folder: Path) -> tuple[Any, Any]:
    """Image processor and tokenizer of a folder.

    Raises:
        WeightsError: when they cannot be read.
    """
    from transformers import CLIPImageProcessorPil

    with quietly(folder, _KIND):
        pictures = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return pictures, load_words(folder)


def load_words(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        WeightsError: when it cannot be read.
    """
    from transformers import CLIPTokenizer

    _refuse(folder, _gone(folder, _TOKENS), "the tokenizer of a CLIP model")
    with quietly(folder, _KIND):
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def save_words(words: Any, folder: Path) -> None:
    """Write a tokenizer, without a word on where it came from: the same words, the same files."""
    words.save_pretrained(folder)
    told = mapping(folder / _TOKENS, _KIND)
    write_json(folder / _TOKENS, {n: v for n, v in told.items() if n not in _WHENCE})


def processors_of(folder: Path, others: str | Path | None = None) -> Path:
    """Where a model's image processor and tokenizer are: its own folder, or that of `others`.

    Raises:
        WeightsError: when `others` is needed and cannot be found, or lacks one of the two.
    """
    if others is None or not _without(folder):
        return folder
    lent = fetch(others, files=("*.json", "*.txt"))
    _refuse(lent, _without(lent), "an image processor and a tokenizer")
    return lent


def facts_of(folder: Path, processors: Path) -> dict[str, str]:
    """Digests of the files a score depends on, once it is sure that all are there.

    Raises:
        WeightsError: when one is missing.
    """
    if processors == folder:
        return {path.name: digest_file(path) for path in _files(folder)}
    own = [*_weights(folder, _gone(folder, CONFIG)), folder / CONFIG]
    lent = {f"processors/{path.name}": digest_file(path) for path in _texts(processors)}
    return {path.name: digest_file(path) for path in own} | lent


def weights_of(folder: Path) -> list[Path]:
    """The files of weights of a model that has its config.

    Raises:
        WeightsError: when they are missing.
    """
    return _weights(folder, _gone(folder, CONFIG))


def _files(folder: Path) -> list[Path]:
    """The files the numbers depend on, once it is sure that all are there."""
    gone = _gone(folder, CONFIG, _PICTURES, _TOKENS)
    return [*_weights(folder, gone), *_texts(folder)]


def _weights(folder: Path, gone: Sequence[str]) -> list[Path]:
    """The files of weights, once it is sure that they are there and nothing else is gone."""
    found = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else []
    if not found and (folder / _SHARDS).is_file():
        found = sorted(folder.glob("model-*-of-*.safetensors"))
    pickled = sorted(p.name for p in folder.glob("*.bin"))
    only = f" (only {', '.join(pickled)}, a format that can run code when opened)"
    missing = [*([] if found else [WEIGHTS + (only if pickled else "")]), *gone]
    _refuse(folder, missing, "a CLIP model with its image processor and tokenizer, in safetensors")
    return found


def _check_kind(folder: Path, called: str) -> None:
    kind = mapping(folder / CONFIG, _KIND).get("model_type")
    require(
        kind == called,
        got=f"{folder}: a model of type {kind!r}",
        need=f"type {called!r}",
        fix="Use a CLIP model, such as the ones PickScore and CLIPScore are.",
        kind=WeightsError,
    )


def _without(folder: Path) -> list[str]:
    return _gone(folder, _PICTURES, _TOKENS)


def _gone(folder: Path, *names: str) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


def _refuse(folder: Path, missing: Sequence[str], need: str) -> None:
    require(
        not missing,
        got=f"{folder} without {', '.join(missing)}",
        need=need,
        fix="Copy the folder again, or save the model and its processor with save_pretrained.",
        kind=WeightsError,
    )


def _texts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".json", ".txt"))
