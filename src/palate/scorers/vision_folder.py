"""The folder of a vision-language model: what must be in it, and its parts by classes we name.

Two families are known, Qwen2.5-VL and Qwen3-VL, in the layout in which they are published. Their
own processors want a video library; here the tokenizer and the image processor are opened alone,
and the few lines between them are in `vision.py`. A folder's chat template is a program of its
makers and is not run.

Read next: `vision.py`, which asks the model.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from palate.core.files import digest_file
from palate.core.problems import WeightsError, require
from palate.scorers.opening import mapping, quietly, unusable

_KIND: Final = "vision-language model"
WANTED: Final = ("model*.safetensors", "*.json", "*.txt")
_WEIGHTS: Final = ("model.safetensors", "model-*-of-*.safetensors")
_NEEDED: Final = ("config.json", "preprocessor_config.json", "tokenizer_config.json")


def _qwen2_5() -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration


def _qwen3() -> Any:
    from transformers import Qwen3VLForConditionalGeneration

    return Qwen3VLForConditionalGeneration


FAMILIES: Final[Mapping[str, Callable[[], Any]]] = {"qwen2_5_vl": _qwen2_5, "qwen3_vl": _qwen3}


def facts_of(folder: Path) -> dict[str, str]:
    """Digest of every file the answers depend on, once it is sure that all are there.

    Raises:
        WeightsError: when one is missing, or weights are there in other formats only.
    """
    weights = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    only = f" (only {', '.join(pickled)}, a format that can run code when opened)"
    missing = [] if weights else [_WEIGHTS[0] + (only if pickled else "")]
    missing += [name for name in _NEEDED if not (folder / name).is_file()]
    require(
        not missing,
        got=f"{folder} without {', '.join(missing)}",
        need="a vision-language model with its image processor and tokenizer, in safetensors",
        fix="Copy the folder again, or save model, tokenizer and processor with save_pretrained.",
        kind=WeightsError,
    )
    texts = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt"))
    return {path.name: digest_file(path) for path in (*weights, *texts)}


def load(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Network, image processor and tokenizer.

    Raises:
        WeightsError: when they cannot be read, are of another family, or are not whole.
    """
    called = mapping(folder / "config.json", _KIND).get("model_type")
    family = FAMILIES.get(str(called))
    if family is None:
        raise WeightsError(
            got=f"{folder}: a model of type {called!r}",
            need=f"one of the types {', '.join(FAMILIES)}",
            fix="Serve other models with vLLM or SGLang and ask them as endpoint:NAME.",
        )
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

    loader, words = family(), AutoTokenizer
    with quietly(folder, _KIND):
        network, facts = loader.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=dtype,
        )
        pictures = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        tokenizer = words.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    missing = sorted(facts["missing_keys"])
    broken = [n for n, t in network.named_parameters() if not bool(torch.isfinite(t).all())]
    if missing or broken:
        raise unusable(folder, f"missing {missing[:3]}, not finite {broken[:3]}", _KIND)
    return network.requires_grad_(False).eval(), pictures, tokenizer
