"""Small random models of the real classes, built once and never written to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from palate.backbones import tiny
from scorers.seen import PROMPTS, SIDE, TOKENS


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP model, saved as its own classes save it. Read only."""
    where = tmp_path_factory.mktemp("clip") / "model"
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=TOKENS
    )
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    vision = CLIPVisionConfig(image_size=SIDE, patch_size=8, **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(
            CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
        )
        for weight in model.parameters():
            # Far from zero, else all pictures would score alike.
            weight.data += 0.2 * torch.randn(weight.shape)
    model.save_pretrained(where)
    tokenizer.save_pretrained(where)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(where)
    return where


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Three pictures of three sizes, one of them not square."""
    draw = np.random.default_rng(0)
    return [
        draw.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((32, 32), (64, 64), (48, 96))
    ]


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micro Stable Diffusion folder whose tokenizer knows the prompts' words. Read only."""
    where = tmp_path_factory.mktemp("pipeline") / "model"
    tiny.build(PROMPTS, size="micro").save_pretrained(where)
    return where


@pytest.fixture
def noisy() -> torch.Tensor:
    """Three different noisy latents, [3, 4, 16, 16]."""
    drawn = np.random.default_rng(1).standard_normal((3, 4, 16, 16))
    return torch.from_numpy(drawn.astype(np.float32))
