"""Makes the model that ships with the package: the small world's pictures, the small pipeline.

Run it as `python -m palate.recipes.pretrain`; `lab/pretrain/README.md` has the exact command.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from palate.backbones.pretraining import Plan
from palate.backbones.pretraining import pretrain as train_pipeline
from palate.world.render import training_pictures


def pretrain(
    out: Path,
    *,
    seed: int = 0,
    vae_steps: int,
    unet_steps: int,
    threads: int = 1,
    log: Path,
    work: Path,
) -> dict[str, object]:
    """Train the small pipeline."""
    torch.set_num_threads(threads)

    def scenes(purpose: str, n: int) -> tuple[np.ndarray, list[str]]:
        return training_pictures(n, seed, purpose=purpose)

    plan = Plan(vae_steps=vae_steps, unet_steps=unet_steps)
    train_pipeline(scenes, out, plan, seed=seed, work=work, log=log)
    return {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-steps", type=int, default=1500)
    parser.add_argument("--unet-steps", type=int, default=4000)
    arguments = parser.parse_args()
    pretrain(**vars(arguments))
