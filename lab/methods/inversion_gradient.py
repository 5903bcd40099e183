"""What Inversion-DPO learns first: its gradient at the start, by what the network is asked to say.

Run from the repository: python lab/methods/inversion_gradient.py --out FILE.csv --seeds 0 1 2

With the reference's own answer as target both errors are at their minimum before the first step,
so the gradient is zero, and afterwards it can only point where a perturbation pointed. Measured on
the shipped model with LoRA of rank 16 on four shipped pairs: the norm of the gradient of the mean
loss at step 0; the same after 1e-3 times normal numbers was added to every trained weight; and the
cosine between the gradients after two such perturbations, which is 1 where the pairs decide and
near 0 where the perturbation does. Published settings, but twelve levels instead of eighty.
"""

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from palate.backbones import load
from palate.backbones.backbone import Backbone
from palate.core.streams import Streams
from palate.data.pairs import PreferencePairs
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.objectives import InversionDPO
from palate.recipes.demo import PAIRS
from palate.train.batch import Batch, Batches
from palate.train.cache import Cache
from palate.train.denoise import denoise
from palate.train.inverted import open_inverted
from palate.train.run import Run

torch.set_num_threads(1)
COUNT, LEVELS, AMOUNT = 4, 12, 1e-3
TARGETS = ("reference", "trajectory", "clean")


def gradient(backbone: Backbone, run: Run, cache: Cache, folder: Path, batch: Batch) -> Tensor:
    """The gradient of the mean loss, all weights in one row."""
    for weight in backbone.trainable().values():
        weight.grad = None
    source = open_inverted(run, backbone, cache, folder, COUNT, lambda _event: None)
    objective = run.build_objective()
    contrast = denoise(backbone, batch, source(batch), InversionDPO.needs)
    objective(contrast).loss.mean().backward()
    found = [weight.grad for weight in backbone.trainable().values()]
    return torch.cat([g.detach().flatten().double() for g in found if g is not None])


def moved(start: dict[str, Tensor], seed: int, which: int) -> dict[str, Tensor]:
    """The weights with keyed normal numbers on top."""
    return {
        name: weight + AMOUNT * Streams(seed)("perturb", which, name).normal(tuple(weight.shape))
        for name, weight in start.items()
    }


def measure(seed: int, pairs: PreferencePairs, work: Path) -> list[dict[str, object]]:
    """One row per target, all on the same pairs, start and perturbations."""
    rows: list[dict[str, object]] = []
    for target in TARGETS:
        run = Run.from_values(
            {"model": "shipped", "data": "shipped pairs", "seed": seed, "adapter.rank": 16,
             "objective.name": "inversion-dpo", "inversion.steps": LEVELS,
             "inversion.target": target}
        )  # fmt: skip
        backbone = load("shipped", adapter=run.build_adapter(), train=True)
        cache = Cache(work, backbone, backbone.resolution)
        chosen = [pairs[i] for i in Streams(seed)("pairs").permutation(len(pairs))[:COUNT]]
        cache.fill(backbone, chosen, run.pictures, pairs.image, lambda _text: None)
        batch = Batches(cache=cache, pictures=run.pictures, streams=Streams(seed)).plain(chosen)
        start = {name: weight.clone() for name, weight in backbone.state().items()}
        first = gradient(backbone, run, cache, work, batch)
        after: list[Tensor] = []
        for which in range(2):
            backbone.load_state(moved(start, seed, which))
            after.append(gradient(backbone, run, cache, work, batch))
        cosine = torch.nn.functional.cosine_similarity(after[0], after[1], dim=0)
        rows.append(
            {
                "target": target,
                "seed": seed,
                "norm_at_start": f"{float(first.norm()):.6g}",
                "norm_perturbed": f"{float(after[0].norm()):.6g}",
                "norm_perturbed_otherwise": f"{float(after[1].norm()):.6g}",
                "cosine_of_both": f"{float(cosine):.4f}",
            }
        )
    return rows


def main(seeds: Sequence[int], out: Path) -> None:
    """All seeds, one file."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        store = Store(work / "store")
        import_comparisons(store, "pickapic", PAIRS, labels="world", limit=200)
        store.freeze(work / "snapshot")
        pairs = PreferencePairs.open(work / "snapshot")
        rows = [row for seed in seeds for row in measure(seed, pairs, work / "cache")]
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, default=Path("lab/methods/inversion_gradient.csv"))
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told = asked.parse_args()
    main(told.seeds, told.out)
