"""Settings of where evidence and labels come from, when not from noised pictures as they are.

Each group is None in a run that does not use it. Methods bring the groups they need, filled in
as published (`Needs.settings`).

Read next: `groups.py`, the settings every run has.
"""

from typing import Annotated, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from palate.core.problems import require
from palate.train.strict import Strict

Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
Counts = Annotated[tuple[int, ...], Field(strict=False, min_length=1)]


@final
class InversionSettings(Strict):
    """Evidence from pictures led back to noise by deterministic DDIM steps."""

    group: ClassVar[str] = "inversion"
    steps: int = Field(default=80, ge=1, le=1000, description="levels on the way to noise")
    first: int = Field(default=0, ge=0, description="the lowest of these levels")
    guidance: float = Field(
        default=1.0, ge=1, le=100, description="guidance on the way and in the loss; 1 is without"
    )
    by: Literal["reference", "policy"] = Field(
        default="reference", description="who leads; the reference's ways are kept on disk"
    )
    target: Literal["trajectory", "reference", "clean"] = Field(
        default="trajectory",
        description="what to predict: the noise of the step taken, the reference's answer, "
        "or the noise between state and picture",
    )
    weight: Literal["uniform", "inv_alpha", "ddim"] = Field(
        default="uniform", description="how much each level counts"
    )
    visits: int | None = Field(
        default=None, ge=1, description="levels judged per update; none means all"
    )
    renoise: bool = Field(default=False, description="correct each step once (ReNoise)")
    jitter: float = Field(
        default=0.0, ge=0, description="noise added to each step, in posterior deviations"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require(
            self.visits is None or self.visits <= self.steps,
            got=f"inversion.visits={self.visits} with inversion.steps={self.steps}",
            need="at most as many visits as steps",
            fix=f"Use inversion.visits={self.steps}, or leave it out for all.",
        )
        require(
            self.jitter == 0 or self.by == "policy",
            got=f"inversion.jitter={self.jitter} with inversion.by={self.by}",
            need="ways without noise where they are kept on disk",
            fix="Use inversion.by=policy, or inversion.jitter=0.",
        )
        return self


@final
class RolloutSettings(Strict):
    """Evidence from pictures the policy draws while it trains, judged by a scorer."""

    group: ClassVar[str] = "rollout"
    prompts: str = Field(
        default="world:train:1000",
        min_length=1,
        description="a text file with one prompt per line, or `world:train:COUNT`",
    )
    scorer: str = Field(
        default="world", min_length=1, description="who judges, as in `palate evaluate --scorer`"
    )
    labels: Literal["final", "steps"] = Field(
        default="final",
        description="judge finished pictures and label all their steps, or judge at each step",
    )
    steps: int = Field(default=20, ge=2, le=1000, description="steps of each picture")
    eta: float = Field(default=1.0, gt=0, le=1, description="share of fresh noise in each step")
    guidance: float = Field(default=5.0, ge=1, le=100, description="guidance in drawing and loss")
    candidates: int = Field(default=2, ge=2, le=64, description="pictures or next states compared")
    at_once: int | None = Field(
        default=None,
        ge=1,
        description="states drawn at once, for less memory; none means all of a step's",
    )
    visits: int | None = Field(
        default=None, ge=1, description="steps trained per picture, at random; none means all"
    )
    skip_first: int = Field(default=0, ge=0, description="first steps that are not trained")
    skip_last: int = Field(default=0, ge=0, description="last steps that are not trained")
    threshold: float = Field(
        default=0.0, ge=0, lt=1, description="least difference of win probabilities to keep a pair"
    )
    threshold_high: float | None = Field(
        default=None, ge=0, lt=1, description="the same at the noisiest step, linear in between"
    )
    weights: Literal["uniform", "sensitivity"] = Field(
        default="uniform",
        description="how steps count; sensitivity evens out how strongly each one reacts",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require(
            self.skip_first + self.skip_last < self.steps,
            got=f"{self.skip_first} first and {self.skip_last} last of {self.steps} steps skipped",
            need="a step that is trained",
            fix="Skip fewer, or draw with more rollout.steps.",
        )
        return self


@final
class SelfPlaySettings(Strict):
    """Rounds in which the model plays against pictures of the model it was a round before."""

    group: ClassVar[str] = "selfplay"
    iterations: int = Field(default=3, ge=1, le=100, description="rounds")
    opponent: Literal["renoised", "trajectory"] = Field(
        default="renoised",
        description="judge its finished pictures with fresh noise, or the way it drew them",
    )
    sampling_steps: int = Field(default=50, ge=1, le=1000, description="steps of its pictures")
    guidance: float = Field(default=7.5, ge=1, le=100, description="guidance of its pictures")
    steps: Counts | None = Field(
        default=None, description="optimizer steps of each round; none means plan.steps"
    )
    learning_rates: Numbers | None = Field(
        default=None, description="of each round; none means plan.learning_rate"
    )
    betas: Numbers | None = Field(
        default=None, description="of each round; none means the objective's beta"
    )
    round: int | None = Field(
        default=None, ge=1, description="which round a run is; the rounds write it themselves"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("steps", "learning_rates", "betas"):
            values = getattr(self, name)
            require(
                values is None or len(values) == self.iterations,
                got=f"selfplay.{name} of {len(values or ())} rounds",
                need=f"one for each of the {self.iterations} rounds",
                fix=f"Give {self.iterations} numbers, or leave it out.",
            )
        return self


@final
class LabelSettings(Strict):
    """Labels a machine gives to the pairs while they are opened."""

    group: ClassVar[str] = "labels"
    scorer: str | None = Field(
        default=None, description="relabel all pairs by this scorer; none keeps the data's labels"
    )
    scorers: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="scorers whose calibrated rewards are compared (capo)"
    )
    sharpness: float | None = Field(
        default=1.0,
        gt=0,
        description="what differences of scores are multiplied by; none gives hard labels",
    )
    synthetic: Literal["data", "self"] = Field(
        default="data",
        description="whose labels stand beside the people's: a machine's in the data, "
        "or the model's own at another noise level (dedpo)",
    )
    any_draw: bool = Field(
        default=False, description="go on when the labelled pairs were not drawn at random"
    )
