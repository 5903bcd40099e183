"""What doubting labels is worth: DPO on wrong labels as they are, and after an audit acted on T013.

Run from the repository: `python lab/minority/trained.py --out lab/minority/trained.csv`.
Labels as in `labels.py`, so that the wrong ones are known to us and not to the audit, which sees a
snapshot and nothing else: `palate audit DATA --drop T013 --out …` and `--downweight T013`. Every
arm is trained and asked by `lab/methods/run.py`, at its budget, on 100 prompts of its own.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

from labels import labelled

ACTS = {"dropped": "--drop", "downweighted": "--downweight"}
DPO = {"objective.name": "dpo", "objective.beta": 500.0}
RDPO = {"objective.name": "rdpo", "objective.beta": 500.0}


def made(table: Path) -> set[tuple[str, str]]:
    """The rows that are there."""
    if not table.exists():
        return set()
    with table.open(newline="") as file:
        return {(row["method"], row["seed"]) for row in csv.DictReader(file)}


def main() -> None:
    """Make the labels, audit them, and train on each version."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--work", type=Path, default=Path("runs/doubted"))
    asked.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    asked.add_argument("--conditions", nargs="+", default=["flip30", "minority20"])
    told = asked.parse_args()
    for seed in told.seeds:
        for condition in told.conditions:
            data = labelled(condition, seed, told.work)[0]
            arms = {"as-recorded": (data, DPO)}
            for name, act in ACTS.items():
                out = told.work / "audited" / f"{data.name}-{name}"
                if not out.exists():
                    command = ["audit", str(data), act, "T013", "--out", str(out)]
                    subprocess.run([sys.executable, "-m", "palate.cli", *command], check=True)
                arms[name] = (out, DPO)
            if condition == "flip30":
                arms["rdpo-told"] = (data, {**RDPO, "objective.epsilon": 0.3})
            for name, (folder, settings) in arms.items():
                if (f"{condition}/{name}", str(seed)) in made(told.out):
                    continue
                variant = f"--set={condition}/{name}={settings!r}"
                command = ["--data", str(folder), "--seeds", str(seed), "--prompts", "100", variant]
                command += ["--out", str(told.out), "--work", str(told.work / "runs")]
                run = Path(__file__).parents[1] / "methods" / "run.py"
                subprocess.run([sys.executable, str(run), *command], check=True)


if __name__ == "__main__":
    main()
