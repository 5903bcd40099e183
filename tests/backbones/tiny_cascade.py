"""Small random pipelines of Stable Cascade's own classes and layout.

Whatever differs between the large model's parts differs here too: the two stages have text
encoders of other weights, stage B other widths than stage C, and only one level of stage C has
attention to more than the text.
"""

from collections.abc import Iterable

import torch
from diffusers import (
    DDPMWuerstchenScheduler,
    StableCascadeCombinedPipeline,
    StableCascadePriorPipeline,
    StableCascadeUNet,
)
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from palate.backbones import tiny

TEXT, POOLED, IMAGE = 24, 20, 12


def combined(captions: Iterable[str], *, seed: int = 0) -> StableCascadeCombinedPipeline:
    """An untrained pipeline of all stages whose tokenizers know the words of the captions."""
    words = list(captions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StableCascadeCombinedPipeline(
            **{f"prior_{name}": part for name, part in _stage_c(words).items()},
            tokenizer=(tokenizer := tiny.build_tokenizer(words)),
            text_encoder=_text(tokenizer),
            decoder=_stage_b(),
            scheduler=DDPMWuerstchenScheduler(),
            vqgan=_vqgan(),
        )


def prior(captions: Iterable[str], *, seed: int = 0) -> StableCascadePriorPipeline:
    """Stage C of the same pipeline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StableCascadePriorPipeline(**_stage_c(list(captions)))


def _stage_c(words: list[str]) -> dict:
    tokenizer = tiny.build_tokenizer(words)
    return {
        "prior": _loud(
            StableCascadeUNet(
                in_channels=16,
                out_channels=16,
                timestep_ratio_embedding_dim=16,
                conditioning_dim=16,
                block_out_channels=(16, 24),
                num_attention_heads=(2, 3),
                down_num_layers_per_block=(1, 2),
                up_num_layers_per_block=(2, 1),
                clip_text_in_channels=TEXT,
                clip_text_pooled_in_channels=POOLED,
                clip_image_in_channels=IMAGE,
                switch_level=(False,),
            )
        ),
        "text_encoder": _text(tokenizer),
        "tokenizer": tokenizer,
        "scheduler": DDPMWuerstchenScheduler(),
    }


def _loud(network: StableCascadeUNet) -> StableCascadeUNet:
    """Freshly made output layers answer almost zero; a louder network shows differences better."""
    network.clf[1].weight.data.mul_(3)
    return network


def _stage_b() -> StableCascadeUNet:
    return _loud(
        StableCascadeUNet(
            in_channels=4,
            out_channels=4,
            patch_size=2,
            timestep_ratio_embedding_dim=16,
            conditioning_dim=16,
            block_out_channels=(8, 16),
            num_attention_heads=(-1, 2),
            down_num_layers_per_block=(1, 1),
            up_num_layers_per_block=(1, 1),
            block_types_per_layer=(
                ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
                ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
            ),
            clip_text_pooled_in_channels=POOLED,
            effnet_in_channels=16,
            pixel_mapper_in_channels=3,
            self_attn=(False, False),
            timestep_conditioning_type=("sca",),
        )
    )


def _vqgan() -> PaellaVQModel:
    network = PaellaVQModel(bottleneck_blocks=1, embed_dim=16, num_vq_embeddings=8)
    # Pixels that are not clipped show differences better.
    network.out_block[0].weight.data.mul_(0.1)
    network.out_block[0].bias.data.fill_(0.5)
    return network


def _text(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT,
            intermediate_size=2 * TEXT,
            projection_dim=POOLED,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tiny.MOST_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
