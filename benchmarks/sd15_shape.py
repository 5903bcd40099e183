"""Build a pipeline folder of the real Stable Diffusion 1.5 shape, with random weights.

    python benchmarks/sd15_shape.py out/sd15            # float32 on disk, 4.3 GB
    python benchmarks/sd15_shape.py out/sd15 --half     # float16 on disk, 2.1 GB

The pictures it draws are noise. What it costs to load, sample and train is what the real model
costs: an 860 M UNet, the 84 M autoencoder, the 123 M CLIP ViT-L/14 text encoder. The parts are
built, saved and forgotten one after another, so the largest of them is what must fit in memory.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = 49408  # rows of the real embedding; the tokenizer here uses the first few hundred


def unet() -> nn.Module:
    """The denoising network of Stable Diffusion 1.5."""
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,
    )


def vae() -> nn.Module:
    """Its autoencoder: 512×512 pixels to 4×64×64 latents."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
        scaling_factor=0.18215,
    )


def text_encoder() -> nn.Module:
    """CLIP ViT-L/14's text side."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=WORDS,
            hidden_size=768,
            intermediate_size=3072,
            projection_dim=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            bos_token_id=WORDS - 2,
            eos_token_id=WORDS - 1,
            pad_token_id=WORDS - 1,
        )
    )


def tokenizer() -> CLIPTokenizer:
    """The real class with a byte for a word: every text encodes, only in more tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: place for place, word in enumerate([*letters, *(f"{x}</w>" for x in letters)])}
    # The special words keep their real numbers, so that the text encoder finds the end.
    words |= {"<|startoftext|>": WORDS - 2, "<|endoftext|>": WORDS - 1}
    return CLIPTokenizer(vocab=words, merges=[], model_max_length=77)


def scheduler() -> PNDMScheduler:
    """The noise schedule that the 1.5 folder holds."""
    return PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def build(out: Path, *, half: bool, seed: int = 0) -> dict[str, int]:
    """Write the folder; returns the number of weights in each network."""
    counts: dict[str, int] = {}
    networks: dict[str, Callable[[], nn.Module]] = {
        "unet": unet,
        "vae": vae,
        "text_encoder": text_encoder,
    }
    out.mkdir(parents=True)
    for place, (name, make) in enumerate(networks.items()):
        started = time.perf_counter()
        network = _random(make, seed + place)
        counts[name] = sum(weight.numel() for weight in network.parameters())
        (network.half() if half else network).save_pretrained(out / name)
        took = time.perf_counter() - started
        print(f"{name:13} {counts[name]:>13,} weights  {took:5.1f} s", flush=True)
        del network
    tokenizer().save_pretrained(out / "tokenizer")
    scheduler().save_pretrained(out / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=2))
    return counts


def _random(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network without the layers' own slow initialisation: uniform weights of unit gain.

    Memory is taken once, for the weights themselves: the shape is built without storage first.
    """
    with torch.device("meta"):
        network = make()
    network = network.to_empty(device="cpu")
    draw = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        if weight.ndim == 1:
            weight.data.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        bound = (3.0 / weight[0].numel()) ** 0.5 if "embedding." not in name else 0.02
        weight.data.uniform_(-bound, bound, generator=draw)
    _number_positions(network)
    return network.eval()


def _number_positions(network: nn.Module) -> None:
    """Give position buffers their numbers 0, 1, 2, …, which `to_empty` left wild."""
    for name, buffer in network.named_buffers():
        if not name.endswith("position_ids"):
            raise SystemExit(f"unknown buffer {name}: say here what it should hold")
        buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the new folder")
    parser.add_argument("--half", action="store_true", help="float16 on disk")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.perf_counter()
    counts = build(asked.out, half=asked.half, seed=asked.seed)
    size = sum(path.stat().st_size for path in asked.out.rglob("*") if path.is_file())
    print(
        f"in all {sum(counts.values()):,} weights, {size / 1e9:.2f} GB, "
        f"{time.perf_counter() - started:.0f} s: {asked.out}"
    )


if __name__ == "__main__":
    main()
