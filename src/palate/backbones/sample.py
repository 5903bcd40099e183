"""Prompts and starting noise to pictures; diffusers' schedulers do the mathematics.

A picture is a function of its own noise, prompt and settings: not of the batch it is drawn in,
nor of what was drawn before. Two models asked with the same noise can therefore be compared
picture by picture.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.guidance import guided
from palate.core.problems import DataError, require, unknown
from palate.core.streams import Key, Streams

# The class, and what it must be told on top of the folder's own configuration. Clipping at ±1 is
# these two classes' default and suits pixels; latents are wider.
_SOLVERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
}
SCHEDULERS: tuple[str, ...] = (*_SOLVERS, "saved")
# The same words on the straight path of rectified flow. The others follow a table of ᾱ.
_FLOW_SOLVERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dpm++": (
        "DPMSolverMultistepScheduler",
        {
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "use_karras_sigmas": False,
            "use_exponential_sigmas": False,
            "use_beta_sigmas": False,
        },
    ),
    "euler": ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": False}),
}
FLOW_SCHEDULERS: tuple[str, ...] = (*_FLOW_SOLVERS, "saved")
_FLOW_CLASSES = ("FlowMatchEulerDiscreteScheduler",)
# Stable Cascade's: a step is told the time of each row, and the last time is where it arrives.
_CASCADE_CLASSES = ("DDPMWuerstchenScheduler",)
# These draw noise in every step and take generators for it.
_STOCHASTIC = ("DDPMScheduler", "EulerAncestralDiscreteScheduler", *_CASCADE_CLASSES)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """How pictures are drawn.

    Attributes:
        steps: Evaluations of the network along the path (a few solvers add one).
        guidance: Strength of classifier-free guidance (arXiv:2207.12598); 1 is without.
        scheduler: `dpm++`, `ddim`, `euler`, `ddpm`, or `saved` for the folder's own. Models on
            the straight path of rectified flow know `dpm++`, `euler` and `saved`; Stable Cascade
            only `saved`.
    """

    steps: int = 10
    guidance: float = 3.0
    scheduler: str = "dpm++"

    def __post_init__(self) -> None:
        require(
            1 <= self.steps <= 1000,
            got=f"{self.steps} sampling steps",
            need="1 to 1000",
            fix="10 to 30 are usual.",
        )
        require(
            1.0 <= self.guidance <= 100.0,
            got=f"guidance {self.guidance}",
            need="1 (without) to 100",
            fix="3 to 8 are usual.",
        )
        if self.scheduler not in SCHEDULERS:
            raise unknown("scheduler", self.scheduler, SCHEDULERS)


def starting_noise(
    backbone: Backbone,
    names: Sequence[Sequence[Key]],
    seed: int,
    size: tuple[int, int] | None = None,
) -> Float[Tensor, " n c y x"]:
    """Noise for one picture per name, the same on every machine and in every order.

    Args:
        backbone: Decides the shape of the latents.
        names: What tells the pictures apart, such as (prompt, number).
        seed: Seed of the whole set.
        size: Height and width in pixels; None is the model's own resolution.
    """
    height, width = size or (backbone.resolution, backbone.resolution)
    shape, streams = backbone.latent_shape(height, width), Streams(seed)
    require(
        len(names) > 0,
        got="no pictures to start",
        need="at least one name",
        fix="Give one name per picture.",
    )
    return torch.stack([streams("sample", *name).normal(shape) for name in names])


@torch.no_grad()
def sample(
    backbone: Backbone,
    prompts: Sequence[str],
    noise: Float[Tensor, " n c y x"],
    sampler: Sampler,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> UInt8[Tensor, " n h w 3"]:
    """Draw one picture per prompt from its starting noise.

    Speaks with the backbone's present voice: inside `as_reference()`, the reference's.

    Args:
        backbone: The model.
        prompts: One prompt per picture; repeated prompts are embedded once.
        noise: One row per picture, from `starting_noise`.
        sampler: Steps, guidance and scheduler.
        batch: Pictures drawn together. It changes memory and speed, not the pictures.
        progress: Told (pictures done, pictures in all) after each batch.

    Raises:
        DataError: when prompts and noise differ in number.
        SettingError: when the sampler is not for this model's noise path.
    """
    require_solver(backbone.scheduler_config, sampler.scheduler)
    require(
        len(prompts) == len(noise) and len(prompts) > 0 and batch >= 1,
        got=f"{len(prompts)} prompts, noise for {len(noise)} pictures, batches of {batch}",
        need="one row of noise per prompt, and at least one",
        fix="Repeat a prompt for each of its pictures.",
        kind=DataError,
    )
    unique = list(dict.fromkeys(["", *prompts]))
    number = {prompt: row for row, prompt in enumerate(unique)}
    known = Condition.concatenate(
        [backbone.embed(unique[i : i + batch]) for i in range(0, len(unique), batch)]
    )
    pictures: list[Tensor] = []
    for start in range(0, len(prompts), batch):
        rows = [number[prompt] for prompt in prompts[start : start + batch]]
        latents = _denoise(backbone, known, rows, noise[start : start + batch], sampler)
        pictures.append(backbone.decode(latents).cpu())
        if progress is not None:
            progress(min(start + batch, len(prompts)), len(prompts))
    return torch.cat(pictures)


def _denoise(
    backbone: Backbone, known: Condition, rows: list[int], noise: Tensor, sampler: Sampler
) -> Tensor:
    """Clean latents of one batch; row 0 of what is known is the empty prompt."""
    scheduler = _scheduler(backbone.scheduler_config, sampler, backbone.device)
    condition, empty = known.rows(rows), known.rows([0])
    extra = {"generator": _generators(noise)} if _draws(scheduler) else {}
    # Schedulers of the straight path alone have neither: their noise is in the latents' scale.
    latents = noise.to(backbone.device) * getattr(scheduler, "init_noise_sigma", 1.0)
    scaled = getattr(scheduler, "scale_model_input", _as_it_is)
    straight = _is_flow(backbone.scheduler_config)
    cascade = type(scheduler).__name__ in _CASCADE_CLASSES
    for level in scheduler.timesteps[:-1] if cascade else scheduler.timesteps:
        noisy = scaled(latents, level)
        # The network's own time, not an index into its path, also where it is a whole number.
        levels = (level.float() if straight else level).expand(len(rows))
        answer = guided(backbone, noisy, levels, condition, empty, sampler.guidance)
        time = levels if cascade else level
        latents = scheduler.step(answer, time, latents, **extra, return_dict=False)[0]
    return latents


def require_solver(config: Mapping[str, object], scheduler: str) -> None:
    """Refuse a sampler that is not for the noise path of a scheduler's configuration.

    Args:
        config: As `Backbone.scheduler_config` has it.
        scheduler: The sampler's word.

    Raises:
        SettingError: for samplers of the other kind of path.
    """
    require(
        not _is_flow(config) or scheduler in FLOW_SCHEDULERS,
        got=f"scheduler {scheduler} for a model of rectified flow",
        need=f"one of {', '.join(FLOW_SCHEDULERS)}; {scheduler} follows the noise of diffusion "
        "models, of which α² + σ² = 1",
        fix="Use euler, which is what ddim becomes on a straight path.",
    )
    require(
        config["_class_name"] not in _CASCADE_CLASSES or scheduler == "saved",
        got=f"scheduler {scheduler} for a Stable Cascade",
        need="saved, its own: the others know no noise levels between 0 and 1",
        fix="Use saved; its 20 to 30 steps draw noise, as in the plain pipeline.",
    )


def usual(config: Mapping[str, object]) -> str:
    """The sampler that draws well in few steps, on this noise path."""
    return "saved" if config["_class_name"] in _CASCADE_CLASSES else "dpm++"


def deterministic(config: Mapping[str, object]) -> str:
    """The sampler that draws no noise and makes one evaluation a step, on this noise path.

    Raises:
        SettingError: where there is none.
    """
    require(
        config["_class_name"] not in _CASCADE_CLASSES,
        got="a Stable Cascade, whose own sampler draws noise in every step",
        need="a model that can be drawn from without noise, along ways that are followed again",
        fix="Use another method, or a model of another family.",
    )
    return "euler" if _is_flow(config) else "ddim"


def _is_flow(config: Mapping[str, object]) -> bool:
    """Whether a scheduler's configuration is of a straight path."""
    return config["_class_name"] in _FLOW_CLASSES


def _scheduler(config: Mapping[str, object], sampler: Sampler, device: torch.device) -> Any:
    """A fresh scheduler on the folder's noise schedule. Its state belongs to one batch."""
    import diffusers

    from palate.backbones.parts import quiet

    solvers = _FLOW_SOLVERS if _is_flow(config) else _SOLVERS
    name, told = solvers.get(sampler.scheduler, (str(config["_class_name"]), {}))
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    if _is_flow(config):
        # Other schedulers of diffusers have another word for the same number.
        settings["flow_shift"] = config.get("shift", 1.0)
    with quiet():
        scheduler = getattr(diffusers, name).from_config({**settings, **told})
        scheduler.set_timesteps(sampler.steps, device=device)
    return scheduler


def _as_it_is(latents: Tensor, _level: Tensor) -> Tensor:
    return latents


def _draws(scheduler: Any) -> bool:
    told = scheduler.config.get("stochastic_sampling", False)
    return type(scheduler).__name__ in _STOCHASTIC or bool(told)


def _generators(noise: Tensor) -> list[torch.Generator]:
    """One generator per picture for a scheduler that draws, keyed by the picture's own noise."""
    rows = [row.detach().cpu().contiguous().numpy().tobytes() for row in noise]
    names = [hashlib.sha256(row).hexdigest() for row in rows]
    return [Streams(0)("sampler", name).generator() for name in names]
