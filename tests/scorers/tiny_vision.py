"""Small random vision-language models of the real classes, saved as their own classes save them."""

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

MARKS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image>",
    "<video>",
)
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava_onevision")
_GRID = [[28, 28], [28, 56], [56, 28], [56, 56]]


def build(family: str, where: Path, *, merges: tuple[str, ...] = ()) -> Path:
    """Save a model with tokenizer and image processor; every letter is a token, and merges are."""
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(merge.replace(" ", "") for merge in merges)]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: place for place, piece in enumerate(pieces)},
        merges=[tuple(merge.split(" ")) for merge in merges],
        eos_token=MARKS[2],
        pad_token=MARKS[0],
        unk_token=MARKS[0],
        extra_special_tokens=list(MARKS[1:]),
    )
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in MARKS}
    older = {"image_token_index": ids["<image>"], "video_token_index": ids["<video>"]}
    places = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 8192,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
    }
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "qwen2_5_vl": lambda: _older(text, rope, places),
            "qwen3_vl": lambda: _newer(text, rope, places),
            "llava_onevision": lambda: _llava(text, older),
        }[family]()
        for weight in made.parameters():
            # Far from zero, else every answer would be as probable as any other.
            weight.data += 0.1 * torch.randn(weight.shape)
    made.save_pretrained(where)
    tokenizer.save_pretrained(where)
    _eyes(family).save_pretrained(where)
    return where


def _eyes(family):
    if family == "llava_onevision":
        return LlavaOnevisionImageProcessorPil(
            size={"height": 28, "width": 28}, image_grid_pinpoints=_GRID
        )
    patch = {"qwen2_5_vl": 14, "qwen3_vl": 16}[family]
    return Qwen2VLImageProcessorPil(
        patch_size=patch, min_pixels=(2 * patch) ** 2, max_pixels=(8 * patch) ** 2
    )


def _older(text, rope, places):
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    }
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope}, vision_config=vision, **places
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def _newer(text, rope, places):
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config={
            **text,
            "head_dim": 16,
            "rope_parameters": {**rope, "mrope_interleaved": True},
        },
        vision_config=vision,
        **places,
    )
    return Qwen3VLForConditionalGeneration(config)


def _llava(text, places):
    vision = SiglipVisionConfig(
        image_size=28,
        patch_size=7,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        vision_use_head=False,
    )
    config = LlavaOnevisionConfig(
        text_config=Qwen2Config(**text).to_dict(),
        vision_config=vision.to_dict(),
        image_grid_pinpoints=_GRID,
        **places,
    )
    return LlavaOnevisionForConditionalGeneration(config)
