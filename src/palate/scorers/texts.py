"""Where texts lie in CLIP's space: how alike two prompts are, judged by its text encoder.

Read next: `clip.py`, which compares them with pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from palate.scorers.clip_folder import find_clip, load_clip


@torch.no_grad()
def clip_texts(
    model: str | Path, texts: Sequence[str], *, device: str = "cpu", batch: int = 64
) -> Float64[np.ndarray, "n d"]:
    """One embedding of length one for each text; words beyond the model's length are cut.

    Args:
        model: A folder, or Hub name, of a CLIP model with its tokenizer.
        texts: What to embed.
        device: Where it computes, in float32.
        batch: Texts at once.

    Raises:
        WeightsError: when the folder is not a whole CLIP model in safetensors.
    """
    network, _, words = load_clip(find_clip(model))
    network.to(device)
    length = min(network.config.text_config.max_position_embeddings, words.model_max_length)
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), batch):
        tokens = words(
            list(texts[start : start + batch]),
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        found = network.get_text_features(
            input_ids=tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device)
        ).pooler_output.double()
        rows.append((found / found.norm(dim=1, keepdim=True)).cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, network.config.projection_dim))
