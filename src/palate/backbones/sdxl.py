"""Stable Diffusion XL: one UNet, two CLIP text encoders, and the sizes a picture once had.

Three things the network is told of (arXiv:2307.01952, section 2): the layer before the last of
both encoders, side by side; one pooled vector of the second; and six numbers per picture, its size
before it was resized, where it was cropped, and the size it is to have. Training gives the true
ones; where a condition has none, the picture counts as uncropped and made at its present size.

Read next: `latent.py`, what all families share; `sd.py`, the simpler family.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from palate.backbones.backbone import Condition, Sizes
from palate.backbones.folder import Part
from palate.backbones.latent import Family
from palate.backbones.schedule import SCHEDULERS
from palate.backbones.text import TextEncoder
from palate.core.problems import WeightsError, require
from palate.core.streams import Streams

PARTS = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": SCHEDULERS,
}
ZEROS = "force_zeros_for_empty_prompt"
# What diffusers' networks have where their configuration does not say.
_WIDTH = 1280


@final
class TwoTexts:
    """Two text encoders that read the same prompt.

    Args:
        first: Its layer before the last is used.
        second: The same, and its pooled, projected answer.
        zeros: The empty prompt is all zeros instead of what the encoders make of it.
    """

    def __init__(self, first: TextEncoder, second: TextEncoder, *, zeros: bool) -> None:
        self._first, self._second, self._zeros = first, second, zeros

    @classmethod
    def load(
        cls, parts: Mapping[str, Part], rules: Mapping[str, Any], device: torch.device
    ) -> "TwoTexts":
        """Open both text encoders of a folder.

        Raises:
            WeightsError: when they do not fit each other or the network.
        """
        first = TextEncoder.load(CLIPTextModel, parts["text_encoder"], parts["tokenizer"], device)
        second = TextEncoder.load(
            CLIPTextModelWithProjection, parts["text_encoder_2"], parts["tokenizer_2"], device
        )
        one, two, heard = first.network.config, second.network.config, Heard.by(parts["unet"])
        made = (one.hidden_size + two.hidden_size, two.projection_dim)
        require(
            first.tokens == second.tokens and made == (heard.text, heard.pooled),
            got=f"{parts['unet'].folder.parent}: text encoders of {first.tokens} and "
            f"{second.tokens} tokens, together {made[0]} wide, pooled {made[1]}",
            need=f"equally many tokens, {heard.text} wide and pooled {heard.pooled}, "
            "as the network hears them",
            fix="Copy or download the folder again; its parts are of different models.",
            kind=WeightsError,
        )
        return cls(first, second, zeros=bool(rules[ZEROS]))

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Per token `text`, [b, tokens, width], and of the whole `pooled`, [b, width]."""
        one, two = self._first(prompts, layers=True), self._second(prompts, layers=True)
        text = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        pooled = two.text_embeds
        if self._zeros:
            empty = torch.tensor([not prompt for prompt in prompts], device=text.device)
            text = text.masked_fill(empty[:, None, None], 0.0)
            pooled = pooled.masked_fill(empty[:, None], 0.0)
        return Condition({"text": text, "pooled": pooled})

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """The longer of both counts of each prompt, and how many are read."""
        one, tokens = self._first.token_counts(prompts)
        two, _ = self._second.token_counts(prompts)
        return [max(pair) for pair in zip(one, two, strict=True)], tokens


@final
class Heard:
    """The text, its pooled vector and the sizes, as the network hears them.

    Args:
        text: Width of one token's vector.
        pooled: Width of the pooled vector.
    """

    def __init__(self, *, text: int, pooled: int) -> None:
        self.text, self.pooled = text, pooled

    @classmethod
    def by(cls, unet: Part) -> "Heard":
        """What a folder's network hears.

        Raises:
            WeightsError: when it hears other things, as refiners and distilled networks do.
        """
        settings = unet.settings
        kind, guided = settings.get("addition_embed_type"), settings.get("time_cond_proj_dim")
        each = settings.get("addition_time_embed_dim")
        total = settings.get("projection_class_embeddings_input_dim")
        pooled = 0
        if isinstance(each, int) and isinstance(total, int):
            pooled = total - Sizes.COUNT * each
        require(
            kind == "text_time" and pooled > 0 and guided is None,
            got=f"{unet.folder}: addition_embed_type {kind}, addition_time_embed_dim {each}, "
            f"projection_class_embeddings_input_dim {total}, time_cond_proj_dim {guided}",
            need=f"text_time with {Sizes.COUNT} sizes and a pooled text, and no input for guidance",
            fix="Use a base model of Stable Diffusion XL; refiners and LCM networks hear more.",
            kind=WeightsError,
        )
        return cls(text=settings.get("cross_attention_dim", _WIDTH), pooled=pooled)

    def __call__(self, condition: Condition, height: int, width: int) -> Mapping[str, Any]:
        """Named inputs of the network; sizes that were not given are the picture's own."""
        text, pooled = condition.tensors["text"], condition.tensors["pooled"]
        sizes = condition.sizes
        if sizes is None:
            whole = Sizes.whole(height, width)
            sizes = torch.tensor([whole.numbers], device=text.device).expand(len(condition), -1)
        # float32 whatever the network computes in: in bf16, 1023 and 1024 would be one size.
        return {
            "encoder_hidden_states": text,
            "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes.float()},
        }

    def question(self) -> Condition:
        """Two rows of eight tokens that no prompt has."""
        streams = Streams(0)
        return Condition(
            {
                "text": streams("reference probe text").normal((2, 8, self.text)),
                "pooled": streams("reference probe pooled").normal((2, self.pooled)),
            }
        )


FAMILY = Family(
    kind="sdxl",
    parts=PARTS,
    inputs=Heard.by,
    text=TwoTexts.load,
    rules={ZEROS: True},
    unread={"feature_extractor": [None, None], "image_encoder": [None, None]},
)
