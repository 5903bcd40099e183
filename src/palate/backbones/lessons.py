"""The two lessons of pretraining: pictures to latents and back, then noise to latents by caption.

Read next: `learner.py`, the optimiser and its checkpoint; `pretraining.py`, which gives both.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from palate.backbones.learner import Learner, Record
from palate.core.streams import Streams

_LOG_EVERY = 25
_SHARE_OF_NOISIEST = 0.25
_SCHEDULE = DDPMScheduler(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        pictures: Number of training pictures.
        validation: Number of pictures kept for the validation loss.
        vae_steps: Optimiser steps of the autoencoder.
        unet_steps: Optimiser steps of UNet and text encoder together.
        vae_batch: Pictures a step.
        unet_batch: Latents a step.
        vae_rate: Peak learning rate of the autoencoder.
        unet_rate: Peak learning rate of UNet and text encoder.
        decay: Decay of the weights' moving average, which is what is saved.
        dropout: Share of captions replaced by the empty one, for classifier-free guidance.
    """

    pictures: int
    validation: int = 512
    vae_steps: int
    unet_steps: int
    vae_batch: int = 16
    unet_batch: int = 48
    vae_rate: float = 2e-3
    unet_rate: float = 1e-3
    decay: float = 0.999
    dropout: float = 0.1


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Session:
    """What both trainings need to know about the run they are part of."""

    plan: Plan
    streams: Streams
    work: Path
    record: Record
    checkpoint_seconds: float
    on_step: Callable[[int], None]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Scaled latents [n, 4, 16, 16] and token ids [n, 24], row by row."""

    latents: Tensor
    tokens: Tensor


def teach_autoencoder(
    pipeline: StableDiffusionPipeline,
    pictures: np.ndarray,
    unseen: np.ndarray,
    session: Session,
) -> None:
    """Reproduce the picture, with a slight pull of the latents towards a unit normal."""
    plan, streams, record = session.plan, session.streams, session.record
    vae = pipeline.vae.train()
    learner = Learner(
        {"vae": vae},
        steps=plan.vae_steps,
        rate=plan.vae_rate,
        decay=plan.decay,
        file=session.work / "autoencoder.safetensors",
        checkpoint_seconds=session.checkpoint_seconds,
    )
    for step in learner.remaining():
        rows = (
            streams("autoencoder rows", step).numpy().integers(len(pictures), size=plan.vae_batch)
        )
        target = as_input(pictures[rows])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(target).latent_dist
            noise = streams("autoencoder noise", step).normal(tuple(posterior.mean.shape))
            guess = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        mean, spread = posterior.mean.float(), posterior.logvar.float()
        pull = 0.5 * (mean.square() + spread.exp() - 1.0 - spread).mean()
        loss = _picture_loss(guess, target) + 1e-5 * pull
        learner.descend(loss)
        if step % _LOG_EVERY == 0:
            record(part="autoencoder", step=step, loss=loss.item(), seconds=learner.elapsed())
    learner.adopt()
    with torch.no_grad():
        check = as_input(unseen[:128])
        error = (vae(check).sample - check).square().mean().item()
    record(part="autoencoder", step=learner.step, validation=error, seconds=learner.elapsed())


def _picture_loss(guess: Tensor, target: Tensor) -> Tensor:
    """Squared and absolute error, with extra weight on hue and on coloured pixels.

    Most of a picture is plain background: unweighted, green and blue were told apart last of all.
    """
    difference, hue = guess - target, _chroma(target)
    coloured = 1.0 + 4.0 * hue.square().sum(1, keepdim=True).sqrt().clamp(max=1.0)
    plain = difference.square() + 0.3 * difference.abs()
    return (coloured * plain).mean() + 2.0 * (coloured * _chroma(difference).square()).mean()


def _chroma(rgb: Tensor) -> Tensor:
    """[n, 3, h, w] to the two colour axes [n, 2, h, w], zero for greys."""
    red, green, blue = rgb.unbind(1)
    return torch.stack([red - 0.5 * (green + blue), 0.866 * (green - blue)], 1)


def teach_denoiser(
    pipeline: StableDiffusionPipeline,
    train: Latents,
    held: Latents,
    empty: Tensor,
    session: Session,
) -> None:
    """Predict the noise, with the caption or, for one picture in ten, without."""
    plan, streams, record = session.plan, session.streams, session.record
    # The fused attention's backward pass takes a third of a step on a CPU; the plain one does not.
    pipeline.unet.set_attn_processor(AttnProcessor())
    learner = Learner(
        {"unet": pipeline.unet.train(), "text_encoder": pipeline.text_encoder.train()},
        steps=plan.unet_steps,
        rate=plan.unet_rate,
        decay=plan.decay,
        file=session.work / "unet.safetensors",
        checkpoint_seconds=session.checkpoint_seconds,
    )
    for step in learner.remaining():
        session.on_step(step)
        chance = streams("rows", step).numpy()
        rows = torch.from_numpy(chance.integers(len(train.latents), size=plan.unet_batch))
        tokens = train.tokens[rows].clone()
        tokens[torch.from_numpy(chance.random(plan.unet_batch) < plan.dropout)] = empty
        clean, levels = train.latents[rows], _draw_levels(chance, plan.unet_batch)
        noise = streams("noise", step).normal(tuple(clean.shape))
        errors = _noise_errors(pipeline, clean, tokens, levels, noise)
        loss = (_weights(levels) * errors).mean()
        learner.descend(loss)
        if step % _LOG_EVERY == 0:
            record(part="unet", step=step, loss=loss.item(), seconds=learner.elapsed())
        if step % (_LOG_EVERY * 20) == 0:
            error = _validate(learner.average, held, pipeline, streams)
            record(part="unet", step=step, validation=error, seconds=learner.elapsed())
    learner.adopt()
    error = _validate(learner.average, held, pipeline, streams)
    record(part="unet", step=learner.step, validation=error, seconds=learner.elapsed())


def _noise_errors(
    pipeline: StableDiffusionPipeline, clean: Tensor, tokens: Tensor, levels: Tensor, noise: Tensor
) -> Tensor:
    """Mean squared error of the predicted noise, one per picture, float32 [n]."""
    noisy = _SCHEDULE.add_noise(clean, noise, cast(Any, levels))
    with torch.autocast("cpu", torch.bfloat16):
        condition = pipeline.text_encoder(tokens)[0]
        guess = pipeline.unet(noisy, levels, condition).sample
    return (guess.float() - noise).square().flatten(1).mean(1)


def _draw_levels(chance: np.random.Generator, n: int) -> Tensor:
    """Noise levels [n]: three quarters anywhere, one quarter among the noisiest fifth."""
    lowest = np.where(chance.random(n) < _SHARE_OF_NOISIEST, 800, 0)
    return torch.from_numpy(chance.integers(lowest, 1000))


def _weights(levels: Tensor) -> Tensor:
    """How much an error counts: from 1 for clean to 6 for almost pure noise.

    A latent of 16×16 shows its background through the strongest noise, so the caption would
    hardly be asked for it, and a sampler that starts from nothing would then guess it. There the
    error of the noise is small, whatever the picture turns out to be: it has to count more.
    """
    kept = _SCHEDULE.alphas_cumprod[levels]
    return 1.0 + 0.25 * ((1.0 - kept) / kept).clamp(max=20.0)


@torch.no_grad()
def _validate(
    average: dict[str, Any], held: Latents, pipeline: StableDiffusionPipeline, streams: Streams
) -> float:
    """The averaged weights' plain error on unseen pictures, always at the same levels and noise."""
    judge = copy.copy(pipeline)
    judge.unet, judge.text_encoder = average["unet"].eval(), average["text_encoder"].eval()
    count = len(held.latents)
    levels = torch.from_numpy(streams("validation level").numpy().integers(1000, size=count))
    noise = streams("validation noise").normal(tuple(held.latents.shape))
    return _noise_errors(judge, held.latents, held.tokens, levels, noise).mean().item()


def as_input(pictures: np.ndarray) -> Tensor:
    """uint8 [n, h, w, 3] to float32 [n, 3, h, w] in [-1, 1], as the autoencoder takes it."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()
