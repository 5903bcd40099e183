"""Each family's own processor, made to do without videos: the other side of the parity tests."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
    Qwen3VLProcessor,
)

_SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
_FAMILIES = {
    "qwen2_5_vl": (Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil, {}, _SEEN),
    "qwen3_vl": (Qwen3VLProcessor, Qwen2VLImageProcessorPil, {}, _SEEN),
    "llava_onevision": (
        LlavaOnevisionProcessor,
        LlavaOnevisionImageProcessorPil,
        {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
        "<image>",
    ),
}


def opened(folder: Path) -> tuple[Any, Any]:
    """A function (chat, pictures) → the network's inputs, and the network in float32."""
    base, eyes, settings, _ = _FAMILIES[folder.name]

    class ImageOnly(base):
        def check_argument_for_proper_class(self, name, arg):
            if name == "video_processor":
                return type(None)
            return super().check_argument_for_proper_class(name, arg)

    processor = ImageOnly(
        image_processor=eyes.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        **settings,
    )
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    # All pictures belong to one text.
    return lambda chat, shown: processor(
        text=[chat], images=[list(shown)], return_tensors="pt"
    ), network


def picture_marks(folder: Path) -> str:
    """How a text for the family's processor says that a picture stands there."""
    return _FAMILIES[folder.name][3]
