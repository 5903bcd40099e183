"""Implicit margins by runs that never saw the pair, and by adaptive runs that did.

Run from the repository, after `adaptive.py`: `python lab/minority/crossed.py --work runs/minority`.
Two folds: two trainings of DPO on half the prompts each, with the settings of `lab/methods`.
Rows come pair by pair into `margins/` as soon as they are known, so that a stop loses nothing.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from labels import CONDITIONS, labelled

from palate.core.files import write_json
from palate.recipes.doubts import cross_margins, run_evidence

torch.set_num_threads(1)


def main() -> None:
    """Margins for each condition and seed that are not there yet."""
    asked = argparse.ArgumentParser()
    asked.add_argument("conditions", nargs="*", default=CONDITIONS)
    asked.add_argument("--kind", choices=("cross", "own"), default="cross")
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--work", type=Path, default=Path("runs/minority"))
    told = asked.parse_args()
    for seed in told.seeds:
        for condition in told.conditions:
            out = told.work / "margins" / f"{told.kind}-{condition}-{seed}.json"
            if out.exists():
                continue
            data, _ = labelled(condition, seed, told.work)
            found = {
                "cross": lambda d=data, s=seed, c=condition: cross_margins(
                    d, told.work / "cross" / f"{c}-{s}", seed=s, cache=told.work / "cache"
                ),
                "own": lambda d=data, s=seed, c=condition: run_evidence(
                    told.work / "adaptive" / f"{c}-{s}", d
                ),
            }[told.kind]()
            out.parent.mkdir(exist_ok=True)
            write_json(
                out, {"run": found.run, "pairs": {k: asdict(v) for k, v in found.pairs.items()}}
            )
            print(json.dumps([told.kind, condition, seed, len(found.pairs)]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
