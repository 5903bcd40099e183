"""What the words on a command line name: models, trained weights, prompts, scorers, devices."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from palate.backbones import Backbone, load
from palate.backbones.sample import Sampler
from palate.core.problems import DataError, SettingError, StateError, nearest, require
from palate.data.pairs import PreferencePairs
from palate.scorers.scorer import Scorer
from palate.train.run import Run

RUN_FILE, EXPORT = "run.yaml", "export"
_WORLD_PROMPTS = "world:held-out:200"


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
        """Load a model, with trained weights on it where some are given."""
        return load(
            model,
            weights=weights,
            device=_device(self.device),
            precision=self.precision,  # pyright: ignore[reportArgumentType] - load checks it
        )


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
    """The prompts of the data that a run, or an export within it, was trained with.

    None where there is no run, or its data is not there any more.
    """
    folders = [weights, *list(weights.parents)[:2]]
    run = next((folder / RUN_FILE for folder in folders if (folder / RUN_FILE).is_file()), None)
    data = None if run is None else Run.from_yaml(run).data
    if data is None:
        return None
    try:
        return frozenset(PreferencePairs.open(Path(data)).prompts)
    except DataError:
        return None


def prompts_of(words: str) -> tuple[list[str], bool]:
    """Prompts, and whether they are known never to have been trained on.

    Args:
        words: A text file with one prompt a line, or `world:SPLIT:COUNT` (also with `:SEED`).

    Raises:
        DataError: when there is no such file, or no prompt in it.
        SettingError: when the world's words cannot be read.
    """
    if words.startswith("world:"):
        return _of_the_world(words)
    path = Path(words).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            got=f"prompts {words}: {getattr(error, 'strerror', None) or error}",
            need="a text file with one prompt a line",
            fix=f"Check the path, or use the small world's: --prompts {_WORLD_PROMPTS}",
        ) from error
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    require(
        bool(prompts),
        got=f"{path} without a prompt",
        need="one prompt a line",
        fix="Write some prompts into it.",
        kind=DataError,
    )
    return prompts, False


def scorers_of(names: list[str]) -> list[Scorer]:
    """Scorers by name: `world`, or `clip:FOLDER`. The first one decides.

    Raises:
        SettingError: for a name that is no scorer.
    """
    found: list[Scorer] = []
    for name in names:
        kind, _, folder = name.partition(":")
        if name == "world":
            found += _world_scorers()
        elif kind == "clip" and folder:
            from palate.scorers.clip import CLIPScorer

            found.append(CLIPScorer.open(folder))
        else:
            guess = nearest(kind, ("world", "clip"))
            raise SettingError(
                got=f"scorer {name!r}",
                need="world, or clip:FOLDER",
                fix=f"Did you mean {'clip:FOLDER' if guess == 'clip' else 'world'}?",
            )
    return found


def _world_scorers() -> list[Scorer]:
    """The true reward, which decides, and its parts, which explain."""
    from palate.recipes.truth import RewardPart, TrueReward
    from palate.world import TASTE_PARTS

    return [TrueReward(), *(RewardPart(name) for name in ("fidelity", *TASTE_PARTS))]


def _of_the_world(words: str) -> tuple[list[str], bool]:
    from palate.world import prompts

    parts = words.split(":")
    numbers = parts[2:]
    require(
        3 <= len(parts) <= 4 and all(number.isdecimal() for number in numbers),
        got=f"prompts {words!r}",
        need="world:SPLIT:COUNT, or world:SPLIT:COUNT:SEED",
        fix=f"Write for example {_WORLD_PROMPTS}",
    )
    seed = int(numbers[1]) if len(numbers) == 2 else 0
    return prompts(parts[1], int(numbers[0]), seed), parts[1] == "held-out"


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
