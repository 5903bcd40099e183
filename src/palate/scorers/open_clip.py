"""Checkpoints in open_clip's own names, read as a transformers `CLIPModel`.

The two libraries compute the same network and call its parts differently: open_clip keeps the
three projections of an attention in one matrix, and its two last projections the other way round.
Every size is read off the tensors; what tensors cannot tell, the number of heads, is given by
whoever knows the architecture.

Read next: `hps.py`, which opens such checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, final

from torch import Tensor

from palate.core.problems import WeightsError, require

Shape = tuple[int, ...]
_EYES, _BLOCK = "visual.", "transformer.resblocks."
# Parts of a tower outside its blocks: open_clip's name, transformers' name.
_VISION = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TEXT = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TURNED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
# Parts of a block that only change their name.
_PARTS = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """One of the two transformers.

    Attributes:
        width: Numbers per token.
        inner: Numbers inside its perceptrons.
        layers: Blocks.
        heads: Heads of each attention.
    """

    width: int
    inner: int
    layers: int
    heads: int

    def shapes(self, prefix: str) -> dict[str, Shape]:
        """Name and shape of every tensor of its blocks, in open_clip's names."""
        wide, inner = self.width, self.inner
        block: dict[str, Shape] = {
            "ln_1.weight": (wide,),
            "ln_1.bias": (wide,),
            "attn.in_proj_weight": (3 * wide, wide),
            "attn.in_proj_bias": (3 * wide,),
            "attn.out_proj.weight": (wide, wide),
            "attn.out_proj.bias": (wide,),
            "ln_2.weight": (wide,),
            "ln_2.bias": (wide,),
            "mlp.c_fc.weight": (inner, wide),
            "mlp.c_fc.bias": (inner,),
            "mlp.c_proj.weight": (wide, inner),
            "mlp.c_proj.bias": (wide,),
        }
        return {
            f"{prefix}{_BLOCK}{place}.{name}": shape
            for place in range(self.layers)
            for name, shape in block.items()
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The sizes of an open_clip model with a vision transformer and no extras.

    Attributes:
        vision: The tower that sees.
        text: The tower that reads.
        patch: Pixels of a patch's side.
        grid: Patches along a picture's side.
        vocabulary: Words of the tokenizer. The last one ends a text.
        context: Tokens of a text.
        embedding: Numbers of the common space.
    """

    vision: Tower
    text: Tower
    patch: int
    grid: int
    vocabulary: int
    context: int
    embedding: int

    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor, in open_clip's names."""
        sees, reads = self.vision.width, self.text.width
        return {
            "visual.class_embedding": (sees,),
            "visual.positional_embedding": (self.grid**2 + 1, sees),
            "visual.conv1.weight": (sees, 3, self.patch, self.patch),
            "visual.proj": (sees, self.embedding),
            "positional_embedding": (self.context, reads),
            "token_embedding.weight": (self.vocabulary, reads),
            "text_projection": (reads, self.embedding),
            "logit_scale": (),
            **{
                f"{name}.{end}": (width,)
                for name, width in (
                    ("visual.ln_pre", sees),
                    ("visual.ln_post", sees),
                    ("ln_final", reads),
                )
                for end in ("weight", "bias")
            },
            **self.vision.shapes(_EYES),
            **self.text.shapes(""),
        }

    def config(self) -> dict[str, Any]:
        """Settings of the same network as a transformers `CLIPModel`.

        open_clip's default activation is the exact GELU, and its norms add 1e-5.
        """
        return {
            "model_type": "clip",
            "projection_dim": self.embedding,
            "text_config": {
                **_tower(self.text),
                "model_type": "clip_text_model",
                "projection_dim": self.embedding,
                "vocab_size": self.vocabulary,
                "max_position_embeddings": self.context,
                # The end of a text is found by its number, which is the highest one.
                "eos_token_id": self.vocabulary - 1,
                "bos_token_id": self.vocabulary - 2,
                "pad_token_id": 0,
            },
            "vision_config": {
                **_tower(self.vision),
                "model_type": "clip_vision_model",
                "projection_dim": self.embedding,
                "image_size": self.grid * self.patch,
                "patch_size": self.patch,
                "num_channels": 3,
            },
        }


def layout_of(tensors: Mapping[str, Tensor], *, heads: int) -> Layout:
    """Read the sizes off a checkpoint and make sure that it holds exactly this network.

    Args:
        tensors: In open_clip's own names.
        heads: Heads of the attentions, in both towers.

    Raises:
        WeightsError: when a tensor is missing, is of another shape, or belongs to no such network.
    """
    told = ("visual.conv1.weight", "visual.positional_embedding", "visual.proj")
    told += ("token_embedding.weight", "positional_embedding")
    _need_names([name for name in told if name not in tensors], "missing")
    conv, places, proj, words, context = (_sizes(tensors, name) for name in told)
    layout = Layout(
        vision=_tower_of(tensors, _EYES, conv[0], heads),
        text=_tower_of(tensors, "", words[1], heads),
        patch=conv[-1],
        grid=isqrt(places[0] - 1),
        vocabulary=words[0],
        context=context[0],
        embedding=proj[1],
    )
    check_shapes(tensors, layout.shapes())
    return layout


def check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Shape]) -> None:
    """Refuse what is missing, too much, or of another shape, by name.

    Raises:
        WeightsError: when names or shapes differ.
    """
    _need_names([name for name in expected if name not in tensors], "missing")
    _need_names([name for name in tensors if name not in expected], "unknown")
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if tuple(tensors[name].shape) != shape
    ]
    _need_names(wrong, "of another shape:")
    _need_names([n for n, t in tensors.items() if not t.is_floating_point()], "not real numbers:")


def renamed(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """The same weights under transformers' names, in the same precision."""
    kept = {ours: tensors[theirs] for theirs, ours in (_VISION | _TEXT).items()}
    turned = {ours: tensors[theirs].T for theirs, ours in _TURNED.items()}
    eyes = _blocks(tensors, _EYES, "vision_model", layout.vision.layers)
    return kept | turned | eyes | _blocks(tensors, "", "text_model", layout.text.layers)


def _blocks(
    tensors: Mapping[str, Tensor], prefix: str, tower: str, layers: int
) -> dict[str, Tensor]:
    """The blocks of one tower under transformers' names."""
    found: dict[str, Tensor] = {}
    for place in range(layers):
        theirs, ours = f"{prefix}{_BLOCK}{place}.", f"{tower}.encoder.layers.{place}."
        for end in ("weight", "bias"):
            for part, name in _PARTS.items():
                found[f"{ours}{name}.{end}"] = tensors[f"{theirs}{part}.{end}"]
            # Rows of the joint matrix: queries, then keys, then values.
            three = tensors[f"{theirs}attn.in_proj_{end}"].chunk(3)
            for part, tensor in zip("qkv", three, strict=True):
                found[f"{ours}self_attn.{part}_proj.{end}"] = tensor
    return found


def _tower_of(tensors: Mapping[str, Tensor], prefix: str, width: int, heads: int) -> Tower:
    start = f"{prefix}{_BLOCK}"
    layers = {name[len(start) :].split(".")[0] for name in tensors if name.startswith(start)}
    first = f"{start}0.mlp.c_fc.weight"
    _need_names([] if first in tensors else [first], "missing")
    require(
        width % heads == 0,
        got=f"a checkpoint with {width} numbers per token under {prefix or 'its text'!r}",
        need=f"a multiple of {heads}, the number of attention heads of this architecture",
        fix="Use a checkpoint of the architecture that this kind of scorer has.",
        kind=WeightsError,
    )
    inner = _sizes(tensors, first)[0]
    return Tower(width=width, inner=inner, layers=len(layers), heads=heads)


def _tower(tower: Tower) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.inner,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }


def _sizes(tensors: Mapping[str, Tensor], name: str) -> Shape:
    """The shape of a tensor from which a size is read: two sides at least, none empty."""
    shape = tuple(tensors[name].shape)
    _need_names(
        [] if len(shape) > 1 and min(shape) > 0 else [f"{name} {shape}"], "of no such shape:"
    )
    return shape


def _need_names(names: list[str], what: str) -> None:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    require(
        not names,
        got=f"a checkpoint with {len(names)} tensors {what} {', '.join(names[:3])}{more}",
        need="exactly the tensors of this network, under its authors' names",
        fix="Choose the --kind that the checkpoint is of, or fetch the checkpoint again.",
        kind=WeightsError,
    )
