"""A pipeline folder with a UNet in an autoencoder's latents, as a `Backbone`.

What the families of Stable Diffusion share, which is almost everything, is here. What they do not
share is a `Family`: which parts there are, how prompts become a condition, and how the network is
told of it. Text encoders and autoencoder are never trained and compute in float32.

Read next: `sd.py` and `sdxl.py`, the families; `lora.py`, training a few weights of one.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, final

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from palate.backbones.autoencoder import Autoencoder, latent_shape
from palate.backbones.backbone import Adapter, Condition, Precision
from palate.backbones.denoiser import Denoiser
from palate.backbones.folder import INDEX, Folder, Part
from palate.backbones.lora import save_adapters
from palate.backbones.mixture import Mixture
from palate.backbones.parts import load_network, quiet
from palate.backbones.policy import Policy, open_policy
from palate.backbones.schedule import noise_path
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
    """

    kind: str
    parts: Mapping[str, tuple[str, ...]]
    inputs: Callable[[Part], Inputs]
    text: Callable[[Mapping[str, Part], Mapping[str, Any], torch.device], Text]
    rules: Mapping[str, Any]
    unread: Mapping[str, Any]


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
        autoencoder: Autoencoder,
        text: Text,
        path: NoisePath,
        adapter: Adapter | None,
        applied: str | None = None,
    ) -> None:
        settings = policy.network.config
        self.kind = family.kind
        self._family, self._folder, self._parts = family, folder, parts
        self._policy, self._denoiser = policy, denoiser
        self._inputs = family.inputs(parts["unet"])
        self._autoencoder: Autoencoder | None = autoencoder
        self._text: Text | None = text
        self._channels = int(settings["in_channels"])
        self._factor = autoencoder.factor
        self._halvings = len(settings["block_out_channels"]) - 1
        self.device = denoiser.device
        self.precision: Precision = denoiser.precision
        self.adapter = adapter
        self.applied = applied
        self.resolution = int(settings["sample_size"]) * self._factor
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
    ) -> "LatentDiffusion":
        """Load a folder for sampling or training. Called by `palate.backbones.load`."""
        parts = folder.parts(family.parts)
        path = noise_path(parts["scheduler"])
        # Asked once before any weight is read: a network of another kind is refused here.
        family.inputs(parts["unet"])
        policy = open_policy(
            parts["unet"], adapter=adapter, train=train, device=device, weights=weights
        )
        if gradient_checkpointing:
            policy.network.enable_gradient_checkpointing()
        vae = load_network(AutoencoderKL, parts["vae"], device)
        return cls(
            family,
            folder,
            parts,
            policy,
            Denoiser(policy.network, policy.reference, precision),
            Autoencoder(vae),
            family.text(parts, _rules(family, folder), device),
            path,
            adapter,
            None if weights is None else _digest_of(weights),
        )

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the base model, and of its rules where it has any."""
        return digests_of(self._family, self._folder, self._parts)

    @property
    def scheduler_config(self) -> Mapping[str, object]:
        """The folder's scheduler settings, with its class under `_class_name`."""
        part = self._parts["scheduler"]
        return {**part.settings, "_class_name": part.class_name}

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of a picture's latents; sizes in pixels."""
        return latent_shape(height, width, channels=self._channels, factor=self._factor)

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the pictures' scaled latents."""
        return _held(self._autoencoder, "vae").encode(images)

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that scaled latents stand for."""
        return _held(self._autoencoder, "vae").decode(latents)

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
        """Noise or velocity, as `path.prediction` says, float32."""
        return self._denoiser(noisy, level, self._told(condition, *noisy.shape[-2:]))

    def _told(self, condition: Condition, height: int, width: int) -> Mapping[str, Any]:
        """The network's inputs for a condition and a size in latents."""
        return self._inputs(condition.to(self.device), height * self._factor, width * self._factor)

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, the reference answers, without gradient."""
        return self._denoiser.as_reference()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights being trained, sorted by name."""
        return self._denoiser.trainable()

    def reference_probe(self) -> str:
        """Digest of the reference's answer to a fixed question."""
        side = 2 * 2**self._halvings
        told = self._told(self._inputs.question(), side, side)
        return self._denoiser.probe(self._channels, side, told)

    def state(self) -> dict[str, Tensor]:
        """The trained weights; they share memory with the model."""
        return self._denoiser.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put trained weights back; StateError when names or shapes differ."""
        self._denoiser.load_state(tensors)

    def export(self, folder: Path) -> list[Path]:
        """Write adapter weights, or without adapters the whole pipeline, for plain diffusers.

        The folder appears whole or not at all, with a manifest. An earlier export is replaced.

        Raises:
            StateError: when the folder exists and is not an earlier export, or the disk refuses.
        """
        with new_folder(folder, replace=(folder / MANIFEST).is_file()) as space, quiet():
            if self._policy.adapted:
                save_adapters(self._policy.network, space)
            else:
                self._save_pipeline(space)
        return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)

    def _save_pipeline(self, space: Path) -> None:
        """The trained UNet with the base folder's other parts, which were not changed."""
        self._policy.network.save_pretrained(space / "unet", safe_serialization=True)
        for name in self._parts.keys() - {"unet"}:
            self._parts[name].copy(space / name)
        kept = {name: self._folder.index[name] for name in self._parts}
        notes = {k: v for k, v in self._folder.index.items() if k.startswith("_")}
        rules = _rules(self._family, self._folder)
        write_json(space / INDEX, {**notes, **kept, **rules, **self._family.unread})

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
            self._autoencoder = None
        if "text_encoder" in parts:
            self._text = None


def digests_of(family: Family, folder: Folder, parts: Mapping[str, Part]) -> dict[str, str]:
    """SHA-256 of each part of a folder, and of its rules where it has any."""
    found = {name: part.digest for name, part in parts.items()}
    rules = _rules(family, folder)
    # Named after the encoders, because what they say of a prompt depends on the rules.
    return {**found, "text_encoder_rules": digest_json(rules)} if rules else found


def _rules(family: Family, folder: Folder) -> dict[str, Any]:
    """The family's rules as a folder's index has them."""
    return {name: folder.index.get(name, usual) for name, usual in family.rules.items()}


def _digest_of(weights: Path | Mixture) -> str:
    """Digest of the denoiser's trained files, whatever else is in their folder."""
    if isinstance(weights, Mixture):
        return digest_json([[_digest_of(path), share] for path, share in weights.parts])
    unet = weights / "unet"
    folder = unet if unet.is_dir() else weights
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
