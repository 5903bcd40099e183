"""What the latent reward model hears of a prompt: one text encoder, or Stable Diffusion XL's two.

Each class reads prompts as its family's network was taught to hear them, and says besides what
latents are compared with. Encoders learn with the network that asks them.

Read next: `latent.py`, the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palate.core.files import read_json
from palate.scorers.learned import TOKENIZER, tokens_of

ENCODER, SECOND = "text_encoder", "text_encoder_2"
_ZEROS = "force_zeros_for_empty_prompt"
_NOTES = ("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """What some prompts say.

    Attributes:
        text: One vector per token, as the network attends to them.
        said: One vector per prompt, which latents are compared with.
        pooled: One vector per prompt that the network adds to its time; None where it does not.
    """

    text: Float[Tensor, " prompts tokens width"]
    said: Float[Tensor, " prompts common"]
    pooled: Float[Tensor, " prompts pooled"] | None = None


class Texts(Protocol):
    """The text encoders of a family, with their tokenizers."""

    @property
    def encoders(self) -> Mapping[str, nn.Module]:
        """What learns, by the name under which a network holds it."""
        ...

    @property
    def common(self) -> int:
        """Width of what latents are compared with."""
        ...

    @property
    def projected(self) -> bool:
        """Whether that already is in a space shared with pictures."""
        ...

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Told:
        """What the prompts say, with its gradient."""
        ...

    def settings(self) -> dict[str, Any]:
        """Shapes and rules, from which the class's `restore` builds it again."""
        ...

    def tokenizers(self) -> Mapping[str, Any]:
        """The tokenizers, by the folder they are saved in."""
        ...


@final
class OneText:
    """One encoder: its last layer for the network, its end-of-text vector to be compared with.

    Args:
        encoder: transformers' `CLIPTextModel`.
        words: Its tokenizer.
    """

    parts = (ENCODER, TOKENIZER)
    projected = False

    def __init__(self, encoder: Any, words: Any) -> None:
        self._encoder, self._words = encoder, words
        self.encoders: Mapping[str, nn.Module] = {"text": encoder}
        self.common = int(encoder.config.hidden_size)
        self._length = encoder.config.max_position_embeddings
        # Written by some folders of the 2.x line: padding must then be told apart.
        self._masked = bool(encoder.config.to_dict().get("use_attention_mask"))

    @classmethod
    def open(cls, folder: Path) -> "OneText":
        """The encoder of a pipeline folder, in float32."""
        from transformers import CLIPTextModel

        encoder: Any = CLIPTextModel.from_pretrained(
            folder / ENCODER, use_safetensors=True, local_files_only=True
        )
        return cls(encoder.float(), _tokenizer(folder / TOKENIZER))

    @classmethod
    def restore(cls, settings: Mapping[str, Any], folder: Path) -> "OneText":
        """The encoder with a saved scorer's settings, its weights still to be filled in."""
        from transformers import CLIPTextConfig, CLIPTextModel

        encoder = CLIPTextModel(CLIPTextConfig.from_dict(settings["text"]))
        return cls(encoder, _tokenizer(folder / TOKENIZER))

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Told:
        """What the prompts say, with its gradient."""
        tokens = tokens_of(self._words, prompts, self._length, device)
        mask = tokens.attention_mask if self._masked else None
        found = self._encoder(input_ids=tokens.input_ids, attention_mask=mask)
        return Told(text=found.last_hidden_state, said=found.pooler_output)

    def settings(self) -> dict[str, Any]:
        """The encoder's shape."""
        return {"text": _plain(self._encoder)}

    def tokenizers(self) -> Mapping[str, Any]:
        """The one tokenizer."""
        return {TOKENIZER: self._words}


@final
class TwoTexts:
    """Stable Diffusion XL's two: the layers before their last, side by side, for the network.

    The second one's projected end-of-text vector is what the network adds to its time, and what
    latents are compared with. Where the folder says so, the network hears the empty prompt as
    zeros; what latents are compared with is the encoder's own answer to it all the same.

    Args:
        first: transformers' `CLIPTextModel` without its last layer, which nothing reads.
        second: transformers' `CLIPTextModelWithProjection`, whole.
        words: The tokenizers of both.
        zeros: Whether the empty prompt is all zeros.
    """

    parts = (ENCODER, SECOND, TOKENIZER, f"{TOKENIZER}_2")
    projected = True

    def __init__(self, first: Any, second: Any, words: tuple[Any, Any], *, zeros: bool) -> None:
        self._first, self._second, self._words, self._zeros = first, second, words, zeros
        self.encoders: Mapping[str, nn.Module] = {"text": first, "text_2": second}
        self.common = int(second.config.projection_dim)
        self._length = min(each.config.max_position_embeddings for each in (first, second))

    @classmethod
    def open(cls, folder: Path) -> "TwoTexts":
        """The encoders of a pipeline folder, in float32."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        safe: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        first: Any = CLIPTextModel.from_pretrained(folder / ENCODER, **safe)
        second: Any = CLIPTextModelWithProjection.from_pretrained(folder / SECOND, **safe)
        del first.encoder.layers[-1]
        first.config.num_hidden_layers -= 1
        words = (_tokenizer(folder / TOKENIZER), _tokenizer(folder / f"{TOKENIZER}_2"))
        index = folder / "model_index.json"
        rules = read_json(index) if index.is_file() else {}
        zeros = bool(rules.get(_ZEROS, True))
        return cls(_open_ended(first).float(), second.float(), words, zeros=zeros)

    @classmethod
    def restore(cls, settings: Mapping[str, Any], folder: Path) -> "TwoTexts":
        """The encoders with a saved scorer's settings, their weights still to be filled in."""
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        first = CLIPTextModel(CLIPTextConfig.from_dict(settings["text"]))
        second = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(settings["text_2"]))
        words = (_tokenizer(folder / TOKENIZER), _tokenizer(folder / f"{TOKENIZER}_2"))
        return cls(_open_ended(first), second, words, zeros=bool(settings["zeros"]))

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Told:
        """What the prompts say, with its gradient."""
        ids = [tokens_of(each, prompts, self._length, device).input_ids for each in self._words]
        one = self._first(input_ids=ids[0])
        two = self._second(input_ids=ids[1], output_hidden_states=True)
        text = torch.cat([one.last_hidden_state, two.hidden_states[-2]], dim=-1)
        silent = torch.tensor([self._zeros and not prompt for prompt in prompts], device=device)
        return Told(
            text=text.masked_fill(silent[:, None, None], 0.0),
            said=two.text_embeds,
            pooled=two.text_embeds.masked_fill(silent[:, None], 0.0),
        )

    def settings(self) -> dict[str, Any]:
        """The encoders' shapes, and the rule of the empty prompt."""
        shapes = {"text": _plain(self._first), "text_2": _plain(self._second)}
        return {**shapes, "zeros": self._zeros}

    def tokenizers(self) -> Mapping[str, Any]:
        """Both tokenizers."""
        return dict(zip((TOKENIZER, f"{TOKENIZER}_2"), self._words, strict=True))


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _open_ended(encoder: Any) -> Any:
    """An encoder that answers with the output of its last layer as it is."""
    encoder.final_layer_norm = nn.Identity()
    return encoder


def _plain(encoder: Any) -> dict[str, Any]:
    return {k: v for k, v in encoder.config.to_dict().items() if k not in _NOTES}
