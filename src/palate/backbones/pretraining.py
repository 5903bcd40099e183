"""Teaches the small pipeline its pictures: the autoencoder first, then UNet and text encoder.

Pictures come from a function the caller hands in, so this room knows nothing of the world that
draws them. Every few minutes the whole state is written to the work folder, and a run started
again on the same folder goes on from there; every draw is a function of (seed, step).

Read next: `tiny.py`, the networks; `recipes/pretrain.py`, which hands in the small world.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from palate.backbones.tiny import MOST_TOKENS, build
from palate.core.streams import Streams

Pictures = Callable[[str, int], tuple[np.ndarray, list[str]]]
_CHECKPOINT_SECONDS = 240.0
_LOG_EVERY = 25


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        pictures: Number of training pictures.
        vae_steps: Optimiser steps of the autoencoder.
        unet_steps: Optimiser steps of UNet and text encoder together.
        vae_batch: Pictures a step.
        unet_batch: Latents a step.
        vae_rate: Peak learning rate of the autoencoder.
        unet_rate: Peak learning rate of UNet and text encoder.
        decay: Decay of the weights' moving average, which is what is saved.
        dropout: Share of captions replaced by the empty one, for classifier-free guidance.
    """

    pictures: int = 24000
    vae_steps: int = 1500
    unet_steps: int = 6000
    vae_batch: int = 16
    unet_batch: int = 48
    vae_rate: float = 2e-3
    unet_rate: float = 1e-3
    decay: float = 0.999
    dropout: float = 0.1


def pretrain(
    scenes: Pictures, out: Path, plan: Plan, *, seed: int, work: Path, log: Path
) -> StableDiffusionPipeline:
    """Train a pipeline on pictures with captions and save it to `out` as a pipeline folder.

    Args:
        scenes: (purpose, n) to uint8 [n, 64, 64, 3] and n captions; asked for the purposes
            "train" and "validation", and must answer the same each time.
        out: Folder of the finished pipeline.
        plan: Steps, batches and rates.
        seed: Decides weights, order, noise and levels.
        work: Folder of the resumable state.
        log: JSON-lines file, appended to.

    Returns:
        The trained pipeline.
    """
    work.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    pictures, captions = scenes("train", plan.pictures)
    unseen, unseen_captions = scenes("validation", 512)
    pipeline = build(captions, seed=seed)
    record = _Record(log)
    _train_autoencoder(pipeline, pictures, unseen, plan, seed, work, record)
    latents = _measure_and_encode(pipeline, pictures)
    unseen_latents = _encode(pipeline, unseen)
    # The parts that training no longer changes; with a checkpoint they make pictures meanwhile.
    pipeline.save_pretrained(work / "pipeline")
    train = _Latents(latents, _tokens(pipeline, captions))
    held = _Latents(unseen_latents, _tokens(pipeline, unseen_captions))
    _train_unet(pipeline, train, held, plan, seed, work, record)
    pipeline.save_pretrained(out, safe_serialization=True)
    return pipeline


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Latents:
    """Scaled latents [n, 4, 16, 16] and token ids [n, 24], row by row."""

    latents: Tensor
    tokens: Tensor


@final
class _Record:
    """Appends one JSON line per entry."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, **entry: Any) -> None:
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in entry.items()}
        with self.path.open("a") as lines:
            lines.write(json.dumps(rounded) + "\n")


@final
class _Learner:
    """Weights with AdamW, warm-up, cosine decay, clipping and a moving average; resumable."""

    def __init__(
        self, modules: dict[str, nn.Module], *, steps: int, rate: float, decay: float, file: Path
    ) -> None:
        self.modules, self.steps, self.rate, self.decay = modules, steps, rate, decay
        self.file = file
        self.average = {name: copy.deepcopy(module) for name, module in modules.items()}
        self.weights = [weight for module in modules.values() for weight in module.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.step, self.seconds = 0, 0.0
        self._started = self._saved = time.monotonic()
        if file.is_file():
            self._load()

    def remaining(self) -> Iterator[int]:
        """The steps still to do; keeps the clock and the checkpoint."""
        while self.step < self.steps:
            yield self.step
            self.step += 1
            now = time.monotonic()
            if now - self._saved > _CHECKPOINT_SECONDS or self.step == self.steps:
                self._save()
                self._saved = now

    def elapsed(self) -> float:
        """Seconds of training, over all interruptions."""
        return self.seconds + time.monotonic() - self._started

    def descend(self, loss: Tensor) -> None:
        """One optimiser step down the gradient of the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        warm = min(1.0, (self.step + 1) / 100)
        cosine = 0.5 * (1.0 + math.cos(math.pi * self.step / self.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * (0.02 + 0.98 * cosine)
        self.optimiser.step()
        # A young average follows quickly, else it would remember the random start.
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, module in self.modules.items():
                pairs = zip(self.average[name].parameters(), module.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.lerp_(fast, 1.0 - keep)

    def adopt(self) -> None:
        """Put the moving average into the modules themselves."""
        for name, module in self.modules.items():
            module.load_state_dict(self.average[name].state_dict())
            module.eval()

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.elapsed(),
            "optimiser": self.optimiser.state_dict(),
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "average": {name: module.state_dict() for name, module in self.average.items()},
        }
        partial = self.file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.file)

    def _load(self) -> None:
        state = torch.load(self.file, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.optimiser.load_state_dict(state["optimiser"])
        for name in self.modules:
            self.modules[name].load_state_dict(state["modules"][name])
            self.average[name].load_state_dict(state["average"][name])


def _train_autoencoder(
    pipeline: StableDiffusionPipeline,
    pictures: np.ndarray,
    unseen: np.ndarray,
    plan: Plan,
    seed: int,
    work: Path,
    record: _Record,
) -> None:
    """Reproduce the picture, with a slight pull of the latents towards a unit normal."""
    vae, streams = pipeline.vae.train(), Streams(seed)
    learner = _Learner(
        {"vae": vae},
        steps=plan.vae_steps,
        rate=plan.vae_rate,
        decay=plan.decay,
        file=work / "autoencoder.pt",
    )
    for step in learner.remaining():
        rows = streams("autoencoder rows", step).numpy().integers(len(pictures), size=plan.vae_batch)
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


def _measure_and_encode(pipeline: StableDiffusionPipeline, pictures: np.ndarray) -> Tensor:
    """Encode everything and set the scaling factor that makes the latents' deviation one."""
    pipeline.vae.register_to_config(scaling_factor=1.0)
    latents = _encode(pipeline, pictures)
    factor = round(1.0 / latents.std().item(), 5)
    pipeline.vae.register_to_config(scaling_factor=factor)
    return latents * factor


@torch.no_grad()
def _encode(pipeline: StableDiffusionPipeline, pictures: np.ndarray) -> Tensor:
    """Mean latents, scaled, float32 [n, 4, 16, 16]."""
    vae = pipeline.vae
    parts = [
        vae.encode(as_input(pictures[start : start + 64])).latent_dist.mean
        for start in range(0, len(pictures), 64)
    ]
    return torch.cat(parts) * vae.config.scaling_factor


def _tokens(pipeline: StableDiffusionPipeline, captions: list[str]) -> Tensor:
    batch = pipeline.tokenizer(
        captions,
        padding="max_length",
        truncation=True,
        max_length=MOST_TOKENS,
        return_tensors="pt",
    )
    return batch.input_ids


def _train_unet(
    pipeline: StableDiffusionPipeline,
    train: _Latents,
    held: _Latents,
    plan: Plan,
    seed: int,
    work: Path,
    record: _Record,
) -> None:
    """Predict the noise, with the caption or, for one picture in ten, without."""
    streams, empty = Streams(seed), _tokens(pipeline, [""])[0]
    # The fused attention's backward pass takes a third of a step on a CPU; the plain one does not.
    pipeline.unet.set_attn_processor(AttnProcessor())
    learner = _Learner(
        {"unet": pipeline.unet.train(), "text_encoder": pipeline.text_encoder.train()},
        steps=plan.unet_steps,
        rate=plan.unet_rate,
        decay=plan.decay,
        file=work / "unet.pt",
    )
    for step in learner.remaining():
        chance = streams("rows", step).numpy()
        rows = torch.from_numpy(chance.integers(len(train.latents), size=plan.unet_batch))
        tokens = train.tokens[rows].clone()
        tokens[torch.from_numpy(chance.random(plan.unet_batch) < plan.dropout)] = empty
        loss = _denoising_loss(pipeline, train.latents[rows], tokens, streams, ("train", step))
        learner.descend(loss)
        if step % _LOG_EVERY == 0:
            record(part="unet", step=step, loss=loss.item(), seconds=learner.elapsed())
        if step % (_LOG_EVERY * 20) == 0:
            error = _validate(learner.average, held, pipeline, streams)
            record(part="unet", step=step, validation=error, seconds=learner.elapsed())
    learner.adopt()
    error = _validate(learner.average, held, pipeline, streams)
    record(part="unet", step=learner.step, validation=error, seconds=learner.elapsed())


def _denoising_loss(
    pipeline: StableDiffusionPipeline,
    clean: Tensor,
    tokens: Tensor,
    streams: Streams,
    name: tuple[str, int],
) -> Tensor:
    """Mean squared error of the predicted noise at random levels."""
    noise = streams("noise", *name).normal(tuple(clean.shape))
    levels = torch.from_numpy(streams("level", *name).numpy().integers(1000, size=len(clean)))
    noisy = _SCHEDULE.add_noise(clean, noise, levels)
    with torch.autocast("cpu", torch.bfloat16):
        condition = pipeline.text_encoder(tokens)[0]
        guess = pipeline.unet(noisy, levels, condition).sample
    return (guess.float() - noise).square().mean()


@torch.no_grad()
def _validate(
    average: dict[str, Any], held: _Latents, pipeline: StableDiffusionPipeline, streams: Streams
) -> float:
    """The averaged weights' loss on unseen pictures, always at the same levels and noise."""
    judge = copy.copy(pipeline)
    judge.unet, judge.text_encoder = average["unet"].eval(), average["text_encoder"].eval()
    loss = _denoising_loss(judge, held.latents, held.tokens, streams, ("validation", 0))
    return loss.item()


def as_input(pictures: np.ndarray) -> Tensor:
    """uint8 [n, h, w, 3] to float32 [n, 3, h, w] in [-1, 1], as the autoencoder takes it."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()


_SCHEDULE = DDPMScheduler(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
)
