"""A small random folder of each model family, and scorers of unfinished pictures made from it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler

from backbones import tiny_sd3, tiny_sdxl
from palate.backbones import tiny
from palate.scorers.latent import LatentReward
from palate.scorers.learned import Learned, save_scorer
from palate.scorers.stepclip import Shape, StepCLIP


def _noise(captions: Sequence[str]) -> Any:
    """As Stable Diffusion 1.x: one text encoder, noise is predicted."""
    pipeline = tiny.build(captions, size="micro")
    # Freshly made output layers answer almost zero; a louder network shows differences better.
    pipeline.unet.conv_out.weight.data.mul_(8)
    return pipeline


def _velocity(captions: Sequence[str]) -> Any:
    """As Stable Diffusion 2.x at 768 pixels: velocity is predicted, by its scheduler's settings."""
    pipeline = _noise(captions)
    pipeline.scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return pipeline


def _large(captions: Sequence[str]) -> Any:
    """As Stable Diffusion XL: two text encoders, and the network is told of sizes."""
    return tiny_sdxl.build(captions)


def _flow(captions: Sequence[str]) -> Any:
    """As Stable Diffusion 3: a transformer on the straight path; here with T5."""
    return tiny_sd3.build(captions, t5=True, newer=True)


FAMILIES: dict[str, Callable[[Sequence[str]], Any]] = {
    "sd1": _noise,
    "sd2": _velocity,
    "sdxl": _large,
    "sd3": _flow,
}


def make_family(name: str, captions: Sequence[str], folder: Path) -> Path:
    """Write a small model of this family, and beside it scorers of unfinished pictures.

    One reads pictures. The other reads latents, with the model's own UNet, where it has one.
    """
    model = folder / "model"
    FAMILIES[name](captions).save_pretrained(model)
    small = Shape(side=32, patch=16, width=16, layers=1, text_layers=1, heads=2)
    made: dict[str, Learned] = {"steps": StepCLIP.untaught(model / "tokenizer", small)}
    if (model / "unet").is_dir():
        made["latent"] = LatentReward.from_pipeline(model)
    for kind, scorer in made.items():
        save_scorer(scorer, folder / kind)
    return model
