"""Known flips: DPO, cDPO and rDPO where a fixed share of clean labels was turned round.

Run from the repository: `python lab/methods/flips.py --out lab/methods/flips.csv`.
The labels are the true reward's (no noise of their own), then 30 % of them, drawn once, are
swapped; cDPO and rDPO are told the rate. `clean` is DPO on the labels before the swap.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from palate.core.streams import Streams
from palate.data.comparison import compare
from palate.data.pairs import PreferencePairs
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.recipes.demo import PAIRS
from palate.world import TrueReward

RATE = 0.3
VARIANTS = {
    "dpo": {"objective.name": "dpo", "objective.beta": 500.0},
    "cdpo": {"objective.name": "cdpo", "objective.beta": 500.0, "objective.epsilon": RATE},
    "rdpo": {"objective.name": "rdpo", "objective.beta": 500.0, "objective.epsilon": RATE},
}


def snapshots(work: Path) -> tuple[Path, Path]:
    """The shipped pictures with clean labels, and with the same labels partly swapped."""
    clean, flipped = work / "clean", work / "flipped"
    if clean.exists() and flipped.exists():
        return clean, flipped
    told = Store(work / "told")
    import_comparisons(told, "pickapic", PAIRS, labels="world")
    told.freeze(work / "told-snapshot")
    pairs = PreferencePairs.open(work / "told-snapshot")
    reward = TrueReward()
    for folder, rate in ((clean, 0.0), (flipped, RATE)):
        store, rows = Store(work / f"{folder.name}-store"), []
        for pair in pairs:
            images = [pairs.image(pair.chosen), pairs.image(pair.rejected)]
            first, second = reward.score(images, [pair.prompt] * 2)
            # One draw per pair of pictures: the same labels are turned round in every run.
            turned = Streams(0)("flip", pair.id).uniform() < rate
            refs = [store.put(image) for image in images]
            ranks = (1, 2) if (first > second) != turned else (2, 1)
            rows.append(
                compare(prompt=pair.prompt, images=refs, ranks=ranks, judge="truth", source="world")
            )
        store.add(rows)
        store.freeze(folder)
    return clean, flipped


def main() -> None:
    """Make the data, and hand it to `run.py`."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    asked.add_argument("--work", type=Path, default=Path("runs/flips"))
    told = asked.parse_args()
    clean, flipped = snapshots(told.work)
    base = [sys.executable, str(Path(__file__).parent / "run.py"), "--out", str(told.out)]
    base += ["--work", str(told.work / "runs")]
    variants = [f"--set={name}={values!r}" for name, values in VARIANTS.items()]
    clean_dpo = f"--set=clean={VARIANTS['dpo']!r}"
    for data, sets in ((clean, [clean_dpo]), (flipped, variants)):
        command = [*base, "--data", str(data), *sets, "--seeds", *told.seeds]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
