"""ImageReward's network, and how its published checkpoint's names become ours.

A vision transformer sees the picture; a BERT reads the prompt and, in every block, looks at the
picture's patches (Li et al., 2022, "BLIP", arXiv:2201.12086); what it says at its first token goes
through five linear layers with nothing between them but dropout, which is asleep outside training
(Xu et al., 2023, "ImageReward", arXiv:2304.05977, and the authors' package 1.5). Sizes are read off
the tensors, except the number of heads, which leaves no trace in them: both towers have 64 numbers
a head.

Read next: `imagereward.py`, the scorer.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from math import isqrt
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from palate.core.problems import WeightsError, require

_PER_HEAD = 64
# Places of the linear layers among the dropouts, in the checkpoint's own count.
_LINEARS = (0, 2, 4, 6, 7)
_BLOCK = r"^(vision\.encoder\.layers\.\d+)"
_RENAMED = (
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.", "vision.encoder.layers."),
    (_BLOCK + r"\.norm(\d)\.", r"\1.layer_norm\2."),
    (_BLOCK + r"\.attn\.proj\.", r"\1.self_attn.projection."),
    (_BLOCK + r"\.attn\.", r"\1.self_attn."),
    (r"^blip\.text_encoder\.", "text."),
    *((rf"^mlp\.layers\.{old}\.", f"head.{new}.") for new, old in enumerate(_LINEARS)),
)
# In the checkpoint and without a part in the reward: two projections of BLIP's pretraining, and
# the numbers 0, 1, 2, … in a buffer.
LEFT_OUT = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")


@final
class Network(nn.Module):
    """Pixels and tokens in, one unstandardised reward each out.

    Attributes:
        vision: transformers' `BlipVisionModel`.
        text: transformers' `BlipTextModel`, each block with cross-attention, without a pooler.
        head: The linear layers.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Build it with weights of chance; the settings are those that `settings_of` gives."""
        from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

        super().__init__()
        # transformers' own default for this layer norm is 1e-5; BLIP's vision tower has 1e-6.
        self.vision = BlipVisionModel(BlipVisionConfig(layer_norm_eps=1e-6, **settings["vision"]))
        self.text = BlipTextModel(
            BlipTextConfig(bos_token_id=None, layer_norm_eps=1e-12, **settings["text"]),
            add_pooling_layer=False,
        )
        widths = settings["head"]
        self.head = nn.Sequential(*(nn.Linear(left, right) for left, right in pairwise(widths)))

    def forward(
        self,
        pixels: Float[Tensor, " n 3 side side"],
        tokens: Int[Tensor, " n length"],
        mask: Int[Tensor, " n length"],
    ) -> Float[Tensor, " n"]:
        """Rewards before they are standardised."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        states = self.text(input_ids=tokens, attention_mask=mask, encoder_hidden_states=seen)
        return self.head(states.last_hidden_state[:, 0])[:, 0]

    @classmethod
    def holding(cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> "Network":
        """The network with these weights as its own, without drawing any of chance first.

        Raises:
            RuntimeError: as torch does, when they do not fit the settings.
        """
        with torch.device("meta"):
            network = cls(settings)
        network.load_state_dict(dict(weights), strict=True, assign=True)
        # The one thing it holds that is in no checkpoint: 0, 1, 2, … up to the longest text.
        places = torch.arange(settings["text"]["max_position_embeddings"])
        network.text.embeddings.position_ids = nn.Buffer(places[None], persistent=False)
        return network


def converted(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a published checkpoint under our names, and the shapes of its network.

    Args:
        tensors: As in `ImageReward.pt`, by its own names.

    Returns:
        Tensors for `Network`, and the settings that build it.

    Raises:
        WeightsError: when a name is missing or unknown, or a shape does not fit the others.
    """
    kept = {name: value for name, value in tensors.items() if not name.startswith(LEFT_OUT)}
    renamed = {_renamed(name): value.float() for name, value in kept.items()}
    settings = settings_of(renamed)
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in Network(settings).state_dict().items()}
    missing = sorted(wanted.keys() - renamed.keys())
    strange = sorted(renamed.keys() - wanted.keys())
    other = [n for n, shape in wanted.items() if n in renamed and renamed[n].shape != shape]
    require(
        not (missing or strange or other),
        got=f"tensors with {len(missing)} missing {missing[:3]}, {len(strange)} unknown "
        f"{strange[:3]}, {len(other)} of another shape {other[:3]}",
        need="the tensors of ImageReward, one for one",
        fix="Use the authors' ImageReward.pt, or a checkpoint with its names.",
        kind=WeightsError,
    )
    return renamed, settings


def settings_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Shapes of the network that these tensors, under our names, belong to.

    Raises:
        WeightsError: when a tensor that tells one is missing or has another rank.
    """
    patch = _shape(tensors, "vision.embeddings.patch_embedding.weight", 4)
    places = _shape(tensors, "vision.embeddings.position_embedding", 3)[1]
    vocabulary, width = _shape(tensors, "text.embeddings.word_embeddings.weight", 2)
    seen = _shape(tensors, "text.encoder.layer.0.crossattention.self.key.weight", 2)[1]
    head = [_shape(tensors, f"head.{place}.weight", 2) for place in range(len(_LINEARS))]
    return {
        "vision": {
            "hidden_size": patch[0],
            "intermediate_size": _shape(tensors, "vision.encoder.layers.0.mlp.fc1.weight", 2)[0],
            "num_hidden_layers": _layers(tensors, "vision.encoder.layers."),
            "num_attention_heads": _heads(patch[0]),
            # One place more than there are patches: the first says nothing of where.
            "image_size": isqrt(places - 1) * patch[2],
            "patch_size": patch[2],
        },
        "text": {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "encoder_hidden_size": seen,
            "intermediate_size": _shape(
                tensors, "text.encoder.layer.0.intermediate.dense.weight", 2
            )[0],
            "num_hidden_layers": _layers(tensors, "text.encoder.layer."),
            "num_attention_heads": _heads(width),
            "max_position_embeddings": _shape(
                tensors, "text.embeddings.position_embeddings.weight", 2
            )[0],
        },
        "head": [head[0][1], *(shape[0] for shape in head)],
    }


def _renamed(name: str) -> str:
    for pattern, ours in _RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _shape(tensors: Mapping[str, Tensor], name: str, rank: int) -> tuple[int, ...]:
    shape = tuple(tensors[name].shape) if name in tensors else None
    require(
        shape is not None and len(shape) == rank,
        got=f"{name} of shape {shape}" if shape is not None else f"no tensor for {name}",
        need="the tensors of ImageReward",
        fix="Use the authors' ImageReward.pt, or a checkpoint with its names.",
        kind=WeightsError,
    )
    return tuple(shape or ())


def _layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks there are under a prefix."""
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    )


def _heads(width: int) -> int:
    require(
        width % _PER_HEAD == 0,
        got=f"a tower of width {width}",
        need=f"a multiple of {_PER_HEAD}, the width of a head",
        fix="Use the authors' ImageReward.pt, or a checkpoint of its kind.",
        kind=WeightsError,
    )
    return width // _PER_HEAD
