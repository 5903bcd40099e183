"""The model of a run, opened to be asked what it prefers: its export, or one of its checkpoints.

Not every run can be asked. Needed is a reference that the model was held to, a β that says how
tightly, and evidence of noised or inverted pictures, of which the margin of `own_labels.py` is one.

Read next: `palate/train/checkpoint.py`, what a checkpoint holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from palate.backbones import Backbone, load
from palate.core.files import digest_tensors, read_json
from palate.core.problems import SettingError, StateError, require
from palate.objectives import OBJECTIVES
from palate.train import checkpoint
from palate.train.place import CHECKPOINTS, EXPORT, RECORD, SETTINGS
from palate.train.run import Run

# What a method says to the health check if it learns what people reject.
_REJECTS: Final = "labels-swapped"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """A trained model, ready to be asked what it prefers.

    Attributes:
        run: The settings it was trained with.
        backbone: The model with its training on it; its reference is what it started from.
        trained: Digest of what was trained: the export's files, or a checkpoint's weights.
        steps: Optimizer steps that were taken.
        cache: Where latents and embeddings are kept.
    """

    run: Run
    backbone: Backbone
    trained: str
    steps: int
    cache: Path

    @property
    def beta(self) -> float:
        """How tightly the reference held it."""
        return float(self.run.objective.settings["beta"])

    @property
    def facts(self) -> dict[str, Any]:
        """What its margins depend on, besides the draws."""
        return {
            "model": dict(self.backbone.digests),
            "trained": self.trained,
            "precision": self.backbone.precision,
            "pictures": self.run.pictures.resolution or self.backbone.resolution,
            "noise": self.run.noise.model_dump(mode="json"),
            "seed": self.run.seed,
        }


def open_taught(
    folder: Path, *, step: int | None = None, device: str = "cpu", cache: Path | None = None
) -> Taught:
    """Open the model of a run: what it exported; of one that has not, its newest checkpoint.

    Args:
        folder: The run's folder.
        step: The checkpoint of this step instead.
        device: Where to compute.
        cache: Where latents and embeddings are kept; where trainings beside this run have them,
            when left out.

    Raises:
        SettingError: when its method has no β, judges steps of its own drawing, or learns what
            people reject.
        StateError: when the folder is no run, or there is neither export nor whole checkpoint.
        WeightsError: when its model cannot be used.
    """
    require(
        (folder / SETTINGS).is_file(),
        got=f"{folder}, which is no run",
        need=f"the folder of a run, with {SETTINGS} in it",
        fix="Check the path; `palate runs` lists the runs.",
        kind=StateError,
    )
    run = Run.from_yaml(folder / SETTINGS)
    _refuse_others(folder, run)
    exported = step is None and (folder / EXPORT / RECORD).is_file()
    backbone, trained, steps = (
        _exported(folder / EXPORT, run, device) if exported else _saved(folder, run, step, device)
    )
    return Taught(
        run=run,
        backbone=backbone,
        trained=trained,
        steps=steps,
        cache=cache or folder.absolute().parent / "cache",
    )


def run_and_step(words: str) -> tuple[Path, int | None]:
    """The folder and the step that `RUN` or `RUN@STEP` name; a folder that is there is a folder."""
    folder, mark, step = words.rpartition("@")
    whole = Path(words).expanduser()
    if not mark or not step.isdigit() or whole.exists():
        return whole, None
    return Path(folder).expanduser(), int(step)


def _exported(folder: Path, run: Run, device: str) -> tuple[Backbone, str, int]:
    """The model of a finished run."""
    backbone = load(run.model, weights=folder, device=device, precision=run.plan.precision)
    return backbone, str(backbone.applied), int(read_json(folder / RECORD)["steps"])


def _saved(folder: Path, run: Run, step: int | None, device: str) -> tuple[Backbone, str, int]:
    """The model of a checkpoint, opened as training opens it, so that its reference is there."""
    found = checkpoint.at(folder / CHECKPOINTS, step)
    backbone = load(
        run.model,
        adapter=run.build_adapter(),
        train=True,
        device=device,
        precision=run.plan.precision,
    )
    told = {f"model {name}": digest for name, digest in backbone.digests.items()}
    then: Mapping[str, Any] = found.state["identity"]
    differ = [name for name, digest in told.items() if then.get(name, digest) != digest]
    require(
        not differ,
        got=f"{run.model} with another {', '.join(differ)} than when {folder} was trained",
        need="the model that the checkpoint belongs to",
        fix="Put the same model back.",
        kind=StateError,
    )
    backbone.load_state(found.weights)
    return backbone, digest_tensors(found.weights), found.step


def _refuse_others(folder: Path, run: Run) -> None:
    """Refuse runs whose model has no implicit preference of noised pictures."""
    objective = run.objective
    needs = OBJECTIVES.named(objective.name).needs
    require(
        needs.reference and "beta" in objective.settings,
        got=f"{folder}, a run of {objective.name}, which has no β against a reference",
        need="a run whose model says how surely it prefers a picture, such as one of dpo",
        fix="Name another run; `palate methods` says which methods have a β.",
    )
    require(
        run.evidence != "steps",
        got=f"{folder}, whose β is worth steps of pictures it drew",
        need="a run on noised or inverted pictures, whose β is worth denoising errors",
        fix="Train on the pairs themselves, or label with a scorer.",
    )
    require(
        run.personal is None,
        got=f"{folder}, a run that follows people, and pairs of nobody in particular",
        need="a run whose model prefers the same for everybody",
        fix="Name another run; `palate users evaluate` says how well it orders people's own pairs.",
    )
    if _REJECTS in needs.settings.get("health.ignore", ()):
        raise SettingError(
            got=f"{folder}, a run of {objective.name}, a model of what people reject",
            need="a model of what they prefer",
            fix="Name another run; one of dpo trains the positive half.",
        )
