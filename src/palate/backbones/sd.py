"""Stable Diffusion 1.x and 2.x: one UNet, one CLIP text encoder, predicting noise or velocity.

Which of the two it predicts, and on which noise schedule, stands in the folder's scheduler
configuration. Text encoder and autoencoder are never trained and compute in float32.

Read next: `folder.py`, what a model folder must hold; `lora.py`, training a few weights of it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from palate.backbones.autoencoder import Autoencoder, latent_shape
from palate.backbones.backbone import Adapter, Condition, Precision
from palate.backbones.denoiser import Denoiser
from palate.backbones.folder import INDEX, Folder, Part
from palate.backbones.lora import save_adapters
from palate.backbones.parts import load_network, quiet, refusing
from palate.backbones.policy import Policy, open_policy
from palate.core.files import MANIFEST, digest_file, digest_json, new_folder, write_json
from palate.core.path import PREDICTIONS
from palate.core.path import Path as NoisePath
from palate.core.problems import StateError, WeightsError, require
from palate.core.streams import Streams

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
PARTS = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": SCHEDULERS,
}

Held = TypeVar("Held")


@final
class TextEncoder:
    """CLIP's text side: prompts to one vector per token."""

    def __init__(self, tokenizer: CLIPTokenizer, network: CLIPTextModel) -> None:
        self._tokenizer, self._network = tokenizer, network
        self._tokens = min(tokenizer.model_max_length, network.config.max_position_embeddings)

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt with its start and end, and how many the encoder reads."""
        # Not verbose: the tokenizer would itself warn of prompts that are too long, only once.
        found = self._tokenizer(list(prompts), truncation=False, verbose=False)
        return [len(tokens) for tokens in found["input_ids"]], self._tokens

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, " b tokens width"]:
        """Embed prompts; words beyond the encoder's length are cut off, as diffusers does."""
        tokens = self._tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self._tokens,
            truncation=True,
            return_tensors="pt",
        )
        mask = None
        # Written by some folders of the 2.x line: padding must then be told apart.
        if self._network.config.to_dict().get("use_attention_mask"):
            mask = tokens.attention_mask.to(self._network.device)
        with torch.no_grad(), torch.autocast(self._network.device.type, enabled=False):
            return self._network(
                tokens.input_ids.to(self._network.device), attention_mask=mask
            ).last_hidden_state


@final
class StableDiffusion:
    """A Stable Diffusion 1.x or 2.x folder, as a `Backbone`."""

    kind: str = "sd"

    def __init__(
        self,
        folder: Folder,
        parts: Mapping[str, Part],
        policy: Policy,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        text: TextEncoder,
        path: NoisePath,
        adapter: Adapter | None,
        applied: str | None = None,
    ) -> None:
        settings = policy.network.config
        self._folder, self._parts = folder, parts
        self._policy, self._denoiser = policy, denoiser
        self._autoencoder: Autoencoder | None = autoencoder
        self._text: TextEncoder | None = text
        self._channels = int(settings["in_channels"])
        self._factor = autoencoder.factor
        self._halvings = len(settings["block_out_channels"]) - 1
        self._width = int(settings["cross_attention_dim"])
        self.device = denoiser.device
        self.precision: Precision = denoiser.precision
        self.adapter = adapter
        self.applied = applied
        self.resolution = int(settings["sample_size"]) * self._factor
        self.path = path

    @classmethod
    def load(
        cls,
        folder: Folder,
        *,
        adapter: Adapter | None,
        train: bool,
        device: torch.device,
        precision: Precision,
        gradient_checkpointing: bool,
        weights: Path | None,
    ) -> "StableDiffusion":
        """Load a folder for sampling or training. Called by `palate.backbones.load`."""
        parts = folder.parts(PARTS)
        path = noise_path(parts["scheduler"])
        policy = open_policy(
            parts["unet"], adapter=adapter, train=train, device=device, weights=weights
        )
        if gradient_checkpointing:
            policy.network.enable_gradient_checkpointing()
        vae = load_network(AutoencoderKL, parts["vae"], device)
        text = load_network(CLIPTextModel, parts["text_encoder"], device)
        with refusing(parts["tokenizer"]):
            tokenizer = CLIPTokenizer.from_pretrained(
                parts["tokenizer"].folder, local_files_only=True
            )
        return cls(
            folder,
            parts,
            policy,
            Denoiser(policy.network, policy.reference, precision),
            Autoencoder(vae),
            TextEncoder(tokenizer, text),
            path,
            adapter,
            None if weights is None else _digest_of(weights),
        )

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the base model, computed at first use."""
        return {name: part.digest for name, part in self._parts.items()}

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
        """One vector per token of each prompt."""
        return Condition({"text": _held(self._text, "text_encoder")(prompts)})

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
        text = condition.tensors["text"].to(self.device)
        return self._denoiser(noisy, level, {"encoder_hidden_states": text})

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, the reference answers, without gradient."""
        return self._denoiser.as_reference()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights being trained, sorted by name."""
        return self._denoiser.trainable()

    def reference_probe(self) -> str:
        """Digest of the reference's answer to a fixed question."""
        text = Streams(0)("reference probe text").normal((2, 8, self._width)).to(self.device)
        side = 2 * 2**self._halvings
        return self._denoiser.probe(self._channels, side, {"encoder_hidden_states": text})

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
        for name in PARTS.keys() - {"unet"}:
            self._parts[name].copy(space / name)
        kept = {name: self._folder.index[name] for name in PARTS}
        absent = {n: [None, None] for n in ("safety_checker", "feature_extractor", "image_encoder")}
        notes = {k: v for k, v in self._folder.index.items() if k.startswith("_")}
        write_json(space / INDEX, {**notes, **kept, **absent, "requires_safety_checker": False})

    def release(self, *parts: str) -> None:
        """Forget `vae` or `text_encoder`."""
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


def noise_path(part: Part) -> NoisePath:
    """Noise levels and kind of prediction of a scheduler's configuration.

    Raises:
        WeightsError: when the configuration does not describe such a path.
    """
    prediction = part.settings.get("prediction_type", "epsilon")
    require(
        prediction in PREDICTIONS,
        got=f"{part.folder}: prediction_type {prediction!r}",
        need=f"one of {', '.join(PREDICTIONS)}",
        fix="Correct the scheduler's configuration.",
        kind=WeightsError,
    )
    with refusing(part):
        scheduler: Any = DDPMScheduler.from_config(dict(part.settings))
        return NoisePath.from_alphas_cumprod(scheduler.alphas_cumprod, prediction)


def _digest_of(weights: Path) -> str:
    """Digest of the denoiser's trained files, whatever else is in their folder."""
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
