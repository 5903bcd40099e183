"""A small random pipeline of Stable Diffusion XL's own classes and layout.

Whatever differs between the large model's parts differs here too: the two encoders have other
widths and depths, the second tokenizer pads with another token, and the pooled vector is as wide
as neither of them.
"""

from collections.abc import Iterable

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from palate.backbones import tiny

POOLED = 20
ONE_SIZE = 8


def build(captions: Iterable[str], *, seed: int = 0) -> StableDiffusionXLPipeline:
    """An untrained pipeline whose tokenizers know the words of the captions."""
    first, second = tiny.build_tokenizer(captions), tiny.build_tokenizer(captions)
    second.pad_token = "!"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionXLPipeline(
            vae=_autoencoder(),
            text_encoder=CLIPTextModel(_text(first, width=16, layers=2, projected=16)),
            text_encoder_2=CLIPTextModelWithProjection(
                _text(second, width=24, layers=3, projected=POOLED)
            ),
            tokenizer=first,
            tokenizer_2=second,
            unet=_unet(text=16 + 24),
            scheduler=_scheduler(),
            add_watermarker=False,
        )
        # Freshly made output layers answer almost zero; a louder network shows differences better.
        pipeline.unet.conv_out.weight.data.mul_(8)
    return pipeline


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=0.13025,
        force_upcast=True,
    )


def _unet(*, text: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        cross_attention_dim=text,
        addition_embed_type="text_time",
        addition_time_embed_dim=ONE_SIZE,
        projection_class_embeddings_input_dim=6 * ONE_SIZE + POOLED,
    )


def _text(tokenizer: CLIPTokenizer, *, width: int, layers: int, projected: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=projected,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=tiny.MOST_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _scheduler() -> EulerDiscreteScheduler:
    """The settings in the large model's folder."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
    )
