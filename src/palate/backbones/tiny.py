"""A small pipeline in Stable Diffusion 1.5's own format, and the copy that ships with the package.

The same five parts as Stable Diffusion 1.5 (UNet, autoencoder, CLIP text encoder, CLIP tokenizer,
scheduler), the same eps prediction on the same noise schedule, only small: 64×64 pixels become
4×16×16 latents. Whatever works on this folder works on the large one, and it trains on one core.

Read next: `pretraining.py`, which teaches it pictures; `lab/pretrain/README.md`, how that went.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast, final

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from palate.core.problems import unknown
from palate.core.streams import Streams

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
PIXELS = 64
MOST_TOKENS = 24
Pipeline = StableDiffusionPipeline
_BATCH = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The widths of one architecture.

    Attributes:
        autoencoder: Channels at 64, 32 and 16 pixels.
        unet: Channels at 16, 8 and, where given, 4 latent pixels.
        text: Width of the text encoder, which is also the width of cross-attention.
        layers: Layers of the text encoder.
    """

    autoencoder: tuple[int, ...]
    unet: tuple[int, ...]
    text: int
    layers: int


SIZES = {
    "shipped": Size(autoencoder=(16, 24, 48), unet=(40, 64, 64), text=96, layers=2),
    "micro": Size(autoencoder=(8, 8, 8), unet=(8, 16), text=16, layers=1),
}


def build(
    captions: Iterable[str], *, size: str = "shipped", seed: int = 0
) -> StableDiffusionPipeline:
    """Build an untrained pipeline whose tokenizer knows the words of the captions.

    Raises:
        SettingError: for a size that does not exist.
    """
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    widths = SIZES[size]
    tokenizer = build_tokenizer(captions)
    # The layers' own initialisation draws from the global generator: lend it, and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Untyped, because the pipeline's annotations do not say which parts may be absent.
        members: dict[str, Any] = {
            "vae": _autoencoder(widths),
            "unet": _unet(widths),
            "text_encoder": _text_encoder(widths, tokenizer),
            "tokenizer": tokenizer,
            "scheduler": _scheduler(),
            "safety_checker": None,
            "feature_extractor": None,
            "image_encoder": None,
        }
        return StableDiffusionPipeline(**members, requires_safety_checker=False)


def draw(
    pipeline: Pipeline,
    texts: Sequence[str],
    *,
    seed: int,
    steps: int = 8,
    guidance: float = 2.0,
) -> np.ndarray:
    """One picture per text, uint8 [n, 64, 64, 3], through the plain pipeline call."""
    pipeline.set_progress_bar_config(disable=True)
    streams, batches = Streams(seed), []
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        sources = [streams("start", start + row).generator() for row in range(len(batch))]
        with torch.inference_mode():
            images, _ = pipeline(
                batch,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=sources,
                output_type="np",
                return_dict=False,
            )
        batches.append(np.rint(np.asarray(images) * 255.0).astype(np.uint8))
    return np.concatenate(batches)


def build_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """A byte-level BPE tokenizer in which every word of the captions is a single token.

    Any other text still encodes, byte by byte.
    """
    merges = _merges({word for caption in captions for word in caption.lower().split()})
    letters = sorted(ByteLevel.alphabet())
    tokens = [START, END, *letters, *(letter + WORD_END for letter in letters)]
    tokens += [left + right for left, right in merges]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    # The annotation knows merges as lines of a file only; the class takes pairs as well.
    return CLIPTokenizer(vocab=vocabulary, merges=cast(Any, merges), model_max_length=MOST_TOKENS)


def _merges(words: set[str]) -> list[tuple[str, str]]:
    """The byte-pair merges, in order, that build each word; ties go by alphabet.

    Ours, because the library's trainer numbers its tokens differently from run to run.
    """
    spelled = [[*word[:-1], word[-1] + WORD_END] for word in sorted(words)]
    merges: list[tuple[str, str]] = []
    while True:
        counts = Counter(pair for parts in spelled for pair in pairwise(parts))
        if not counts:
            return merges
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelled = [_merged(parts, best) for parts in spelled]


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """The parts of a word with every occurrence of a pair joined, from the left."""
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _autoencoder(size: Size) -> AutoencoderKL:
    levels = len(size.autoencoder)
    # The constructors' own annotations allow one-level networks only, hence the untyped settings.
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": size.autoencoder,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": PIXELS,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**settings)


def _unet(size: Size) -> UNet2DConditionModel:
    levels = len(size.unet)
    settings: dict[str, Any] = {
        "sample_size": PIXELS // 4,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": size.unet,
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        "up_block_types": ("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 4,
        "cross_attention_dim": size.text,
    }
    return UNet2DConditionModel(**settings)


def _text_encoder(size: Size, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    numbers = tokenizer.get_vocab()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.text,
            intermediate_size=2 * size.text,
            projection_dim=size.text,
            num_hidden_layers=size.layers,
            num_attention_heads=4,
            max_position_embeddings=MOST_TOKENS,
            bos_token_id=numbers[START],
            eos_token_id=numbers[END],
            pad_token_id=numbers[END],
        )
    )


def _scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        steps_offset=1,
    )
