"""Low-rank adapters; the reference is the adapters switched off, and that is checked.

Training a network through adapters needs no second copy of it: with the adapters off it is the
reference again, exactly. That holds only for adapters that leave the base alone, so nothing else
can be attached (`Adapter`) or loaded (`load_adapters`).

Read next: `denoiser.py`, which asks both voices.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from diffusers.loaders import SD3LoraLoaderMixin, StableDiffusionLoraLoaderMixin
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from palate.backbones.backbone import Adapter
from palate.core.files import load_weights, write_atomic
from palate.core.problems import SettingError, WeightsError, nearest, require
from palate.core.streams import Streams

WEIGHTS = "pytorch_lora_weights.safetensors"
NAME = "default"
_METADATA = "lora_adapter_metadata"
_INITIAL: Mapping[str, Any] = {"gaussian": "gaussian", "uniform": True}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How plain diffusers keeps the adapters of one kind of network in a file.

    Attributes:
        prefix: Its part of a pipeline, with which every name in the file starts.
        loader: The pipeline's own reader and writer.
        told: What its reader needs to know of the network, by the names of its arguments.
    """

    prefix: str
    loader: Any
    told: Mapping[str, str]

    def write(
        self, folder: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
    ) -> None:
        """Write adapters and their settings into a folder."""
        self.loader.save_lora_weights(
            folder,
            **{
                f"{self.prefix}_lora_layers": {**tensors},
                f"{self.prefix}_lora_adapter_metadata": settings,
            },
            safe_serialization=True,
        )

    def read(
        self, tensors: Mapping[str, Tensor], network: nn.Module
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A file's adapters under today's names, and their alphas where the file has them apart."""
        told = {name: getattr(network, value) for name, value in self.told.items()}
        found = self.loader.lora_state_dict({**tensors}, **told)
        return found if isinstance(found, tuple) else (found, {})


FORMATS: Mapping[type[nn.Module], Format] = {
    UNet2DConditionModel: Format(
        prefix="unet", loader=StableDiffusionLoraLoaderMixin, told={"unet_config": "config"}
    ),
    SD3Transformer2DModel: Format(prefix="transformer", loader=SD3LoraLoaderMixin, told={}),
}


@final
class AdaptersOff:
    """The base network, spoken through the same modules with their adapters switched off.

    The layers are found once. Walking all modules at every switch, as the libraries' own switch
    does, costs tens of milliseconds a step on a large network, and touches `requires_grad`.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._layers = tuple(m for m in network.modules() if isinstance(m, LoraLayer))
        with self():
            obeyed = all(layer.disable_adapters for layer in self._layers)
        require(
            bool(self._layers) and obeyed,
            got=f"{len(self._layers)} adapters, of which some cannot be switched off",
            need="adapters that can be switched off, for the reference",
            fix="Install the peft version of the constraints file.",
            kind=WeightsError,
        )

    @contextmanager
    def __call__(self) -> Iterator[nn.Module]:
        """The network as it was before any adapter."""
        before = [layer.disable_adapters for layer in self._layers]
        try:
            for layer in self._layers:
                # Straight into the instance: the module's own setter is ten times slower.
                vars(layer)["_disable_adapters"] = True
            yield self._network
        finally:
            for layer, off in zip(self._layers, before, strict=True):
                vars(layer)["_disable_adapters"] = off


def attach(network: Any, adapter: Adapter) -> None:
    """Add trainable adapters to a frozen network. Its answers stay what they were.

    Raises:
        SettingError: when a target names no layer, or plain diffusers could not read the result.
    """
    format_of(network)
    names = layers(network, adapter.targets)
    # Annotated narrower than it takes: a fractional alpha is fine.
    alpha: Any = adapter.scale * adapter.rank
    settings = LoraConfig(
        r=adapter.rank,
        lora_alpha=alpha,
        target_modules=names,
        init_lora_weights=_INITIAL[adapter.init],
        use_dora=adapter.dora,
        lora_dropout=0.0,
        bias="none",
    )
    # The library draws from the global generator: lend it, put it back, and draw by name instead.
    with torch.random.fork_rng(devices=[]):
        network.add_adapter(settings, NAME)
    streams = Streams(adapter.seed)
    for name in names:
        down = network.get_parameter(f"{name}.lora_A.{NAME}.weight")
        down.data.copy_(_initial(streams, name, tuple(down.shape), adapter))


def _initial(streams: Streams, name: str, shape: tuple[int, ...], adapter: Adapter) -> Tensor:
    """The down-projection of one layer."""
    if adapter.init == "gaussian":
        return streams("lora", name).normal(shape) / adapter.rank
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    unit = torch.rand(shape, generator=streams("lora", name).generator())
    return (2 * unit - 1) * bound


def layers(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """Full names of the linear and convolution layers that targets mean, sorted.

    Raises:
        SettingError: for a target that names none, with the nearest name that would.
    """
    able = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    found: set[str] = set()
    for target in targets:
        meant = {name for name in able if f".{target}." in f".{name}."}
        if not meant:
            raise _no_such_layer(target, able)
        found |= meant
    return sorted(found)


def format_of(network: nn.Module | type[nn.Module]) -> Format:
    """How adapters of this network, or of this class of networks, are kept.

    Raises:
        SettingError: for a network whose pipeline reads no adapters.
    """
    kind = network if isinstance(network, type) else type(network)
    require(
        kind in FORMATS,
        got=f"adapters for a {kind.__name__}",
        need=f"a {' or a '.join(known.__name__ for known in FORMATS)}, whose pipelines read them",
        fix="Leave the adapter out, and all weights are trained.",
        kind=SettingError,
    )
    return FORMATS[kind]


def _no_such_layer(target: str, able: Sequence[str]) -> SettingError:
    """The error for a target without a layer."""
    # What a person would write: the last word, or the last name and its number (to_out.0).
    words = {_short(name) for name in able} | {"ff.net"}
    guess = nearest(target, words)
    return SettingError(
        got=f"adapter target {target!r}, which names no layer of this network",
        need=f"layer names such as {', '.join(sorted(words)[:12])}",
        fix=f"Did you mean {guess}?" if guess else "Use to_q, to_k, to_v and to_out.0.",
    )


def _short(name: str) -> str:
    words = name.split(".")
    return ".".join(words[-2:]) if words[-1].isdigit() and len(words) > 1 else words[-1]


def save_adapters(network: Any, folder: Path) -> None:
    """Write the adapters as plain diffusers loads them, with rank and alpha in the header."""
    settings = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in network.peft_config[NAME].to_dict().items()
    }
    tensors = get_peft_model_state_dict(network, adapter_name=NAME)
    format_of(network).write(folder, tensors, settings)
    _in_order(folder / WEIGHTS)


def _in_order(file: Path) -> None:
    """Sort a safetensors header, whose order changes from save to save, so that digests agree."""
    raw = file.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    write_atomic(file, len(header).to_bytes(8, "little") + header + raw[start:])


def load_adapters(network: Any, file: Path) -> None:
    """Attach adapters from a file: ours, diffusers', or the community's single-file format.

    Raises:
        WeightsError: when the file cannot be read, is not for this network, or holds more than
            adapters of the denoising network.
    """
    tensors, settings, kept = load_weights(file), _settings(file), format_of(network)
    plain, alphas = kept.read(tensors, network)
    others = sorted({n.split(".")[0] for n in plain if not n.startswith(f"{kept.prefix}.")})
    require(
        bool(plain) and not others,
        got=f"{file} with weights for {', '.join(others) or 'nothing'}",
        need=f"adapters of the denoising network ({kept.prefix}) only",
        fix="Use a file trained for this kind of model, without the text encoder.",
        kind=WeightsError,
    )
    _require_safe(kept.prefix, settings, plain, file)
    try:
        # A fresh adapter is drawn before it is filled; the global generator must not notice.
        with torch.random.fork_rng(devices=[]):
            network.load_lora_adapter(
                plain,
                prefix=kept.prefix,
                network_alphas=None if settings else alphas,
                metadata=settings or None,
                adapter_name=NAME,
            )
        filled = get_peft_model_state_dict(network, adapter_name=NAME)
    # Names, ranks and shapes come from the file; the library dislikes bad ones in many ways.
    except Exception as error:
        raise _does_not_fit(file, str(error)) from error
    if len(filled) != len(plain):
        raise _does_not_fit(file, f"{len(plain)} tensors for {len(filled)} places")


def fill_adapters(network: Any, file: Path) -> None:
    """Put a file's weights into adapters that are attached already.

    Raises:
        WeightsError: when rank, targets or scale differ from the file's.
    """
    tensors, settings, prefix = load_weights(file), _settings(file), format_of(network).prefix
    mine = get_peft_model_state_dict(network, adapter_name=NAME)
    theirs = {name.removeprefix(f"{prefix}."): value for name, value in tensors.items()}
    wrong = sorted(set(mine) ^ set(theirs)) or sorted(
        name for name, value in mine.items() if value.shape != theirs[name].shape
    )
    config = network.peft_config[NAME]
    scale = settings.get(f"{prefix}.lora_alpha", config.lora_alpha)
    if wrong or scale != config.lora_alpha:
        raise _does_not_fit(file, f"{', '.join(wrong[:3]) or f'alpha {scale}'} differs")
    set_peft_model_state_dict(network, theirs, adapter_name=NAME)


def fold(network: Any) -> None:
    """Add what the adapters say to the network's own weights, and take the adapters away.

    Raises:
        WeightsError: when the sum is not finite.
    """
    try:
        network.fuse_lora(safe_fusing=True)
    except ValueError as error:
        raise WeightsError(
            got=f"adapters that cannot be folded into their network: {error}",
            need="finite weights",
            fix="Use another checkpoint; this one was saved after a training broke.",
        ) from error
    network.unload_lora()


def _settings(file: Path) -> dict[str, Any]:
    """The adapter's settings from a file's header; empty where it has none."""
    try:
        with safe_open(file, "pt") as opened:
            value = json.loads((opened.metadata() or {}).get(_METADATA, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise _does_not_fit(file, str(error)) from error
    return value if isinstance(value, dict) else {}


def _require_safe(
    prefix: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], file: Path
) -> None:
    """Refuse what stays with the adapters off: biases, saved modules, a rewritten base."""
    biases = [settings.get(f"{prefix}.bias", "none")] + [n for n in tensors if n.endswith(".bias")]
    saved = settings.get(f"{prefix}.modules_to_save")
    initial = settings.get(f"{prefix}.init_lora_weights", True)
    rewritten = isinstance(initial, str) and initial not in ("gaussian", "orthogonal", "eva")
    require(
        biases == ["none"] and not saved and not rewritten,
        got=f"{file} with biases {biases[0]}, saved modules {saved}, initialisation {initial}",
        need="adapters that change nothing once they are off",
        fix="Train with bias none, no saved modules and a gaussian or uniform initialisation.",
        kind=WeightsError,
    )


def _does_not_fit(file: Path, reason: str) -> WeightsError:
    lines = reason.strip().splitlines() or ["unreadable"]
    return WeightsError(
        got=f"{file}: {lines[0][:300]}",
        need="adapters for this network",
        fix="Use the base model, rank and targets that the file was trained with.",
    )
