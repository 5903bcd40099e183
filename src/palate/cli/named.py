"""What the words on a command line name: models, trained weights, scorers, devices."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from palate.backbones import Backbone, Mixture, load, scheduler_of
from palate.backbones.opposed import Opposed
from palate.backbones.sample import Sampler, require_solver
from palate.core.problems import DataError, SettingError, StateError, require
from palate.data.machine import Machine
from palate.data.pairs import PreferencePairs
from palate.data.synthetic import manner, named
from palate.scorers.scorer import Scorer
from palate.train.prompts import apart
from palate.train.run import Run
from palate.train.scoring import open_scorer
from palate.world import TASTE_PARTS

RUN_FILE, EXPORT = "run.yaml", "export"


@final
@dataclass(frozen=True, slots=True)
class Drawing:
    """How pictures are drawn.

    Args:
        seed: Seed of the starting noise; every picture has its own, by prompt and number.
        steps: Evaluations of the network per picture.
        guidance: Strength of classifier-free guidance; 1 is without.
        scheduler: Which solver: dpm++, ddim, euler, ddpm, or `saved` for the model's own.
        size: Side of the pictures in pixels; the model's own unless told.
        device: Where to compute: auto, cpu, cuda or mps.
        precision: fp32, bf16 or fp16.
    """

    seed: int = 0
    steps: int = 10
    guidance: float = 3.0
    scheduler: str = "dpm++"
    size: int | None = None
    device: str = "auto"
    precision: str = "fp32"

    @property
    def sampler(self) -> Sampler:
        """Steps, guidance and solver, as the sampler takes them."""
        return Sampler(steps=self.steps, guidance=self.guidance, scheduler=self.scheduler)

    def open(self, model: str, weights: Path | None) -> Backbone:
        """Load a model, with trained weights on it where some are given.

        Raises:
            SettingError: when the solver is not for this model, before any weight is read.
            WeightsError: when the model or the weights cannot be used.
        """
        require_solver(scheduler_of(model), self.scheduler)
        return load(
            model,
            weights=weights,
            device=device_named(self.device),
            precision=self.precision,  # pyright: ignore[reportArgumentType] - load checks it
        )


@final
@dataclass(frozen=True, slots=True)
class Opposition:
    """What is guided away from.

    Args:
        negative: A run of npo, or its export; it answers the empty prompt in guidance.
        negative_share: How much of the negative training to use (b).
        positive_share: How much of the positive training to add to the negative model (a).
    """

    negative: Path | None = None
    negative_share: float = 1.0
    positive_share: float = 0.0

    def base(self, model: str | None) -> str:
        """The model that is drawn with, where no training of it is named."""
        return model or ("shipped" if self.negative is None else trained(self.negative, None)[0])

    def open(self, drawing: Drawing, model: str, weights: Path | None) -> Backbone:
        """Load a model, guided away from the negative one where there is one.

        What the negative training changed is put on this model, whichever it was trained from.

        Raises:
            SettingError: when the positive training to be added is not there.
        """
        positive = drawing.open(model, weights)
        if self.negative is None:
            return positive
        require(
            self.positive_share == 0 or weights is not None,
            got=f"--positive-share {self.positive_share:g} without a positive training",
            need="the run that is drawn with",
            fix="Name it, or leave --positive-share out.",
        )
        parts = [(trained(self.negative, model)[1] or self.negative, self.negative_share)]
        parts += [(weights, self.positive_share)] if weights and self.positive_share else []
        negative = load(
            model,
            weights=Mixture(parts=tuple(parts)),
            device=device_named(drawing.device),
            precision=drawing.precision,  # pyright: ignore[reportArgumentType] - load checks it
        )
        return Opposed(positive, negative)

    def facts(self) -> dict[str, object] | None:
        """For the record of what was drawn."""
        if self.negative is None:
            return None
        shares = {"negative_share": self.negative_share, "positive_share": self.positive_share}
        return {"name": str(self.negative), **shares}


def trained(weights: Path, model: str | None) -> tuple[str, Path | None]:
    """The base model and the weights that a run, an export or a model folder stands for.

    Args:
        weights: The folder of a run, an exported result, or a whole model.
        model: The base model, where the user named one.

    Raises:
        StateError: when the run has nothing exported yet.
        SettingError: when the base model is neither told nor known.
    """
    if str(weights) == "shipped":
        return "shipped", None
    require(
        weights.exists(),
        got=f"{weights}, which does not exist",
        need="the folder of a run, its export, or a whole model",
        fix="Check the path; `palate runs` lists the runs.",
        kind=StateError,
    )
    if (weights / RUN_FILE).is_file():
        export = weights / EXPORT
        require(
            export.is_dir(),
            got=f"{weights}, a run that has not exported its weights",
            need="a finished run",
            fix=f"palate resume {weights}",
            kind=StateError,
        )
        return model or Run.from_yaml(weights / RUN_FILE).model, export
    if (weights / "model_index.json").is_file():
        return str(weights), None
    # A run's export, or the file in it, still lies in the run that made it.
    runs = [folder / RUN_FILE for folder in list(weights.parents)[:2]]
    if model is None:
        model = next((Run.from_yaml(file).model for file in runs if file.is_file()), None)
    if model is None:
        raise SettingError(
            got=f"{weights} without the model it belongs to",
            need="the base model",
            fix="Add it, as in --model shipped or --before shipped, or name the run's folder.",
        )
    return model, weights


def trained_prompts(weights: Path) -> frozenset[str] | None:
    """The prompts that a run, or an export within it, was trained with: its data's, or its own.

    None where there is no run, or its data or prompts are not there any more.
    """
    folders = [weights, *list(weights.parents)[:2]]
    run = next((folder / RUN_FILE for folder in folders if (folder / RUN_FILE).is_file()), None)
    if run is None:
        return None
    made = Run.from_yaml(run)
    try:
        learned = [] if made.data is None else PreferencePairs.open(Path(made.data)).prompts
        drawn = [] if made.rollout is None else apart(made.rollout.prompts, 1)[0]
    except DataError:
        return None
    return frozenset((*learned, *drawn)) or None


def scorers_of(names: list[str]) -> list[Scorer]:
    """Scorers by name, as `palate.train.scoring` knows them. The first one decides.

    The world's true reward comes with its parts, which explain it.

    Raises:
        SettingError: for a name that is no scorer of finished pictures.
    """
    explained = {"world": [f"world:{part}" for part in ("fidelity", *TASTE_PARTS)]}
    return [open_scorer(each) for name in names for each in (name, *explained.get(name, ()))]


def machine_named(
    words: str, device: str, *, sharpness: float | None = 1.0, signed: bool = False
) -> Machine:
    """The scorer that these words name, as one who labels pairs.

    Args:
        words: As `open_scorer` takes them.
        device: Where it computes: auto, cpu, cuda or mps.
        sharpness: What differences of its scores are multiplied by; None gives hard labels.
        signed: Whether its name in the records says so.

    Raises:
        SettingError: for a name that is no scorer of finished pictures.
    """
    opened = open_scorer(words, device=device_named(device))
    judge = named(opened.name, opened.identity) + (f" {manner(sharpness)}" if signed else "")
    return Machine(judge=judge, score=opened.score, sharpness=sharpness)


def device_named(name: str) -> str:
    """The device a word stands for; `auto` takes CUDA where there is one, else the CPU."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
