"""Teaches the small pipeline its pictures: the autoencoder first, then UNet and text encoder.

Pictures come from a function the caller hands in, so this room knows nothing of the world that
draws them. Every few minutes the whole state is written to the work folder, and a run started
again on the same folder goes on from there; every draw is a function of (seed, step).

Read next: `lessons.py`, the two losses; `tiny.py`, the networks;
`palate/recipes/pretrain.py`, which hands in the small world.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from palate.backbones.learner import Record
from palate.backbones.lessons import (
    Latents,
    Plan,
    Session,
    as_input,
    teach_autoencoder,
    teach_denoiser,
)
from palate.backbones.tiny import MOST_TOKENS, build
from palate.core.files import read_json, write_json
from palate.core.problems import StateError, require
from palate.core.streams import Streams

Pictures = Callable[[str, int], tuple[np.ndarray, list[str]]]


def pretrain(
    scenes: Pictures,
    out: Path,
    plan: Plan,
    *,
    seed: int,
    work: Path,
    log: Path,
    size: str = "shipped",
    checkpoint_seconds: float = 240.0,
    on_step: Callable[[int], None] = lambda step: None,
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
        size: Which architecture, a key of `tiny.SIZES`.
        checkpoint_seconds: How often the resumable state is written.
        on_step: Told the number of each UNet step before it is taken.

    Returns:
        The trained pipeline.

    Raises:
        StateError: when the work folder holds the state of another training.
    """
    _claim(work, {"plan": asdict(plan), "seed": seed, "size": size})
    log.parent.mkdir(parents=True, exist_ok=True)
    pictures, captions = scenes("train", plan.pictures)
    unseen, unseen_captions = scenes("validation", plan.validation)
    pipeline = build(captions, size=size, seed=seed)
    session = Session(
        plan=plan,
        streams=Streams(seed),
        work=work,
        record=Record(log),
        checkpoint_seconds=checkpoint_seconds,
        on_step=on_step,
    )
    teach_autoencoder(pipeline, pictures, unseen, session)
    latents = _measure_and_encode(pipeline, pictures)
    unseen_latents = _encode(pipeline, unseen)
    # The parts that training no longer changes; with a checkpoint they make pictures meanwhile.
    pipeline.save_pretrained(work / "pipeline")
    train = Latents(latents, _tokens(pipeline, captions))
    held = Latents(unseen_latents, _tokens(pipeline, unseen_captions))
    teach_denoiser(pipeline, train, held, _tokens(pipeline, [""])[0], session)
    pipeline.save_pretrained(out, safe_serialization=True)
    return pipeline


def _claim(work: Path, facts: dict[str, Any]) -> None:
    """Note in the work folder which training it belongs to, or see that it is this one."""
    note = work / "training.json"
    if not note.is_file():
        write_json(note, facts)
    known = read_json(note)
    require(
        known == facts,
        got=f"{work} with the state of {known}",
        need=f"the state of {facts}, or an empty folder",
        fix="Name another work folder, or repeat the settings it was begun with.",
        kind=StateError,
    )


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
