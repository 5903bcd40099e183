"""What to know before hours are spent: versions, room, and one honest step on the real model.

Every question is asked even when an earlier one failed; a question that cannot be asked says so.

Read next: `palate/core/record.py`, which writes the same facts into every run.
"""

import importlib.util
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, final

import torch
from packaging.requirements import Requirement

from palate.backbones import Adapter, Backbone, Personal, load, takes_adapters
from palate.backbones.folder import Folder
from palate.core.contrast import Denoised, mean_square
from palate.core.files import MANIFEST, damage, load_weights
from palate.core.problems import MissingExtra, Problem, StateError, WeightsError
from palate.core.streams import Streams

# Older releases have holes that untrusted weights or pictures can use, or miss what is called.
FLOORS = ("torch>=2.10", "pillow>=12.3")
# In every family's folders; those of a combined Stable Cascade last.
_PARTS = (
    *("unet", "transformer", "prior", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"),
    *("prior_prior", "prior_text_encoder", "decoder", "vqgan"),
)
# What is trained for one step where a family has no adapters.
_PERSONAL = Personal(user_width=8, tokens=1, width=8)
_GB = 1e9
_PIXELS = 256


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The answer to one question.

    Attributes:
        name: What was asked.
        status: `ok`, `failed`, or `skipped` where it could not be asked.
        detail: What was found, in a few words.
        fix: The command or deed that helps, where it failed.
        exit_code: What a script should leave with if this failed.
    """

    name: str
    status: Literal["ok", "failed", "skipped"]
    detail: str
    fix: str = ""
    exit_code: int = 0


def preflight(model: str, folder: Path) -> list[Tick]:
    """Ask everything about this machine, a model, and the disk the runs will be on."""
    ticks = [*_versions(), _torchvision(), _threads()]
    try:
        files = _weight_files(model)
        size = sum(path.stat().st_size for path in files)
    except Problem as problem:
        failed = _failed("model", problem)
        return [*ticks, _disk(folder, 0), _memory(0), failed, _skip("weights"), _skip("step")]
    ticks += [_disk(folder, size), _memory(size)]
    weights = _ask("weights", lambda: _weights(model, files))
    step = _ask("step", lambda: _step(model)) if weights.status == "ok" else _skip("step")
    return [*ticks, weights, step]


def _versions() -> list[Tick]:
    """Every package palate asks for, against what it asks for."""
    try:
        wanted = [Requirement(line) for line in requires("palate") or () if "extra ==" not in line]
    except PackageNotFoundError:
        wanted = []
    return [_version(each) for each in wanted or map(Requirement, FLOORS)]


def _version(wanted: Requirement) -> Tick:
    name, code = f"version of {wanted.name}", MissingExtra.exit_code
    fix = f"pip install '{wanted}'"
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return Tick(name=name, status="failed", detail="not installed", fix=fix, exit_code=code)
    if wanted.specifier.contains(found, prereleases=True):
        return Tick(name=name, status="ok", detail=f"{found} ({wanted.specifier})")
    detail = f"{found}, needs {wanted.specifier}"
    return Tick(name=name, status="failed", detail=detail, fix=fix, exit_code=code)


def _torchvision() -> Tick:
    """A torchvision built for another torch makes transformers and diffusers fail to import."""
    if importlib.util.find_spec("torchvision") is None:
        return Tick(name="torchvision", status="ok", detail="not installed, not needed")
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        return Tick(
            name="torchvision",
            status="failed",
            detail=f"installed for another torch ({str(error).splitlines()[0]})",
            fix="pip uninstall torchvision",
            exit_code=MissingExtra.exit_code,
        )
    return Tick(name="torchvision", status="ok", detail="fits this torch")


def _threads() -> Tick:
    threads, processors = torch.get_num_threads(), os.cpu_count() or 1
    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    detail = f"{threads} threads on {processors} processors, {accelerator}"
    if threads <= processors:
        return Tick(name="threads", status="ok", detail=detail)
    fix = f"export OMP_NUM_THREADS={processors}"
    code = StateError.exit_code
    return Tick(name="threads", status="failed", detail=detail, fix=fix, exit_code=code)


def _disk(folder: Path, weights: int) -> Tick:
    """Room for two checkpoints of a full fine-tuning: weights and AdamW's two averages, twice."""
    need = 2 * 3 * weights + _GB / 5
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path())
    free = shutil.disk_usage(there).free
    detail = f"{free / _GB:.1f} GB free at {folder}, two full checkpoints take {need / _GB:.1f} GB"
    fix = f"free some space, or write elsewhere: --out BIGGER/{folder.name or 'runs'}"
    return _enough("disk", free, need, detail, fix)


def _memory(weights: int) -> Tick:
    """Room for adapters on this model: its weights in fp32, and as much again to work in."""
    need = 2 * weights + _GB
    free = _available_memory()
    if math.isnan(free):
        return Tick(name="memory", status="skipped", detail="this system does not say")
    detail = f"{free / _GB:.1f} GB available, training adapters takes about {need / _GB:.1f} GB"
    fix = "close other programs, or add --precision bf16 --gradient-checkpointing to the training"
    return _enough("memory", free, need, detail, fix)


def _enough(name: str, free: float, need: float, detail: str, fix: str) -> Tick:
    if free >= need:
        return Tick(name=name, status="ok", detail=detail)
    return Tick(name=name, status="failed", detail=detail, fix=fix, exit_code=StateError.exit_code)


def _available_memory() -> float:
    """Bytes that a new program can have; NaN where the system does not say."""
    try:
        facts = Path("/proc/meminfo").read_text(encoding="ascii")
        line = next(line for line in facts.splitlines() if line.startswith("MemAvailable"))
        return 1024.0 * int(line.split()[1])
    except (OSError, StopIteration, ValueError):
        return math.nan


def _weight_files(model: str) -> tuple[Path, ...]:
    """The weights that loading this model would read.

    Raises:
        WeightsError: when the model's folder cannot be used.
    """
    from palate.backbones import shipped

    path = Folder.open(shipped() if model == "shipped" else model).path
    files = [
        file
        for part in _PARTS
        for file in sorted((path / part).glob("*.safetensors"))
        if ".fp16." not in file.name or len(list((path / part).glob("*.safetensors"))) == 1
    ]
    return tuple(files)


def _weights(model: str, files: Sequence[Path]) -> str:
    """All weights are finite, and the folder is what its manifest says."""
    folder = files[0].parents[1] if files else Path(model)
    if (folder / MANIFEST).is_file() and (wrong := damage(folder)):
        raise WeightsError(
            got=f"{folder}: {wrong}",
            need="the files of its manifest",
            fix="pip install --force-reinstall palate" if model == "shipped" else "Copy it again.",
        )
    count = sum(tensor.numel() for file in files for tensor in load_weights(file).values())
    return f"{len(files)} files, {count / 1e6:.1f} M finite numbers"


def _step(model: str) -> str:
    """One step in full precision: the margin starts at exactly 0, and the gradient is finite."""
    adapted = takes_adapters(model)
    backbone = load(
        model,
        adapter=Adapter(rank=2) if adapted else None,
        personal=None if adapted else _PERSONAL,
        train=True,
    )
    probe = backbone.reference_probe()
    side = min(backbone.resolution, _PIXELS)
    shape = (2, *backbone.latent_shape(side, side))
    noisy, target = (Streams(0)("preflight", name).normal(shape) for name in ("noisy", "target"))
    gain = _gain(backbone, noisy, target)
    if gain != 0.0:
        raise WeightsError(
            got=f"a margin of {gain:.3g} before the first step",
            need="exactly 0: policy and reference are equal there",
            fix="Report it with the model's name; training would start from a wrong reference.",
        )
    if backbone.reference_probe() != probe:
        raise WeightsError(
            got="a reference that changed by one backward pass",
            need="a frozen reference",
            fix="Report it with the model's name.",
        )
    return f"margin 0 at the first step, finite gradient, reference probe {probe[:8]}"


def _gain(backbone: Backbone, noisy: torch.Tensor, target: torch.Tensor) -> float:
    """The largest gain of an untrained policy, after a backward pass through it."""
    level = torch.tensor([100, 700]) * backbone.path.levels // 1000
    condition = backbone.embed(["a picture", ""])
    if backbone.personal is not None:
        whom = torch.ones(
            2, 1, backbone.personal.user_width, device=condition.tensors["text"].device
        )
        condition = condition.with_user(whom)
    prediction = backbone.predict(noisy, level, condition)
    with backbone.as_reference():
        reference = backbone.predict(noisy, level, condition)
    target = target.to(prediction.device)
    mean_square(prediction, target).mean().backward()
    gradients = [each.grad for each in backbone.trainable().values() if each.grad is not None]
    if not gradients or not all(bool(torch.isfinite(each).all()) for each in gradients):
        raise WeightsError(
            got="a gradient that is missing, NaN or infinite",
            need="a finite gradient in everything that is trained",
            fix="Use other weights; these cannot be trained in fp32.",
        )
    evidence = Denoised(prediction=prediction.detach(), target=target, reference=reference)
    return float(evidence.gain.abs().max())


def _ask(name: str, question: Callable[[], str]) -> Tick:
    try:
        return Tick(name=name, status="ok", detail=question())
    except Problem as problem:
        return _failed(name, problem)


def _failed(name: str, problem: Problem) -> Tick:
    detail = f"{problem.got}; needs {problem.need}"
    code = problem.exit_code
    return Tick(name=name, status="failed", detail=detail, fix=problem.fix, exit_code=code)


def _skip(name: str) -> Tick:
    return Tick(name=name, status="skipped", detail="not asked, because of what failed before")
