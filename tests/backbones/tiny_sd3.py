"""A small random pipeline of Stable Diffusion 3's own classes and layout, with T5 or without.

Whatever differs between the large model's parts differs here too: the encoders have other widths
and depths, together they are narrower than the network's text, and the pooled vector is as wide
as both projections. The layers of 3.5 are there on request: normed queries, and blocks that
attend twice.
"""

from collections.abc import Iterable

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from palate.backbones import tiny

POOLED = (12, 20)
TEXT = 48
SPACE = "▁"


def build(
    captions: Iterable[str], *, t5: bool = False, newer: bool = False, seed: int = 0
) -> StableDiffusion3Pipeline:
    """An untrained pipeline whose tokenizers know the words of the captions.

    Args:
        captions: What the tokenizers should know.
        t5: With the third text encoder.
        newer: With the layers of 3.5 medium.
        seed: Of the weights.
    """
    captions = list(captions)
    first, second = tiny.build_tokenizer(captions), tiny.build_tokenizer(captions)
    second.pad_token = "!"
    third = _long_tokenizer(captions) if t5 else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusion3Pipeline(
            transformer=_transformer(newer=newer),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=_autoencoder(),
            text_encoder=_text(first, width=16, layers=2, projected=POOLED[0]),
            tokenizer=first,
            text_encoder_2=_text(second, width=24, layers=3, projected=POOLED[1]),
            tokenizer_2=second,
            text_encoder_3=None if third is None else _long(third),
            tokenizer_3=third,
        )
        # Freshly made output layers are small; a louder network shows differences better.
        pipeline.transformer.proj_out.weight.data.mul_(8)
    return pipeline


def plain(folder) -> StableDiffusion3Pipeline:
    """The plain pipeline on a folder, which has to be told that there is no T5."""
    absent = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None}
    told = {**absent, "tokenizer_3": None} if absent else {}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, use_safetensors=True, **told)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _transformer(*, newer: bool) -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=TEXT,
        caption_projection_dim=32,
        pooled_projection_dim=sum(POOLED),
        pos_embed_max_size=12,
        dual_attention_layers=(0,) if newer else (),
        qk_norm="rms_norm" if newer else None,
    )


def _text(
    tokenizer: CLIPTokenizer, *, width: int, layers: int, projected: int
) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
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
    )


def _long_tokenizer(captions: Iterable[str]) -> T5Tokenizer:
    """Whole words of the captions, and single letters for everything else."""
    words = sorted({word for caption in captions for word in caption.lower().split()})
    letters = sorted({letter for word in words for letter in word})
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (SPACE, -4.0)]
    vocabulary += [(SPACE + word, -2.0) for word in words]
    vocabulary += [(letter, -6.0) for letter in letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def _long(tokenizer: T5Tokenizer) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )
