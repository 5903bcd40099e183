"""A pipeline folder with a denoising network in an autoencoder's latents, as a `Backbone`.

What the families share, which is almost everything, is here. What they do not share is a
`Family`: which parts there are, how prompts become a condition, how the network is told of it and
of noise, and how pictures become latents. Text encoders and autoencoder are never trained and
compute in float32.

Read next: `sd.py` and `sdxl.py`, the families; `lora.py`, training a few weights of one.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from palate.backbones.autoencoder import Autoencoder, Grid
from palate.backbones.backbone import Adapter, Condition, Personal, Precision
from palate.backbones.denoiser import Denoiser
from palate.backbones.folder import INDEX, Folder, Part
from palate.backbones.mixture import Mixture
from palate.backbones.parts import load_network, quiet
from palate.backbones.policy import Policy, open_policy
from palate.backbones.schedule import noise_path
from palate.backbones.user_attention import layers_of
from palate.core.files import MANIFEST, digest_file, digest_json, new_folder, write_json
from palate.core.path import Path as NoisePath
from palate.core.problems import StateError, require

Held = TypeVar("Held")


class Text(Protocol):
    """The text encoders of a family."""

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the network needs to know of the prompts."""
        ...

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt with its start and end, and how many are read."""
        ...


class Inputs(Protocol):
    """What a family's network is called with, besides noisy latents and level."""

    def __call__(self, condition: Condition, height: int, width: int) -> Mapping[str, Any]:
        """Named inputs for a condition on the network's device; the picture's size in pixels."""
        ...

    def question(self) -> Condition:
        """A fixed condition of two rows, for the reference probe."""
        ...


class Coder(Protocol):
    """Pictures to latents and back, in float32."""

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the latents, in the scale the network sees."""
        ...

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that latents stand for."""
        ...


class Geometry(Protocol):
    """How large latents are; known without the weights that make them."""

    @property
    def channels(self) -> int:
        """Of the latents."""
        ...

    @property
    def resolution(self) -> int:
        """Side of the pictures the model was made for, in pixels."""
        ...

    @property
    def probe(self) -> int:
        """Side of latents that are just large enough to ask the network something."""
        ...

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture; sizes in pixels.

        Raises:
            SettingError: when the size does not fit.
        """
        ...

    def pixels(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture that latents of this size are of."""
        ...


def _autoencoder(parts: Mapping[str, Part], device: torch.device) -> Coder:
    """The autoencoder of a folder."""
    return Autoencoder(load_network(AutoencoderKL, parts["vae"], device))


def _unet() -> type[nn.Module]:
    return UNet2DConditionModel


def _grid(parts: Mapping[str, Part]) -> Geometry:
    """The latents of a folder with a UNet and an autoencoder."""
    return Grid.of_unet(parts["unet"], parts["vae"])


def _as_it_is(level: Tensor) -> Tensor:
    """For networks whose time is the index of the level."""
    return level


def _same_times(_scheduler: Part) -> Callable[[Tensor], Tensor]:
    return _as_it_is


def _each_digest(parts: Mapping[str, Part]) -> Mapping[str, str]:
    return {name: part.digest for name, part in parts.items()}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What one family of models does in its own way.

    Attributes:
        kind: Its short name, such as `sd`.
        parts: For each part of its folders, the class names it may have.
        inputs: How the network is told of a condition; from the network's part.
        text: Opens the text encoders, given the parts, the rules and the device.
        rules: Settings of the index that decide what prompts mean, with what they are if absent.
        unread: What an export's index says of parts that are not loaded.
        network: Which part denoises.
        network_class: Its class.
        called: What the network calls noisy latents and their level.
        scheduler: Which part is the scheduler.
        path: Noise levels and kind of prediction, from the scheduler's part.
        times: From the scheduler's part: the network's own time for indices into the path.
        geometry: How large latents are, from the parts.
        coder: Opens what turns pictures into latents and back, from the parts.
        digests: SHA-256 of what there is, from the parts. Caches know the autoencoder as `vae`,
            and text encoders and tokenizers by how their names begin.
        beside: Files beside the parts that a whole export copies where the folder has them.
    """

    kind: str
    parts: Mapping[str, tuple[str, ...]]
    inputs: Callable[[Part], Inputs]
    text: Callable[[Mapping[str, Part], Mapping[str, Any], torch.device], Text]
    rules: Mapping[str, Any]
    unread: Mapping[str, Any]
    network: str = "unet"
    network_class: Callable[[], type[nn.Module]] = _unet
    called: tuple[str, str] = ("sample", "timestep")
    scheduler: str = "scheduler"
    path: Callable[[Part], NoisePath] = noise_path
    times: Callable[[Part], Callable[[Tensor], Tensor]] = _same_times
    geometry: Callable[[Mapping[str, Part]], Geometry] = _grid
    coder: Callable[[Mapping[str, Part], torch.device], Coder] = _autoencoder
    digests: Callable[[Mapping[str, Part]], Mapping[str, str]] = _each_digest
    beside: tuple[str, ...] = ()


@final
class LatentDiffusion:
    """A folder of one of the families, as a `Backbone`."""

    def __init__(
        self,
        family: Family,
        folder: Folder,
        parts: Mapping[str, Part],
        policy: Policy,
        denoiser: Denoiser,
        coder: Coder,
        text: Text,
        path: NoisePath,
        adapter: Adapter | None,
        applied: str | None = None,
    ) -> None:
        self.kind = family.kind
        self._family, self._folder, self._parts = family, folder, parts
        self._policy, self._denoiser = policy, denoiser
        self._inputs = family.inputs(parts[family.network])
        self._times = family.times(parts[family.scheduler])
        self._geometry = family.geometry(parts)
        self._coder: Coder | None = coder
        self._text: Text | None = text
        self.device = denoiser.device
        self.precision: Precision = denoiser.precision
        self.adapter = adapter
        self.personal = policy.personal
        self.applied = applied
        self.resolution = self._geometry.resolution
        self.path = path

    @classmethod
    def load(
        cls,
        family: Family,
        folder: Folder,
        *,
        adapter: Adapter | None,
        train: bool,
        device: torch.device,
        precision: Precision,
        gradient_checkpointing: bool,
        weights: Path | Mixture | None,
        personal: Personal | None = None,
    ) -> "LatentDiffusion":
        """Load a folder for sampling or training. Called by `palate.backbones.load`."""
        parts = folder.parts(family.parts)
        path = family.path(parts[family.scheduler])
        # Asked once before any weight is read: a network of another kind or size is refused here.
        family.inputs(parts[family.network])
        family.geometry(parts)
        policy = open_policy(
            family.network_class(),
            parts[family.network],
            adapter=adapter,
            personal=personal,
            train=train,
            device=device,
            weights=weights,
        )
        if gradient_checkpointing:
            policy.recompute()
        return cls(
            family,
            folder,
            parts,
            policy,
            Denoiser(policy.network, policy.reference, precision, family.called),
            family.coder(parts, device),
            family.text(parts, _rules(family, folder), device),
            path,
            adapter,
            None if weights is None else _digest_of(weights, family.network),
        )

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the base model, and of its rules where it has any."""
        return digests_of(self._family, self._folder, self._parts)

    @property
    def scheduler_config(self) -> Mapping[str, object]:
        """The folder's scheduler settings, with its class under `_class_name`."""
        part = self._parts[self._family.scheduler]
        return {**part.settings, "_class_name": part.class_name}

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of a picture's latents; sizes in pixels."""
        return self._geometry.shape(height, width)

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the pictures' scaled latents."""
        return _held(self._coder, "vae").encode(images)

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that scaled latents stand for."""
        return _held(self._coder, "vae").decode(latents)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the network reads of each prompt."""
        return _held(self._text, "text_encoder").embed(prompts)

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt with its start and end, and how many are read; more are cut."""
        return _held(self._text, "text_encoder").token_counts(prompts)

    def predict(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b c y x"]:
        """Noise, velocity or flow, as `path.prediction` says, float32."""
        time = level if level.is_floating_point() else self._times(level)
        return self._denoiser(noisy, time, self._told(condition, *noisy.shape[-2:]))

    def _told(self, condition: Condition, height: int, width: int) -> Mapping[str, Any]:
        """The network's inputs for a condition and a size in latents.

        Raises:
            SettingError: when it is for somebody, and the model knows no users.
        """
        here = condition.to(self.device)
        told = self._inputs(here, *self._geometry.pixels(height, width))
        if here.user is None:
            return told
        layers_of(self._policy.network)
        return {**told, "user": here.user}

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, the reference answers, without gradient."""
        return self._denoiser.as_reference()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights being trained, sorted by name."""
        return self._denoiser.trainable()

    def reference_probe(self) -> str:
        """Digest of the reference's answer to a fixed question."""
        side = self._geometry.probe
        told = self._told(self._inputs.question(), side, side)
        # Shares of the path, in thousandths, because a folder may have fewer levels.
        times = self._times(torch.tensor([37, 731]) * self.path.levels // 1000)
        return self._denoiser.probe(self._geometry.channels, side, times, told)

    def state(self) -> dict[str, Tensor]:
        """The trained weights; they share memory with the model."""
        return self._denoiser.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put trained weights back; StateError when names or shapes differ."""
        self._denoiser.load_state(tensors)

    def export(self, folder: Path) -> list[Path]:
        """Write adapters, attention to users, or the whole pipeline, for plain diffusers.

        The folder appears whole or not at all, with a manifest. An earlier export is replaced.

        Raises:
            StateError: when the folder exists and is not an earlier export, or the disk refuses.
        """
        with new_folder(folder, replace=(folder / MANIFEST).is_file()) as space, quiet():
            if self._policy.save is None:
                self._save_pipeline(space)
            else:
                self._policy.save(self._policy.network, space)
        return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)

    def _save_pipeline(self, space: Path) -> None:
        """The trained network with the base folder's other parts, which were not changed."""
        trained = self._family.network
        self._policy.network.save_pretrained(space / trained, safe_serialization=True)
        for name in self._parts.keys() - {trained}:
            self._parts[name].copy(space / name)
        for name in self._family.beside:
            if (self._folder.path / name).is_file():
                shutil.copyfile(self._folder.path / name, space / name)
        kept = {name: self._folder.index[name] for name in self._parts}
        # Parts that may be absent and are: plain diffusers wants to be told so.
        gone = {name: [None, None] for name in self._family.parts if name not in self._parts}
        notes = {k: v for k, v in self._folder.index.items() if k.startswith("_")}
        rules = _rules(self._family, self._folder)
        write_json(space / INDEX, {**notes, **kept, **gone, **rules, **self._family.unread})

    def release(self, *parts: str) -> None:
        """Forget `vae` or `text_encoder`, which means all of the text encoders."""
        for part in parts:
            require(
                part in ("vae", "text_encoder"),
                got=f"release of {part!r}",
                need="vae or text_encoder",
                fix="Only parts whose results can be cached are released.",
            )
        if "vae" in parts:
            self._coder = None
        if "text_encoder" in parts:
            self._text = None


def digests_of(family: Family, folder: Folder, parts: Mapping[str, Part]) -> dict[str, str]:
    """SHA-256 of each part of a folder, and of its rules where it has any."""
    found = {**family.digests(parts)}
    rules = _rules(family, folder)
    # Named after the encoders, because what they say of a prompt depends on the rules.
    return {**found, "text_encoder_rules": digest_json(rules)} if rules else found


def _rules(family: Family, folder: Folder) -> dict[str, Any]:
    """The family's rules as a folder's index has them."""
    return {name: folder.index.get(name, usual) for name, usual in family.rules.items()}


def _digest_of(weights: Path | Mixture, network: str) -> str:
    """Digest of the denoiser's trained files, whatever else is in their folder."""
    if isinstance(weights, Mixture):
        return digest_json([[_digest_of(path, network), share] for path, share in weights.parts])
    whole = weights / network
    folder = whole if whole.is_dir() else weights
    files = sorted(folder.glob("*.safetensors")) if weights.is_dir() else [weights]
    return digest_json({file.name: digest_file(file) for file in files})


def _held(part: Held | None, name: str) -> Held:
    """A part that may have been released."""
    if part is None:
        raise StateError(
            got=f"a question to the {name}, which was released",
            need="the part in memory",
            fix="Load the model again, or ask before releasing.",
        )
    return part
