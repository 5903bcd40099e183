"""The groups of settings that make up a `Run`; each owns its names, limits and help texts.

Read next: `run.py`, the whole.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, Self, final, get_type_hints

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from palate.backbones.backbone import ATTENTION, Initialisation, Precision
from palate.core.problems import SettingError, require, unknown
from palate.objectives import OBJECTIVES, Objective
from palate.train.personal import PersonalSettings
from palate.train.sources import (
    InversionSettings,
    LabelSettings,
    RolloutSettings,
    SelfPlaySettings,
)
from palate.train.strict import Strict, unknown_setting

Share = Annotated[float, Field(ge=0, le=1)]
Words = Annotated[tuple[str, ...], Field(strict=False)]
# One code per thing a check can find; `findings.py` says when and in which words.
CODES = (
    "winner-drift",
    "loser-worse",
    "no-learning",
    "labels-random",
    "labels-swapped",
    "separable",
    "saturated",
)


@final
class ObjectiveSettings(Strict):
    """Which loss, and its own settings; what is left out is filled in and recorded."""

    group: ClassVar[str] = "objective"
    name: str = Field(
        default="dpo", description="the loss to minimise; `palate methods` lists them"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="the loss's own settings")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        kind = OBJECTIVES.named(self.name)
        hints = get_type_hints(kind)
        known = [field.name for field in dataclasses.fields(kind)]
        for name in self.settings:
            if name not in known:
                raise unknown_setting(f"objective.{name}", known, {})
        checked = {
            name: _checked(f"objective.{name}", value, hints[name])
            for name, value in self.settings.items()
        }
        built = kind(**checked)
        whole = {name: getattr(built, name) for name in known}
        self.settings.clear()
        self.settings.update(whole)
        return self

    def build(self) -> Objective:
        """The loss itself."""
        return OBJECTIVES.named(self.name)(**self.settings)


@final
class AdapterSettings(Strict):
    """Low-rank adapters: few weights are trained, and without them the model is the reference."""

    group: ClassVar[str] = "adapter"
    rank: int = Field(
        default=8, ge=1, le=1024, description="width of the adapters; 4 to 64 are common"
    )
    alpha: float | None = Field(
        default=None, gt=0, description="scale is alpha / rank; none means rank"
    )
    targets: Words = Field(
        default=ATTENTION, min_length=1, description="endings of the layer names to adapt"
    )
    init: Initialisation = Field(default="gaussian", description="how the down-projections start")
    dora: bool = Field(
        default=False, description="learn the length of each weight column apart (DoRA)"
    )


@final
class Plan(Strict):
    """How long, how fast and with what arithmetic to learn."""

    group: ClassVar[str] = "plan"
    steps: int = Field(default=200, ge=1, description="optimizer steps")
    batch: int = Field(
        default=16, ge=1, description="pairs per optimizer step; for a rollout, prompts"
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="pairs per forward pass, for less memory; none means the batch",
    )
    learning_rate: float = Field(
        default=2e-5, gt=0, le=1, description="peak step size; adapters take about ten times more"
    )
    schedule: Literal["constant", "cosine", "linear"] = Field(
        default="constant", description="how the learning rate goes on after the warm-up"
    )
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")
    optimizer: Literal["adamw"] = Field(default="adamw", description="the update rule")
    betas: Annotated[tuple[float, float], Field(strict=False)] = Field(
        default=(0.9, 0.999), description="AdamW's two averaging factors, each in [0, 1)"
    )
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay")
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    caption_dropout: Share = Field(
        default=0.0,
        description="share of pairs trained on the empty prompt; the Diffusion-DPO code has 0.2",
    )
    precision: Precision = Field(
        default="fp32", description="arithmetic of the network; errors are always fp32"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for more time")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="where to compute"
    )
    save_every: int = Field(default=100, ge=1, description="steps between checkpoints")
    keep_last: int = Field(default=3, ge=1, description="checkpoints to keep")
    health_every: int = Field(default=50, ge=1, description="steps between health checks")
    log_every: int = Field(default=1, ge=1, description="steps between rows of the log")
    tensorboard: Literal["auto", "on", "off"] = Field(
        default="auto", description="also write TensorBoard files; auto: if it is installed"
    )

    @property
    def pairs_at_once(self) -> int:
        """Pairs per forward pass."""
        return self.batch if self.micro_batch is None else self.micro_batch

    @field_validator("betas")
    @classmethod
    def _below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("two numbers in [0, 1)")
        return betas

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require(
            self.warmup_steps <= self.steps,
            got=f"plan.warmup_steps={self.warmup_steps} with plan.steps={self.steps}",
            need="a warm-up no longer than the training",
            fix="A quarter of the steps is what the Diffusion-DPO paper uses.",
        )
        require(
            self.pairs_at_once <= self.batch,
            got=f"plan.micro_batch={self.micro_batch} with plan.batch={self.batch}",
            need="plan.micro_batch ≤ plan.batch",
            fix=f"Use plan.micro_batch={self.batch}, or a larger batch.",
        )
        require(
            not (self.precision == "fp16" and self.device == "cpu"),
            got="plan.precision=fp16 with plan.device=cpu",
            need="fp32 or bf16 on a CPU",
            fix="Use plan.precision=fp32.",
        )
        return self


@final
class Pictures(Strict):
    """How a picture becomes latents. Both pictures of a pair are always treated alike."""

    group: ClassVar[str] = "pictures"
    resolution: int | None = Field(
        default=None, ge=8, le=4096, description="side in pixels; none means the model's own"
    )
    crop: Literal["center", "random"] = Field(
        default="center",
        description="the square to cut: the middle, or one of three windows at each visit",
    )
    flip: bool = Field(
        default=False, description="mirror half of the visits (wrong for text and left/right)"
    )
    latents: Literal["sample", "mean"] = Field(
        default="sample", description="draw latents anew at each visit, or use their mean"
    )


@final
class NoiseSettings(Strict):
    """Which noise, and which levels of it, to train on."""

    group: ClassVar[str] = "noise"
    shared: bool = Field(default=True, description="one noise for both pictures of a pair")
    levels: Literal["uniform", "logit-normal"] = Field(
        default="uniform",
        description="how levels are drawn; logit-normal favours the middle of the way",
    )
    lowest: Share = Field(
        default=0.0, description="least noise, as a fraction of the model's levels"
    )
    highest: Share = Field(
        default=1.0, description="most noise, as a fraction of the model's levels"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        require(
            self.lowest < self.highest,
            got=f"noise.lowest={self.lowest} and noise.highest={self.highest}",
            need="lowest < highest",
            fix="Use 0 and 1 for all levels.",
        )
        return self


@final
class Split(Strict):
    """Which pairs are kept away from training, for the health checks."""

    group: ClassVar[str] = "split"
    by: Literal["prompt", "judge"] = Field(default="prompt", description="what no two sides share")
    held_out: float = Field(default=0.1, gt=0, lt=1, description="share kept away from training")


@final
class Limits(Strict):
    """When the health monitor speaks up, and when it stops the run."""

    group: ClassVar[str] = "health"
    pairs: int = Field(default=64, ge=2, description="held-out pairs in each check")
    draws: int = Field(default=2, ge=1, description="fixed noises per held-out pair")
    winner_drift_warn: float = Field(
        default=0.02, gt=0, description="warn when chosen images are denoised this much worse"
    )
    winner_drift_stop: float = Field(
        default=0.05, gt=0, description="stop when it is this much, in several checks running"
    )
    checks_before_stop: int = Field(default=3, ge=1, description="checks running before a stop")
    saturation_logit: float = Field(
        default=10.0, gt=0, description="a pair beyond this logit is saturated"
    )
    saturation_share: Share = Field(
        default=0.5, description="warn at this share of saturated pairs"
    )
    accuracy_high: Share = Field(default=0.95, description="too good to be true this early")
    learning_by: Share = Field(
        default=0.2, description="share of the run after which learning must show"
    )
    nan_budget: Share = Field(
        default=0.01, description="share of broken pairs within 20 steps that stops the run"
    )
    stop: bool = Field(default=True, description="let drift stop the run; off only warns")
    ignore: Words = Field(
        default=(), description="codes of findings to leave out, recorded in the run"
    )

    @field_validator("ignore")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            if code not in CODES:
                raise unknown("health.ignore", code, CODES)
        return codes


GROUPS: dict[str, type[Strict]] = {
    kind.group: kind
    for kind in (
        ObjectiveSettings,
        AdapterSettings,
        Plan,
        Pictures,
        NoiseSettings,
        InversionSettings,
        RolloutSettings,
        SelfPlaySettings,
        LabelSettings,
        PersonalSettings,
        Split,
        Limits,
    )
}


def _checked(path: str, value: Any, hint: Any) -> Any:
    """The value in the type the objective declares: 500 becomes 500.0, "500" is refused."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))
        return adapter.validate_python(value)
    except ValidationError as error:
        raise SettingError(
            got=f"{path}={value!r}",
            need=error.errors()[0]["msg"].removeprefix("Input should be "),
            fix="See `palate methods` for what the setting means.",
        ) from None
