"""CLIP's text side: prompts to one vector per token, always in float32, never trained.

Read next: `sd.py`, which reads one such encoder, and `sdxl.py`, which reads two.
"""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from palate.backbones.folder import Part
from palate.backbones.parts import load_network, refusing

Network = CLIPTextModel | CLIPTextModelWithProjection


@final
class TextEncoder:
    """One text encoder with its tokenizer.

    Args:
        tokenizer: Prompts to numbers.
        network: Numbers to vectors.
        masked: Tell padding apart from words, as some folders of the 2.x line ask for.

    Attributes:
        network: The encoder, frozen.
        tokens: How many tokens are read of a prompt, with its start and end.
    """

    def __init__(self, tokenizer: CLIPTokenizer, network: Network, *, masked: bool = False) -> None:
        self._tokenizer, self._masked = tokenizer, masked
        self.network = network
        self.tokens = min(tokenizer.model_max_length, network.config.max_position_embeddings)

    @classmethod
    def load(
        cls,
        kind: type[Network],
        encoder: Part,
        tokenizer: Part,
        device: torch.device,
        *,
        masked: bool = False,
    ) -> "TextEncoder":
        """Load an encoder and its tokenizer from a pipeline folder.

        Args:
            kind: The encoder's class.
            encoder: Its part of the folder.
            tokenizer: The tokenizer's.
            device: Where the encoder is to live.
            masked: Tell padding apart even where the encoder's own settings do not ask for it.

        Raises:
            WeightsError: when either cannot be used.
        """
        network = load_network(kind, encoder, device)
        with refusing(tokenizer):
            words = CLIPTokenizer.from_pretrained(tokenizer.folder, local_files_only=True)
        asked = bool(network.config.to_dict().get("use_attention_mask"))
        return cls(words, network, masked=masked or asked)

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt with its start and end, and how many the encoder reads."""
        # Not verbose: the tokenizer would itself warn of prompts that are too long, only once.
        found = self._tokenizer(list(prompts), truncation=False, verbose=False)
        return [len(tokens) for tokens in found["input_ids"]], self.tokens

    def __call__(self, prompts: Sequence[str], *, layers: bool = False) -> Any:
        """The network's answer; words beyond its length are cut off, as diffusers does.

        Args:
            prompts: What to read.
            layers: Answer with the states between the layers as well.
        """
        tokens = self._tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokens,
            truncation=True,
            return_tensors="pt",
        )
        device = self.network.device
        mask: Tensor | None = tokens.attention_mask.to(device) if self._masked else None
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return self.network(
                tokens.input_ids.to(device), attention_mask=mask, output_hidden_states=layers
            )
