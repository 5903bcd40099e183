"""One model that follows many tastes, in the small world: train, draw for everyone, measure.

Run from the repository, for example:
    python lab/personal/run.py --out lab/personal --seeds 0 1 2 -- taste pooled
Each seed has people of its own (48, of whom 12 are never learned from), pairs of their own and a
training of its own. What was drawn is measured once, in the four numbers that every taste weighs,
and written to `drawn.csv`; `table.py` makes rewards and win rates of it. A part that is there is
not made again. `--set NAME='{...}'` adds a training under a name of its own, with these settings.

`--choosing` is for choosing settings: other prompts than those that are reported.
"""

import argparse
import ast
import csv
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from palate.backbones import load
from palate.backbones.backbone import Backbone
from palate.backbones.listening import Listening
from palate.data.pairs import PreferencePairs
from palate.data.people import users_of
from palate.data.seen import part_people
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.evaluate.crossed import drawn_from
from palate.evaluate.drift import broken
from palate.recipes.pairs import SAMPLER
from palate.recipes.people import PAIRS, PEOPLE, make_people, read_tastes
from palate.train.embedding import examples_of
from palate.train.loop import train
from palate.train.run import Run
from palate.train.tastes import fit_tastes
from palate.train.users import Learned, open_user_encoder, read_users
from palate.world import SPREAD, Taste, parts, prompts

torch.set_num_threads(1)
JUDGES, UNSEEN, FEW = 48, 0.25, 4
TASTES, TOLD = "tastes", "told"
SEED_OF_PROMPTS = 50_665
PARTS = ("fidelity", "vividness", "tidiness", "composition")
COMMON: dict[str, Any] = {
    "model": "shipped",
    "plan.steps": 160,
    "plan.batch": 32,
    "plan.schedule": "cosine",
    "plan.warmup_steps": 10,
    "plan.health_every": 80,
    "plan.save_every": 1000,
    "plan.tensorboard": "off",
    "health.pairs": 64,
    "health.stop": False,
    "split.held_out": 0.05,
    "objective.beta": 500.0,
}
PERSONAL: dict[str, Any] = {
    "objective.name": "ppd",
    "plan.learning_rate": 1.5e-3,
    "personal.width": 64,
}
# People are learned by sixteen of their pairs, which say more surely who they are; whoever comes
# later is drawn for by four. The mean over examples takes any number.
EXAMPLES = {"personal.examples": 16, "personal.subsets": 64}
ARMS: dict[str, dict[str, Any]] = {
    # A place among the tastes of the people learned from (`palate users fit`), by plain statistics.
    "taste": {**PERSONAL, **EXAMPLES, "personal.users": f"taste:{TASTES}"},
    # What a perfect encoder would be worth: everybody's true taste, of the unseen too, is told.
    "told": {**PERSONAL, "personal.users": "learned"},
    # The mean of plain statistics' differences, 31 numbers, nothing learned.
    "looks": {**PERSONAL, **EXAMPLES, "personal.users": "looks"},
    # A trained vector for each person of the training; nobody unseen has one.
    "learned": {**PERSONAL, "personal.users": "learned"},
    # Diffusion-DPO on everybody's pairs as if they were one person's, at the demo's settings.
    "pooled": {"objective.name": "dpo", "adapter.rank": 16, "plan.learning_rate": 1.3e-3},
}


def asked_prompts(count: int, *, choosing: bool) -> list[str]:
    """Held-out prompts: the first of them to report, the last of them to choose settings by."""
    every = prompts("held-out", 4000, SEED_OF_PROMPTS)
    return every[-count:] if choosing else every[:count]


def data_of(seed: int, each: int, work: Path) -> Path:
    """The folder of one seed's people: their pairs and tastes, and the split of them."""
    out = work / f"people-{seed}-{each}"
    if not (out / PEOPLE).exists():
        make_people(out, judges=JUDGES, pairs_each=each, seed=seed)
    if not (out / "snapshot").exists():
        store = Store(out / "store")
        import_comparisons(store, "pickapic", out / PAIRS, labels="world")
        store.freeze(out / "snapshot")
    if not (out / "split").exists():
        part_people(
            out / "snapshot", out / "split", unseen=UNSEEN, held_out=0.1, few=FEW, seed=seed
        )
    if not (out / TASTES).exists():
        fit_tastes(PreferencePairs.open(out / "split" / "train"), "looks", out / TASTES, seed=seed)
    return out


@contextmanager
def known_by_taste(tastes: Mapping[str, Taste]) -> Iterator[None]:
    """Inside, vectors that would be trained for each person say what the person truly likes."""

    def known(self: Learned, names: Sequence[str]) -> Tensor:
        rows = torch.zeros(len(names), 1, self.width)
        for row, name in enumerate(names):
            rows[row, 0, : len(SPREAD)] = direction_of(tastes[name])
        return rows

    before, Learned.known = Learned.known, known
    try:
        yield
    finally:
        Learned.known = before


def direction_of(taste: Taste) -> Tensor:
    """A taste in units of natural spread, with a root mean square of one."""
    weights = torch.tensor([getattr(taste, part) * size for part, size in SPREAD.items()])
    return weights / weights.square().mean().sqrt()


def trained(arm: str, settings: Mapping[str, Any], data: Path, seed: int, work: Path) -> Any:
    """The finished training of an arm; one that is finished already is read again."""
    values = {**COMMON, **settings, "data": str(data / "split" / "train"), "seed": seed}
    if values.get("personal.users") == f"taste:{TASTES}":
        values["personal.users"] = f"taste:{data / TASTES}"
    run, folder = Run.from_values(values), work / f"{arm}-{seed}"
    with known_by_taste(read_tastes(data / PEOPLE)) if arm == TOLD else nullcontext():
        return train(run, folder, cache=work / "cache", resume=folder.exists())


def embeddings_of(arm: str, export: Path, data: Path) -> dict[str, dict[str, Tensor]]:
    """By group, everybody's embedding: of the unseen by the four pairs that are known of them."""
    known = read_users(export)
    found = {"seen": dict(known)}
    if arm == TOLD:
        tastes, width = read_tastes(data / PEOPLE), known.tensor.shape[-1]
        told = {name: direction_of(taste) for name, taste in tastes.items()}
        padded = {
            name: functional.pad(row, (0, width - len(row)))[None] for name, row in told.items()
        }
        return {**found, "unseen": {n: row for n, row in padded.items() if n not in known}}
    if known.about["users"] == "learned":
        return found
    encoder = open_user_encoder(
        known.about["users"], pooling=known.about["pooling"], examples=FEW, device="cpu"
    )
    pairs = PreferencePairs.open(data / "split" / "examples")
    few = users_of(pairs)
    rows = encoder.embed([examples_of(pairs, few[name]) for name in sorted(few)])
    return {**found, "unseen": dict(zip(sorted(few), rows, strict=True))}


def measured(model: Backbone, asked: list[str], seed: int) -> Iterator[dict[str, Any]]:
    """The four numbers of one picture per prompt; a broken picture has none."""
    pictures = drawn_from(model, [(prompt, 0) for prompt in asked], seed, SAMPLER)
    whole = ~np.asarray(broken(pictures))
    for number, (picture, prompt) in enumerate(zip(pictures, asked, strict=True)):
        found = parts(picture, prompt) if whole[number] else dict.fromkeys(PARTS, float("nan"))
        yield {"prompt": number, **{part: round(found[part], 5) for part in PARTS}}


def draw_all(
    arm: str, export: Path, data: Path, asked: list[str], told: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Rows of everything that one training draws: for each person, or for everybody alike."""
    model = load("shipped", weights=export)
    if model.personal is None:
        for row in measured(model, asked, 0):
            yield {"arm": arm, "group": arm, "drawn_for": "", **row}
        return
    for strength in told.strengths:
        name = arm if strength == 1 else f"{arm} x{strength:g}"
        for group, people in embeddings_of(arm, export, data).items():
            for user in sorted(people)[: told.seen if group == "seen" else None]:
                voice = Listening(model, people[user], strength=strength)
                for row in measured(voice, asked, 0):
                    yield {"arm": name, "group": group, "drawn_for": user, **row}


def append(table: Path, rows: list[dict[str, Any]]) -> None:
    """More lines; the header comes with the first."""
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        if new:
            writer.writeheader()
        writer.writerows(rows)


def there(table: Path, seed: int, arm: str) -> bool:
    """Whether a table has rows of this training."""
    if not table.exists():
        return False
    with table.open(newline="") as file:
        return any(row["seed"] == str(seed) and row["arm"] == arm for row in csv.DictReader(file))


def one(
    arm: str, settings: Mapping[str, Any], seed: int, asked: list[str], told: argparse.Namespace
) -> None:
    """Train and draw one arm for one seed, and write what was found."""
    started = time.perf_counter()
    data = data_of(seed, told.pairs_each, told.work)
    shutil.copy(data / PEOPLE, told.out / f"people-{seed}.json")
    result = trained(arm, settings, data, seed, told.work)
    seconds = time.perf_counter() - started
    rows = list(draw_all(arm, result.export, data, asked, told))
    append(told.out / "drawn.csv", [{"seed": seed, **row} for row in rows])
    last = result.health[-1]
    row = {
        "seed": seed,
        "arm": arm,
        "winner_drift": round(last["winner_drift"], 5),
        "loser_drift": round(last["loser_drift"], 5),
        "accuracy": last["accuracy"] and round(last["accuracy"]["value"], 4),
        "pairs_seen": sum(step["pairs"] for step in result.history if step["skipped"] is None),
        "training_seconds": round(seconds),
        "settings": str(dict(settings)),
    }
    append(told.out / "trainings.csv", [row])
    print(row, flush=True)  # noqa: T201


def main() -> None:
    """Read what is wanted, and make what is not there yet."""
    told = argparse.ArgumentParser()
    told.add_argument("arms", nargs="*")
    told.add_argument("--out", type=Path, required=True)
    told.add_argument("--work", type=Path, default=Path("runs/personal"))
    told.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    told.add_argument("--pairs-each", type=int, default=64)
    told.add_argument("--prompts", type=int, default=48)
    told.add_argument("--seen", type=int, default=12, help="how many seen people to draw for")
    told.add_argument("--strengths", type=float, nargs="+", default=[1.0])
    told.add_argument("--choosing", action="store_true")
    told.add_argument("--set", action="append", default=[], metavar="NAME={...}")
    told = told.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    variants = {
        name: ast.literal_eval(text) for name, _, text in (s.partition("=") for s in told.set)
    }
    asked = asked_prompts(told.prompts, choosing=told.choosing)
    for seed in told.seeds:
        if not there(told.out / "drawn.csv", seed, "base"):
            rows = [
                {"seed": seed, "arm": "base", "group": "base", "drawn_for": "", **row}
                for row in measured(load("shipped"), asked, 0)
            ]
            append(told.out / "drawn.csv", rows)
        for arm, settings in {**{name: ARMS[name] for name in told.arms}, **variants}.items():
            if not there(told.out / "drawn.csv", seed, arm):
                one(arm, settings, seed, asked, told)


if __name__ == "__main__":
    main()
