"""Stable Diffusion 1.x and 2.x: one UNet, one CLIP text encoder, predicting noise or velocity.

Which of the two it predicts, and on which noise schedule, stands in the folder's scheduler
configuration. The network is told of a prompt by one vector per token, and of nothing else.

Read next: `latent.py`, what all families share; `sdxl.py`, where the text is read twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from transformers import CLIPTextModel

from palate.backbones.backbone import Condition
from palate.backbones.folder import Part
from palate.backbones.latent import Family
from palate.backbones.schedule import SCHEDULERS
from palate.backbones.text import TextEncoder
from palate.core.streams import Streams

PARTS = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": SCHEDULERS,
}
# What diffusers' networks have where their configuration does not say.
_WIDTH = 1280


@final
class OneText:
    """The last layer of one text encoder."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    @classmethod
    def load(
        cls, parts: Mapping[str, Part], rules: Mapping[str, Any], device: torch.device
    ) -> "OneText":
        """Open the text encoder of a folder; there are no rules to it."""
        del rules
        return cls(
            TextEncoder.load(CLIPTextModel, parts["text_encoder"], parts["tokenizer"], device)
        )

    def embed(self, prompts: Sequence[str]) -> Condition:
        """One vector per token: `text`, [b, tokens, width]."""
        return Condition({"text": self._encoder(prompts).last_hidden_state})

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt with its start and end, and how many are read."""
        return self._encoder.token_counts(prompts)


@final
class TextInputs:
    """The network hears the text and nothing else; sizes are not among what it was taught.

    Args:
        width: Of one token's vector.
    """

    def __init__(self, width: int) -> None:
        self._width = width

    @classmethod
    def of(cls, unet: Part) -> "TextInputs":
        """The inputs of a folder's network."""
        return cls(unet.settings.get("cross_attention_dim", _WIDTH))

    def __call__(self, condition: Condition, height: int, width: int) -> Mapping[str, Any]:
        """Only the text; the size in pixels is in the latents already."""
        del height, width
        return {"encoder_hidden_states": condition.tensors["text"]}

    def question(self) -> Condition:
        """Two rows of eight tokens that no prompt has."""
        return Condition({"text": Streams(0)("reference probe text").normal((2, 8, self._width))})


FAMILY = Family(
    kind="sd",
    parts=PARTS,
    inputs=TextInputs.of,
    text=OneText.load,
    rules={},
    unread={
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    },
)
