"""Published runs as values: one function each, every setting followed by where it stands.

A recipe is a `Run` like any other: print it, change it, train it (`palate train --recipe NAME`).
What a source does not say is marked "ours". Sources are short:
`paper` is the method's own text, `code` its authors' released code, `launcher` a start script in
it, `card` a model card, `notes` a reading note of somebody else, `baseline` another paper's
re-run of the method. Where sources contradict each other, the comment says so.

Two things hold for all of them. β is in this project's convention (logit = β/2 · margin), so
numbers published without the ½ stand here doubled. Published SDXL runs use Adafactor, here it
is AdamW, which is the only optimizer there is yet: expect another best learning rate.

Read next: `demo.py`, a run that was made and measured here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from palate.core.problems import unknown
from palate.train.run import Run

Settings = dict[str, Any]
# What Diffusion-DPO's released launchers do, and the code of Diffusion-SDPO, made from it.
_LAUNCHER: Settings = {
    "adapter": None,  # code: all weights of the UNet
    "plan.batch": 2048,  # paper, launcher: 16 GPUs, 1 pair each, 128 accumulated
    "plan.micro_batch": 1,  # launcher
    "plan.weight_decay": 0.01,  # code
    "plan.clip_norm": 1.0,  # code
    "plan.caption_dropout": 0.2,  # code: default
    "pictures.flip": True,  # code; it flips each picture by itself, here a pair flips together
}
# The same for methods whose own sources, as far as they were read, do not say.
_UNTOLD: Settings = {
    "adapter": None,  # ours (Diffusion-DPO's launcher)
    "plan.micro_batch": 1,  # ours (Diffusion-DPO's launcher)
    "plan.weight_decay": 0.01,  # ours (Diffusion-DPO's launcher)
    "plan.clip_norm": 1.0,  # ours (Diffusion-DPO's launcher)
    "plan.caption_dropout": 0.2,  # ours (Diffusion-DPO's launcher)
    "pictures.flip": True,  # ours (Diffusion-DPO's launcher)
}
# The size each model was made for. Checkpointing costs time for memory and changes nothing else.
_SD15: Settings = {"pictures.resolution": 512}
_SDXL: Settings = {"pictures.resolution": 1024, "plan.gradient_checkpointing": True}
# The attention that pictures and words share, on both sides.
_JOINT = [
    *(f"attn.{name}" for name in ("add_k_proj", "add_q_proj", "add_v_proj", "to_add_out")),
    *(f"attn.{name}" for name in ("to_k", "to_out.0", "to_q", "to_v")),
]


def sft_sd15() -> Settings:
    """Supervised fine-tuning as SPIN-Diffusion's baseline ran it."""
    return {
        "objective.name": "sft",
        **_UNTOLD,
        **_SD15,
        "adapter": None,  # baseline: all weights did better than LoRA
        "plan.learning_rate": 1e-5,  # baseline (SPIN paper)
        "plan.batch": 512,  # baseline: 4 GPUs
        "plan.warmup_steps": 500,  # baseline
        "plan.steps": 2000,  # baseline: best there
    }


def dpo_sd15() -> Settings:
    """Diffusion-DPO on Stable Diffusion 1.5."""
    return {
        "objective.name": "dpo",
        **_LAUNCHER,
        **_SD15,
        "objective.beta": 5000.0,  # launcher; the paper's text says 2000
        "plan.learning_rate": 2.048e-5,  # launcher: 1e-8 · 2048; the text's formula is 1000 less
        "plan.warmup_steps": 500,  # launcher
        "plan.steps": 2000,  # launcher
    }


def dpo_sdxl() -> Settings:
    """Diffusion-DPO on SDXL."""
    return {
        **dpo_sd15(),
        **_SDXL,
        "objective.beta": 5000.0,  # paper and launcher
        "plan.warmup_steps": 200,  # launcher
    }


def adaptive_dpo_sd15() -> Settings:
    """Adaptive-DPO on Stable Diffusion 1.5, adapters only."""
    return {
        "objective.name": "adaptive-dpo",
        **_SD15,
        "objective.beta": 2000.0,  # code: 1000 without the ½
        "adapter.rank": 8,  # code (README)
        "plan.learning_rate": 1e-5,  # code (README), constant, no warm-up
        "plan.batch": 32,  # code: 16 · 2 accumulated, on a number of GPUs not stated
        "plan.micro_batch": 16,  # code; the weights here do not depend on it
        "plan.steps": 26000,  # ours: about one epoch of Pick-a-Pic v2, which the README asks for
    }


def adaptive_ipo_sd15() -> Settings:
    """Adaptive-IPO on Stable Diffusion 1.5, as the same code has it."""
    settings = adaptive_dpo_sd15()
    settings.pop("objective.beta")
    return {**settings, "objective.name": "adaptive-ipo", "objective.beta": 100.0}  # code


def cdpo_sd15() -> Settings:
    """Conservative DPO as Adaptive-DPO's code runs it as a baseline."""
    return {**adaptive_dpo_sd15(), "objective.name": "cdpo"}  # code


def rdpo_sd15() -> Settings:
    """Robust DPO as Adaptive-DPO's code runs it as a baseline."""
    return {**adaptive_dpo_sd15(), "objective.name": "rdpo"}  # code


def hinge_sd15() -> Settings:
    """The hinge loss as Adaptive-DPO's code runs it as a baseline."""
    return {**adaptive_dpo_sd15(), "objective.name": "hinge"}  # code


def ipo_sd15() -> Settings:
    """IPO as Adaptive-DPO's code runs it as a baseline."""
    return {**adaptive_dpo_sd15(), "objective.name": "ipo", "objective.beta": 100.0}  # code


def dedpo_sd15() -> Settings:
    """DeDPO on Stable Diffusion 1.5, 1,250 labelled and 3,750 unlabelled pairs."""
    return {
        "objective.name": "dedpo",
        **_UNTOLD,
        **_SD15,
        "objective.beta": 5000.0,  # ours (Diffusion-DPO's launcher): the source does not say
        "plan.learning_rate": 1e-7,  # notes
        "plan.batch": 128,  # notes: 2 GPUs, 8 each, 8 accumulated
        "plan.micro_batch": 8,  # notes
        "plan.warmup_steps": 250,  # ours: the launcher's quarter
        "plan.steps": 1000,  # notes
    }


def dedpo_sdxl() -> Settings:
    """DeDPO on SDXL."""
    return {
        **dedpo_sd15(),
        **_SDXL,
        "plan.learning_rate": 2e-8,  # notes
        "plan.warmup_steps": 25,  # ours
        "plan.steps": 100,  # notes; the batch is not disclosed
    }


def dmpo_sd15() -> Settings:
    """DMPO on Stable Diffusion 1.5, as re-implemented in Diffusion-SDPO's code."""
    return {
        "objective.name": "dmpo",
        **_LAUNCHER,
        **_SD15,
        "objective.beta": 2000.0,  # baseline code
        "objective.alpha": 0.01,  # baseline code; the authors' own value was not found
        "plan.learning_rate": 2.048e-5,  # baseline code: 1e-8 · 2048
        "plan.warmup_steps": 500,  # baseline code
        "plan.steps": 2000,  # baseline code
        "plan.precision": "bf16",  # baseline code
    }


def dmpo_sdxl() -> Settings:
    """DMPO on SDXL, as re-implemented in Diffusion-SDPO's code."""
    return {
        **dmpo_sd15(),
        **_SDXL,
        "objective.beta": 6000.0,  # baseline code
        "plan.learning_rate": 2.048e-6,  # baseline code: 1e-9 · 2048
    }


def sdpo_sd15() -> Settings:
    """Safeguarded DPO on Stable Diffusion 1.5."""
    return {
        **_without_alpha(dmpo_sd15()),
        "objective.name": "sdpo",
        "objective.base": "dpo",  # code; dmpo and dspo are the others
        "objective.beta": 5000.0,  # code
        "objective.slack": 0.9,  # code
    }


def sdpo_sdxl() -> Settings:
    """Safeguarded DPO on SDXL."""
    return {
        **_without_alpha(dmpo_sdxl()),
        "objective.name": "sdpo",
        "objective.base": "dpo",  # code
        "objective.beta": 5000.0,  # code
        "objective.slack": 0.6,  # code
    }


def _without_alpha(settings: Settings) -> Settings:
    """The plan that Diffusion-SDPO's code shares among its objectives."""
    return {name: value for name, value in settings.items() if name != "objective.alpha"}


def inversion_dpo_sdxl() -> Settings:
    """Inversion-DPO on SDXL."""
    return {
        "objective.name": "inversion-dpo",
        "adapter": None,  # code
        **_SDXL,
        "objective.beta": 2000.0,  # code
        "inversion.steps": 80,  # launcher; the argument's default is 40
        "inversion.guidance": 2.0,  # code
        "inversion.weight": "inv_alpha",  # code
        "inversion.target": "trajectory",  # ours; the figure's "reference" starts without gradient
        "plan.learning_rate": 1e-8,  # launcher: scaled by the number of GPUs
        "inversion.visits": 4,  # ours: memory; the code keeps all 80
        "plan.batch": 1,  # launcher: per GPU, nothing accumulated
        "plan.warmup_steps": 1000,  # launcher
        "plan.steps": 2000,  # launcher
        "plan.precision": "bf16",  # launcher
        "pictures.latents": "mean",  # a way back to noise is kept for one latent of a picture
    }


def inpo_sd15() -> Settings:
    """InPO on Stable Diffusion 1.5; the authors start from a supervised checkpoint."""
    return {
        "objective.name": "inpo",
        **_UNTOLD,
        **_SD15,
        "objective.beta": 2000.0,  # code
        "plan.batch": 1024,  # code: 1 · 128 accumulated · 8 GPUs
        "plan.micro_batch": 1,  # code
        "plan.learning_rate": 1.024e-5,  # code: 1e-8, scaled by the batch
        "plan.warmup_steps": 200,  # code
        "plan.steps": 400,  # code
    }


def inpo_sdxl() -> Settings:
    """InPO on SDXL."""
    return {**inpo_sd15(), **_SDXL, "objective.beta": 5000.0}  # code


def smpo_sd15() -> Settings:
    """SmPO on Stable Diffusion 1.5; labels come from PickScore there (labels.scorer here)."""
    return {
        "objective.name": "smpo",
        **_UNTOLD,
        **_SD15,
        "objective.beta": 2000.0,  # code
        "plan.batch": 1024,  # code
        "plan.learning_rate": 1.024e-5,  # ours (InPO's)
        "plan.warmup_steps": 100,  # code
        "plan.steps": 200,  # code
    }


def smpo_sdxl() -> Settings:
    """SmPO on SDXL."""
    return {**smpo_sd15(), **_SDXL, "objective.beta": 5000.0}  # code


def see_dpo_sd15() -> Settings:
    """SEE-DPO on Stable Diffusion 1.5: Diffusion-DPO's run; the authors' numbers were not found."""
    return {
        **dpo_sd15(),
        "objective.name": "see-dpo",
        "objective.gamma": 0.1,  # ours
        "objective.gamma_mode": "relative",  # ours
    }


def spin_sd15() -> Settings:
    """SPIN-Diffusion on Stable Diffusion 1.5, three rounds."""
    return {
        "objective.name": "spin",
        **_UNTOLD,
        **_SD15,
        "adapter": None,  # paper: LoRA is not explored
        "plan.batch": 2048,  # paper: 8 GPUs, 8 pairs each, 32 accumulated
        "plan.micro_batch": 8,  # paper
        "plan.weight_decay": 0.01,  # paper
        "selfplay.iterations": 3,  # paper
        "selfplay.betas": [2000.0, 5000.0, 5000.0],  # paper
        "selfplay.learning_rates": [2e-5, 2e-5, 5e-8],  # paper; the cards list 2e-5 throughout
        "selfplay.steps": [50, 500, 200],  # paper; the cards list 500
        "selfplay.guidance": 7.5,  # paper
        "selfplay.sampling_steps": 50,  # paper's public demo
        "plan.schedule": "linear",  # paper
        "plan.warmup_steps": 50,  # paper: 200, which is longer than its first round
        "plan.steps": 500,  # the longest round; each round has its own above
    }


def d3po_sd15() -> Settings:
    """D3PO on Stable Diffusion 1.5, adapters only."""
    return {
        "objective.name": "d3po",
        **_SD15,
        "adapter.rank": 4,  # code
        "objective.beta": 0.1,  # code
        "rollout.at_once": 8,  # ours: memory
        "plan.learning_rate": 3e-5,  # code
        "plan.weight_decay": 1e-4,  # code
        "plan.batch": 10,  # code: prompts per batch, two batches per epoch
        "plan.micro_batch": 1,  # ours
        "plan.steps": 800,  # code: 400 epochs of two batches
        "plan.precision": "bf16",  # code: fp16
    }


def spo_sd15() -> Settings:
    """SPO on Stable Diffusion 1.5, adapters only; its scorer is a step-aware CLIP."""
    return {
        "objective.name": "spo",
        **_SD15,
        "adapter.rank": 4,  # code
        "objective.beta": 10.0,  # code
        "rollout.at_once": 8,  # ours: memory
        "plan.learning_rate": 6e-5,  # code
        "plan.weight_decay": 1e-4,  # code
        "plan.batch": 40,  # code: 10 prompts on each of 4 GPUs
        "plan.micro_batch": 4,  # ours
        "plan.steps": 1000,  # code: 4,000 prompts, 10 epochs
    }


def spo_sdxl() -> Settings:
    """SPO on SDXL; the released code also takes three inner steps, which are not here."""
    return {
        **spo_sd15(),
        **_SDXL,
        "adapter.rank": 64,  # code
        "rollout.candidates": 2,  # code
        "rollout.threshold": 0.4,  # code
        "plan.learning_rate": 1e-5,  # code
        "plan.batch": 16,  # code: 2 · 2 accumulated · 4 GPUs
        "plan.micro_batch": 1,  # ours
    }


def lpo_sd15() -> Settings:
    """LPO on Stable Diffusion 1.5, adapters only; its scorer reads latents."""
    return {
        "objective.name": "lpo",
        **_SD15,
        "adapter.rank": 4,  # code
        "objective.beta": 500.0,  # code
        "rollout.threshold": 0.35,  # code
        "rollout.threshold_high": 0.5,  # code
        "rollout.at_once": 8,  # ours: memory
        "plan.learning_rate": 6e-5,  # code
        "plan.weight_decay": 1e-4,  # ours (SPO's)
        "plan.batch": 40,  # ours (SPO's)
        "plan.micro_batch": 4,  # ours
        "plan.steps": 500,  # code: 4,000 prompts, 5 epochs
    }


def lpo_sdxl() -> Settings:
    """LPO on SDXL."""
    return {
        **lpo_sd15(),
        **_SDXL,
        "adapter.rank": 64,  # code
        "rollout.threshold": 0.45,  # code
        "rollout.threshold_high": 0.6,  # code
        "plan.learning_rate": 1e-5,  # code
        "plan.micro_batch": 1,  # ours
    }


def kto_sd15() -> Settings:
    """Diffusion-KTO on Stable Diffusion 1.5."""
    return {
        "objective.name": "kto",
        **_UNTOLD,
        **_SD15,
        "objective.beta": 2000.0,  # code: 1000 without the ½
        "objective.positives": 0.8,  # code: sampling share
        "plan.caption_dropout": 0.2,  # code
        "plan.learning_rate": 1e-7,  # code
        "plan.batch": 8,  # code: 2 pictures on each of 4 GPUs, which is pictures, not pairs
        "plan.warmup_steps": 200,  # code
        "plan.steps": 20000,  # code
    }


def mapo_sdxl() -> Settings:
    """MaPO on SDXL; the authors use 8-bit Adam."""
    return {
        "objective.name": "mapo",
        "adapter": None,  # code
        **_SDXL,
        "objective.weight": 0.1,  # code
        "objective.squash": 0.5,  # code
        "plan.learning_rate": 1e-5,  # code
        "plan.batch": 16,  # code: 8 · 2
        "plan.micro_batch": 8,  # code
        "plan.steps": 2000,  # code
    }


def dspo_sd15() -> Settings:
    """DSPO on Stable Diffusion 1.5."""
    return {
        "objective.name": "dspo",
        **_UNTOLD,
        **_SD15,
        "objective.beta": 0.001,  # code: default of three
        "plan.batch": 2048,  # code
        "plan.learning_rate": 2.048e-5,  # code: 1e-8, scaled by the batch
        "plan.warmup_steps": 250,  # ours
        "plan.steps": 1000,  # code: 500 to 1,500
    }


def dspo_sdxl() -> Settings:
    """DSPO on SDXL, with the other formula that the released code has there."""
    return {
        **dspo_sd15(),
        **_SDXL,
        "objective.form": "sdxl",  # code; the paper's formula is "sd15"
        "objective.beta": 5000.0,  # code: 1000 to 5000
        "plan.warmup_steps": 150,  # ours
        "plan.steps": 650,  # code: 600 to 700
    }


def capo_sdxl() -> Settings:
    """CaPO on SDXL: number of pictures, β, bias and learning rate were not found anywhere."""
    return {
        "objective.name": "capo",
        **_UNTOLD,
        **_SDXL,
        "objective.beta": 2000.0,  # ours
        "plan.batch": 2048,  # ours (Diffusion-DPO's launcher)
        "plan.learning_rate": 2.048e-5,  # ours (Diffusion-DPO's launcher)
        "plan.warmup_steps": 200,  # ours (Diffusion-DPO's launcher)
        "plan.steps": 2000,  # ours (Diffusion-DPO's launcher)
    }


def npo_sd15() -> Settings:
    """Diffusion-NPO's negative model on Stable Diffusion 1.5, adapters only; 8-bit Adam there."""
    return {
        "objective.name": "npo",
        **_SD15,
        "adapter.rank": 8,  # code
        "objective.beta": 1000.0,  # code: 500 without the ½
        "plan.learning_rate": 5e-6,  # code
        "plan.batch": 64,  # code
        "plan.micro_batch": 8,  # ours
        "plan.steps": 5000,  # code
    }


def npo_sdxl() -> Settings:
    """Diffusion-NPO's negative model on SDXL, adapters only."""
    return {
        **npo_sd15(),
        **_SDXL,
        "objective.beta": 4000.0,  # code: 2000 without the ½
        "plan.batch": 60,  # code: 30 · 2
    }


def flow_dpo_sd35() -> Settings:
    """Flow-DPO as Flow-GRPO's code trains Stable Diffusion 3.5, adapters only, offline."""
    return {
        "objective.name": "flow-dpo",
        "objective.beta": 100.0,  # code
        "objective.weight": "constant",  # code
        "noise.levels": "logit-normal",  # code
        "adapter.rank": 32,  # code
        "adapter.alpha": 64.0,  # code
        "adapter.targets": _JOINT,  # code, of its script without pairs
        "plan.learning_rate": 3e-4,  # code
        "plan.batch": 24,  # ours; the code draws 24 pictures per prompt
        "plan.steps": 1000,  # ours
    }


def ppd_cascade() -> Settings:
    """PPD on Stable Cascade's stage C; the authors make embeddings with LLaVA-OneVision."""
    return {
        "objective.name": "ppd",
        "adapter": None,  # notes: only the attention to users is trained
        "pictures.resolution": 1024,  # ours: what stage C was made for
        "plan.gradient_checkpointing": True,  # ours: memory
        "objective.beta": 5000.0,  # ours (Diffusion-DPO's launcher): not found anywhere
        "personal.users": "looks",  # ours: needs no download; notes: vision:FOLDER, LLaVA-OneVision
        "personal.examples": 4,  # notes
        "personal.subsets": 8,  # ours
        "personal.width": 256,  # ours
        "personal.dropout": 0.1,  # ours: the rate was not found
        "personal.order": "activity",  # notes: pairs are drawn as they are
        "plan.learning_rate": 1e-5,  # notes
        "plan.batch": 768,  # notes
        "plan.micro_batch": 1,  # ours
        "plan.weight_decay": 0.01,  # ours (Diffusion-DPO's launcher)
        "plan.caption_dropout": 0.0,  # ours: the empty prompt is nobody's, which teaches nothing
        "plan.precision": "bf16",  # ours: memory
        "plan.steps": 1042,  # notes: one epoch of 0.8 million pairs
    }


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """A published run.

    Attributes:
        settings: Everything but model and data.
    """

    settings: Callable[[], Settings]

    @property
    def name(self) -> str:
        """Method and model, such as `dpo-sd15`."""
        return self.settings.__name__.replace("_", "-")

    @property
    def method(self) -> str:
        """The objective's name."""
        return str(self.settings()["objective.name"])

    @property
    def about(self) -> str:
        """What it is, in one sentence."""
        return (self.settings.__doc__ or "").strip()

    def run(self, model: str, data: str | None, **changes: Any) -> Run:
        """The run on a model and a snapshot, with some settings changed.

        Args:
            model: A folder, a Hub name, or `shipped`.
            data: A frozen snapshot; None for methods whose policy draws its own pictures.
            changes: Settings by dotted name, as a mapping unpacked with `**`.
        """
        told = {"model": model} | ({} if data is None else {"data": data})
        return Run.from_values({**self.settings(), **told, **changes})


RECIPES: tuple[Recipe, ...] = tuple(
    Recipe(each)
    for each in (
        sft_sd15, dpo_sd15, dpo_sdxl, cdpo_sd15, rdpo_sd15, ipo_sd15, hinge_sd15,
        adaptive_dpo_sd15, adaptive_ipo_sd15, dedpo_sd15, dedpo_sdxl, dmpo_sd15, dmpo_sdxl,
        inversion_dpo_sdxl, inpo_sd15, inpo_sdxl, smpo_sd15, smpo_sdxl, see_dpo_sd15, spin_sd15,
        d3po_sd15, spo_sd15, spo_sdxl, lpo_sd15, lpo_sdxl, kto_sd15, mapo_sdxl, dspo_sd15,
        dspo_sdxl, sdpo_sd15, sdpo_sdxl, capo_sdxl, npo_sd15, npo_sdxl, flow_dpo_sd35,
        ppd_cascade,
    )
)  # fmt: skip


def recipe(name: str) -> Recipe:
    """A published run by name.

    Raises:
        SettingError: when there is none of that name, with the nearest.
    """
    for each in RECIPES:
        if each.name == name:
            return each
    raise unknown("recipe", name, [each.name for each in RECIPES])
