"""Every method on the micro model: what makes its run small, and which data it reads."""

from pathlib import Path
from typing import Any

from palate.data.comparison import compare
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART
from palate.objectives import OBJECTIVES, Objective
from palate.train.run import Run
from train.conftest import WORDS, picture, snapshot

PROMPTS = 12
# By the group of settings that only some methods bring: what makes it small.
SMALL: dict[str, dict[str, Any]] = {
    "inversion": {"inversion.steps": 3, "inversion.visits": None},
    "rollout": {"rollout.steps": 4, "rollout.skip_first": 0, "rollout.threshold": 0.0,
                "rollout.threshold_high": None, "rollout.prompts": f"world:train:{PROMPTS}"},
    "selfplay": {"selfplay.iterations": 1, "selfplay.sampling_steps": 2, "selfplay.steps": None,
                 "selfplay.betas": None, "selfplay.learning_rates": None},
    "personal": {"personal.subsets": 3, "personal.examples": 2, "personal.width": 8},
}  # fmt: skip


def groups(objective: type[Objective]) -> frozenset[str]:
    """The groups of settings that a method brings, of those that only some methods have."""
    return frozenset(path.partition(".")[0] for path in objective.needs.settings) & set(SMALL)


def smaller(objective: type[Objective]) -> dict[str, Any]:
    """Settings that make a method's own groups small."""
    return {
        path: value for name in sorted(groups(objective)) for path, value in SMALL[name].items()
    }


def both_judged(folder: Path, pairs: int = 12) -> Path:
    """Pairs that a machine judged, every other one a person too, drawn at random."""
    store = Store(folder / "store")
    with store.writing():
        for i in range(pairs):
            images = [store.put(picture(2 * i, 120)), store.put(picture(2 * i + 1, 0))]
            common: dict[str, Any] = {"prompt": f"a {WORDS[i % len(WORDS)]} thing {i}",
                                      "images": images}  # fmt: skip
            rows = [compare(**common, agreement=0.8, judge="m", source="scorer")]
            if i % 2 == 0:
                rows.append(compare(**common, agreement=1.0, judge="p", source="human"))
            store.add(rows)
    store.note_import({LABELLED_PART: {"at_random": True}})
    return store.freeze(folder / "snapshot").path


def data_for(objective: type[Objective], folder: Path, pairs: int = 12) -> Path | None:
    """A small snapshot of what a method reads; None where the policy draws all there is."""
    if objective.needs.scorer:
        return None
    if objective.needs.users:
        # Twice as many: what is learned from has an example beside it.
        return snapshot(folder, 2 * pairs, judges=("anna", "ben"))
    return (both_judged if "synthetic" in objective.needs.facts else snapshot)(folder, pairs)


def run_of(objective: type[Objective], model: Path, data: Path | None, **more: Any) -> Run:
    """A run of a method with its own settings, as published, on a few held-out pairs."""
    told: dict[str, Any] = {"model": str(model), "objective.name": objective.name, "seed": 3}
    told |= {} if data is None else {"data": str(data), "split.held_out": 0.2}
    small = {"plan.device": "cpu", "plan.tensorboard": "off", "plan.learning_rate": 1e-3,
             "health.pairs": 2, "health.draws": 1}  # fmt: skip
    small |= {} if objective.needs.users else {"adapter.rank": 2}
    return Run.from_values({**told, **small, **more})


def kind(objective: type[Objective]) -> tuple[object, ...]:
    """What decides which parts of the trainer a method goes through."""
    needs = objective.needs
    return (needs.reference, needs.rejected, needs.evidence[0], needs.predictions, needs.facts,
            needs.averages, needs.whole_batch, needs.kept, groups(objective),
            needs.settings.get("rollout.labels"), needs.settings.get("inversion.by"))  # fmt: skip


def firsts() -> frozenset[str]:
    """The first method of each kind, by name."""
    seen: dict[tuple[object, ...], str] = {}
    for objective in OBJECTIVES:
        seen.setdefault(kind(objective), objective.name)
    return frozenset(seen.values())
