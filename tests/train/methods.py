"""Every method on the micro model: what its run needs to be small, and which data it reads."""

from pathlib import Path
from typing import Any

from palate.data.comparison import compare
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART
from palate.objectives import OBJECTIVES
from palate.train.run import Run
from train.conftest import WORDS, picture

PROMPTS = 12
# By a setting that only some methods bring: what makes it small.
SMALL: dict[str, dict[str, Any]] = {
    "inversion": {"inversion.steps": 3},
    "rollout": {"rollout.steps": 4, "rollout.prompts": f"world:train:{PROMPTS}"},
    "selfplay": {"selfplay.sampling_steps": 2, "selfplay.iterations": 1},
}


def groups(name: str) -> set[str]:
    """The groups of settings that a method brings."""
    return {path.partition(".")[0] for path in OBJECTIVES.named(name).needs.settings}


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


def run_of(name: str, model: Path, data: Path, **more: Any) -> Run:
    """A run of a method, with the data it reads; a method that draws needs none."""
    drawn = "rollout" in groups(name)
    told: dict[str, Any] = {"model": str(model), "objective.name": name, "seed": 3}
    told |= {} if drawn else {"data": str(data)}
    small = {"adapter.rank": 2, "plan.device": "cpu", "plan.tensorboard": "off",
             "plan.learning_rate": 1e-3, "health.pairs": 2, "health.draws": 1}  # fmt: skip
    return Run.from_values({**told, **small, **more})
