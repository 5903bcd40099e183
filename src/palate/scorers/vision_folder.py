"""The folder of a vision-language model: what must be in it, and its parts by classes we name.

Three families are known, Qwen2.5-VL, Qwen3-VL and LLaVA-OneVision on Qwen2, in the layout in which
transformers publishes them. Their own processors want a video library or torchvision; here the
tokenizer and the image processor are opened alone, and the few lines between them are in
`vision.py`. A folder's chat template is a program of its makers and is not run.

Read next: `vision.py`, which asks the model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from palate.core.files import digest_file
from palate.core.problems import WeightsError, require
from palate.scorers.opening import mapping, quietly, unusable

_KIND: Final = "vision-language model"
WANTED: Final = ("model*.safetensors", "*.json", "*.txt")
_WEIGHTS: Final = ("model.safetensors", "model-*-of-*.safetensors")
_NEEDED: Final = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
Shown = tuple[dict[str, Any], list[int]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What is one family's own. All of them chat in Qwen's marks.

    Attributes:
        network: Gives transformers' class of the whole model.
        pictures: Gives the class of its image processor that needs Pillow only.
        before: Marks that stand before a picture.
        pixel: The mark of which a picture has one for each of its tokens.
        after: Marks that stand behind it.
        show: Network, image processor and pictures, of which there is one at least → what the
            network takes of them, and how many tokens each has.
        where: Where pixels are among tokens → what the network wants to be told of it.
    """

    network: Callable[[], Any]
    pictures: Callable[[], Any]
    before: tuple[str, ...]
    pixel: str
    after: tuple[str, ...]
    show: Callable[[Any, Any, Sequence[np.ndarray]], Shown]
    where: Callable[[Tensor], dict[str, Any]]


def _qwen2_5() -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration


def _qwen3() -> Any:
    from transformers import Qwen3VLForConditionalGeneration

    return Qwen3VLForConditionalGeneration


def _qwen_pictures() -> Any:
    from transformers import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil


def _qwen_show(network: Any, pictures: Any, images: Sequence[np.ndarray]) -> Shown:
    del network
    seen = dict(pictures(images=list(images), return_tensors="pt"))
    merged = pictures.merge_size**2
    return seen, [int(patches) // merged for patches in seen["image_grid_thw"].prod(dim=1)]


def _qwen_where(pixels: Tensor) -> dict[str, Any]:
    """From which their places in space follow."""
    return {"mm_token_type_ids": pixels.int()}


def _qwen(network: Callable[[], Any]) -> Family:
    return Family(
        network=network,
        pictures=_qwen_pictures,
        before=("<|vision_start|>",),
        pixel="<|image_pad|>",
        after=("<|vision_end|>",),
        show=_qwen_show,
        where=_qwen_where,
    )


def _llava() -> Any:
    from transformers import LlavaOnevisionForConditionalGeneration

    return LlavaOnevisionForConditionalGeneration


def _llava_pictures() -> Any:
    from transformers import LlavaOnevisionImageProcessorPil

    return LlavaOnevisionImageProcessorPil


def _llava_show(network: Any, pictures: Any, images: Sequence[np.ndarray]) -> Shown:
    """One picture is seen whole and in pieces; of several, each is seen whole, made square."""
    seen = dict(pictures(images=[list(images)], return_tensors="pt"))
    if len(images) > 1:
        sight = network.config.vision_config
        # One row of patches after the other, and the mark of a line's end.
        return seen, [(sight.image_size // sight.patch_size) ** 2 + 1] * len(images)
    with torch.no_grad():
        there = {name: value.to(network.device) for name, value in seen.items()}
        found = network.get_image_features(**there, return_dict=True).pooler_output
    return seen, [len(tokens) for tokens in found]


def _nothing(pixels: Tensor) -> dict[str, Any]:
    del pixels
    return {}


FAMILIES: Final[Mapping[str, Family]] = {
    "qwen2_5_vl": _qwen(_qwen2_5),
    "qwen3_vl": _qwen(_qwen3),
    "llava_onevision": Family(
        network=_llava,
        pictures=_llava_pictures,
        before=(),
        pixel="<image>",
        after=(),
        show=_llava_show,
        where=_nothing,
    ),
}


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


def load(folder: Path, dtype: torch.dtype) -> tuple[Family, Any, Any, Any]:
    """Family, network, image processor and tokenizer.

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
    from transformers import AutoTokenizer

    loader, eyes, words = family.network(), family.pictures(), AutoTokenizer
    with quietly(folder, _KIND):
        network, facts = loader.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=dtype,
        )
        pictures = eyes.from_pretrained(folder, local_files_only=True)
        tokenizer = words.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    missing = sorted(facts["missing_keys"])
    broken = [n for n, t in network.named_parameters() if not bool(torch.isfinite(t).all())]
    if missing or broken:
        raise unusable(folder, f"missing {missing[:3]}, not finite {broken[:3]}", _KIND)
    return family, network.requires_grad_(False).eval(), pictures, tokenizer
