"""Tiny random checkpoints under the names of the published ones, written down by hand."""

from pathlib import Path

import torch
from torch import Tensor

from scorers.seen import SIDE, TOKENS

# 16 heads in both towers, as in the published architecture; hence 2 numbers per head.
WIDE, INNER, READS, COMMON, PATCH, LAYERS, HEADS = 32, 48, 48, 8, 8, 2, 16


def hps_checkpoint(words: int, *, seed: int = 0) -> dict[str, Tensor]:
    """What `HPS_v2_compressed.pt` holds under `state_dict`, for a tokenizer of so many words."""
    draw = torch.Generator().manual_seed(seed)
    patches = (SIDE // PATCH) ** 2

    def drawn(*shape: int, size: float = 0.3) -> Tensor:
        return size * torch.randn(shape, generator=draw)

    made = {
        "positional_embedding": drawn(TOKENS, READS),
        "text_projection": drawn(READS, COMMON),
        "logit_scale": torch.tensor(4.6),
        "visual.class_embedding": drawn(WIDE),
        "visual.positional_embedding": drawn(patches + 1, WIDE),
        "visual.proj": drawn(WIDE, COMMON),
        "visual.conv1.weight": drawn(WIDE, 3, PATCH, PATCH, size=0.1),
        "token_embedding.weight": drawn(words, READS),
    }
    norms = [("visual.ln_pre", WIDE), ("visual.ln_post", WIDE), ("ln_final", READS)]
    for prefix, width in (("visual.", WIDE), ("", READS)):
        for place in range(LAYERS):
            block = f"{prefix}transformer.resblocks.{place}"
            made |= {
                f"{block}.attn.in_proj_weight": drawn(3 * width, width),
                f"{block}.attn.in_proj_bias": drawn(3 * width),
                f"{block}.attn.out_proj.weight": drawn(width, width),
                f"{block}.attn.out_proj.bias": drawn(width),
                f"{block}.mlp.c_fc.weight": drawn(INNER, width),
                f"{block}.mlp.c_fc.bias": drawn(INNER),
                f"{block}.mlp.c_proj.weight": drawn(width, INNER),
                f"{block}.mlp.c_proj.bias": drawn(width),
            }
            norms += [(f"{block}.ln_1", width), (f"{block}.ln_2", width)]
    for name, width in norms:
        made |= {f"{name}.weight": 1 + drawn(width), f"{name}.bias": drawn(width)}
    return made


def aesthetic_checkpoint(width: int, *, seed: int = 0) -> dict[str, Tensor]:
    """What `sac+logos+ava1-l14-linearMSE.pth` holds, on so many numbers."""
    draw = torch.Generator().manual_seed(seed)
    sizes = (width, 12, 10, 6, 4, 1)
    made: dict[str, Tensor] = {}
    for place, inside, outside in zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False):
        made[f"layers.{place}.weight"] = torch.randn(outside, inside, generator=draw)
        made[f"layers.{place}.bias"] = torch.randn(outside, generator=draw)
    return made


def saved(path: Path, value: object) -> Path:
    """A checkpoint written as its authors wrote theirs."""
    torch.save(value, path)
    return path
