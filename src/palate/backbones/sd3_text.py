"""The text encoders of Stable Diffusion 3: two of CLIP, and T5 where the folder has it.

A folder may come without T5, which is by far the largest part. Its tokens are then zeros, as in
the training of these models, where each encoder was left out at random (Esser et al., 2024,
arXiv:2403.03206). The empty prompt is what the encoders make of it.

Read next: `sd3.py`, whose network hears them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from diffusers import SD3Transformer2DModel
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, T5EncoderModel, T5Tokenizer

from palate.backbones.backbone import Condition
from palate.backbones.folder import Part
from palate.backbones.parts import load_network, refusing
from palate.backbones.sizes import sizes_of
from palate.backbones.text import TextEncoder
from palate.core.problems import WeightsError, require

# Of T5, or of the zeros in its place; the pipeline's usual number.
LONG_TOKENS = 256


@final
class LongText:
    """T5's answer to a prompt, one vector per token.

    Args:
        tokenizer: Prompts to numbers.
        network: Numbers to vectors; frozen.
    """

    def __init__(self, tokenizer: T5Tokenizer, network: T5EncoderModel) -> None:
        self._tokenizer: Any = tokenizer
        self._network = network
        self.width = int(network.config.d_model)

    @classmethod
    def load(cls, encoder: Part, tokenizer: Part, device: torch.device) -> "LongText":
        """Load encoder and tokenizer from a pipeline folder.

        Raises:
            WeightsError: when either cannot be used.
        """
        network = load_network(T5EncoderModel, encoder, device)
        with refusing(tokenizer):
            words = T5Tokenizer.from_pretrained(tokenizer.folder, local_files_only=True)
        return cls(words, network)

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, " b tokens width"]:
        """What the encoder says; padding is read like words, as in the pipeline."""
        tokens = self._tokenizer(
            list(prompts),
            padding="max_length",
            max_length=LONG_TOKENS,
            truncation=True,
            return_tensors="pt",
        )
        device = self._network.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return self._network(tokens.input_ids.to(device))[0]


@final
class ThreeTexts:
    """Two CLIP encoders and, where the folder has it, T5, that read the same prompt.

    Args:
        first: Its layer before the last, and its pooled, projected answer.
        second: The same.
        long: T5, or None for zeros.
        width: Of one token's vector, as the network hears it.
    """

    def __init__(
        self, first: TextEncoder, second: TextEncoder, long: LongText | None, *, width: int
    ) -> None:
        self._first, self._second, self._long, self._width = first, second, long, width

    @classmethod
    def load(
        cls, parts: Mapping[str, Part], rules: Mapping[str, Any], device: torch.device
    ) -> "ThreeTexts":
        """Open the text encoders of a folder; there are no rules to them.

        Raises:
            WeightsError: when they do not fit each other or the network.
        """
        del rules
        names = ("joint_attention_dim", "pooled_projection_dim")
        heard = tuple(sizes_of(parts["transformer"], SD3Transformer2DModel, *names).values())
        first = _short(parts, "text_encoder", "tokenizer", device)
        second = _short(parts, "text_encoder_2", "tokenizer_2", device)
        long = _long(parts, device)
        # Their annotations allow configurations without a projection; these have one.
        one: Any = first.network.config
        two: Any = second.network.config
        text, pooled = (
            one.hidden_size + two.hidden_size,
            one.projection_dim + two.projection_dim,
        )
        wide = heard[0] if long is None else long.width
        require(
            first.tokens == second.tokens and text <= wide and (wide, pooled) == heard,
            got=f"{parts['transformer'].folder.parent}: text encoders of {first.tokens} and "
            f"{second.tokens} tokens, together {text} wide, pooled {pooled}, the third {wide} wide",
            need=f"equally many tokens, at most {heard[0]} wide, pooled {heard[1]}, the third "
            f"{heard[0]} wide, as the network hears them",
            fix="Copy or download the folder again; its parts are of different models.",
            kind=WeightsError,
        )
        return cls(first, second, long, width=heard[0])

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Per token `text`, [b, tokens, width], and of the whole `pooled`, [b, width]."""
        one, two = self._first(prompts, layers=True), self._second(prompts, layers=True)
        text = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        text = functional.pad(text, (0, self._width - text.shape[-1]))
        if self._long is None:
            long = text.new_zeros((len(prompts), LONG_TOKENS, self._width))
        else:
            long = self._long(prompts)
        pooled = torch.cat([one.text_embeds, two.text_embeds], dim=-1)
        return Condition({"text": torch.cat([text, long], dim=1), "pooled": pooled})

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """The longer of both CLIP counts of each prompt, and how many CLIP reads.

        T5 reads on after that, where there is one; the pooled vector never does.
        """
        one, tokens = self._first.token_counts(prompts)
        two, _ = self._second.token_counts(prompts)
        return [max(pair) for pair in zip(one, two, strict=True)], tokens


def _short(
    parts: Mapping[str, Part], encoder: str, tokenizer: str, device: torch.device
) -> TextEncoder:
    """One of the CLIP encoders."""
    kind = CLIPTextModelWithProjection
    return TextEncoder.load(kind, parts[encoder], parts[tokenizer], device)


def _long(parts: Mapping[str, Part], device: torch.device) -> LongText | None:
    """The third text encoder, where a folder has it.

    Raises:
        WeightsError: when only half of it is there.
    """
    names = ("text_encoder_3", "tokenizer_3")
    there = [name for name in names if name in parts]
    require(
        len(there) in (0, 2),
        got=f"{parts['transformer'].folder.parent} with {', '.join(there)} alone",
        need=f"{names[0]} and {names[1]}, or neither",
        fix="Copy or download the folder again; it may have been interrupted.",
        kind=WeightsError,
    )
    return LongText.load(parts[names[0]], parts[names[1]], device) if there else None
