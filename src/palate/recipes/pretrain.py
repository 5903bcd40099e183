"""Makes and measures the model that ships with the package.

`palate world pretrain` runs this; so does `python -m palate.recipes.pretrain`. With `--check` it
measures a finished folder instead: what its pictures for held-out prompts are worth.

Read next: `sampling.py`, the measurement; `lab/pretrain/README.md`, the command and its numbers.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from palate.backbones import shipped
from palate.backbones.lessons import Plan
from palate.backbones.pretraining import pretrain as train_pipeline
from palate.backbones.tiny import MOST_TOKENS, PIXELS, Pipeline
from palate.core.files import digest_file, write_json
from palate.core.record import code_state, versions
from palate.recipes.sampling import measure, save_grid
from palate.world import training_pictures

CARD = "palate.json"


def pretrain(
    out: Path,
    *,
    work: Path,
    log: Path,
    seed: int = 0,
    vae_steps: int = 1500,
    unet_steps: int = 5000,
    pictures: int = 24000,
    size: str = "shipped",
    threads: int = 1,
) -> dict[str, Any]:
    """Train the small pipeline on the small world and save it with its card.

    An interrupted training goes on when called again with the same `work` folder.

    Args:
        out: Folder of the finished pipeline.
        work: Folder of the resumable state.
        log: JSON-lines file of losses and seconds, appended to.
        seed: Decides pictures, weights, order, noise and levels.
        vae_steps: Steps of the autoencoder.
        unet_steps: Steps of UNet and text encoder.
        pictures: Training pictures, drawn from the world's train split.
        size: Which architecture, a key of `tiny.SIZES`.
        threads: Threads for torch; sums, and so the last digits, change with it.

    Returns:
        The card, as written to `out/palate.json`.
    """
    torch.set_num_threads(threads)
    plan = Plan(pictures=pictures, vae_steps=vae_steps, unet_steps=unet_steps)

    def scenes(purpose: str, n: int) -> tuple[np.ndarray, list[str]]:
        return training_pictures(n, seed, purpose=purpose)

    pipeline = train_pipeline(scenes, out, plan, seed=seed, work=work, log=log, size=size)
    card = {
        "what": "a small pipeline in Stable Diffusion 1.5's format, trained on the small world",
        "made by": "palate world pretrain",
        "seed": seed,
        "plan": asdict(plan),
        "threads": threads,
        "code": code_state(),
        "versions": versions(),
        **cost(pipeline),
        "sha256": {
            path.relative_to(out).as_posix(): digest_file(path)
            for path in sorted(out.rglob("*.safetensors"))
        },
    }
    write_json(out / CARD, card)
    return card


def cost(pipeline: Pipeline) -> dict[str, dict[str, int]]:
    """Parameters of each part, and floating-point operations of one forward pass for one picture.

    A multiplication and an addition are two operations.
    """
    side = PIXELS // 4
    latent, picture = torch.zeros(1, 4, side, side), torch.zeros(1, 3, PIXELS, PIXELS)
    tokens = torch.zeros(1, MOST_TOKENS, dtype=torch.long)
    condition = torch.zeros(1, MOST_TOKENS, pipeline.unet.config.cross_attention_dim)
    passes = {
        "unet": lambda: pipeline.unet(latent, torch.tensor([1]), condition),
        "encode": lambda: pipeline.vae.encode(picture),
        "decode": lambda: pipeline.vae.decode(latent),
        "text_encoder": lambda: pipeline.text_encoder(tokens),
    }
    operations = {}
    for name, run in passes.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        operations[name] = counter.get_total_flops()
    parts: dict[str, nn.Module] = {
        "unet": pipeline.unet,
        "vae": pipeline.vae,
        "text_encoder": pipeline.text_encoder,
    }
    sizes = {
        name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()
    }
    return {"parameters": sizes, "operations": operations}


def check(
    folder: Path | None = None,
    *,
    count: int = 100,
    each: int = 4,
    seed: int = 0,
    grid: Path | None = None,
    threads: int = 1,
) -> dict[str, float]:
    """Measure a pipeline folder, by default the shipped one, on held-out prompts.

    Args:
        folder: The pipeline folder.
        count: Number of prompts.
        each: Pictures per prompt.
        seed: Decides the prompts and the starting noise.
        grid: PNG of the first prompts' pictures, written when given.
        threads: Threads for torch.

    Returns:
        Means and deviations of the reward and its parts, and seconds per picture.
    """
    torch.set_num_threads(threads)
    pipeline = Pipeline.from_pretrained(folder or shipped())
    found = measure(pipeline, count=count, each=each, seed=seed)
    if grid is not None:
        save_grid(found, grid)
    return found.summary()


def main() -> None:
    """Train, or with `--check` measure, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain/model"))
    parser.add_argument("--work", type=Path, default=Path("runs/pretrain/work"))
    parser.add_argument("--log", type=Path, default=Path("runs/pretrain/log.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-steps", type=int, default=1500)
    parser.add_argument("--unet-steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="measure the shipped model instead")
    parser.add_argument("--grid", type=Path, help="with --check: where to write sample pictures")
    given = parser.parse_args()
    if given.check:
        result = check(seed=given.seed, grid=given.grid, threads=given.threads)
    else:
        result = pretrain(
            given.out,
            work=given.work,
            log=given.log,
            seed=given.seed,
            vae_steps=given.vae_steps,
            unet_steps=given.unet_steps,
            threads=given.threads,
        )
    print(json.dumps(result, indent=2))  # noqa: T201 - this is a command


if __name__ == "__main__":
    main()
