"""A model around another one: it answers as that one does, but for what it says itself.

Read next: `listening.py` and `opposed.py`, which say something themselves.
"""

from abc import ABC
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from palate.backbones.backbone import Adapter, Backbone, Condition, Personal, Precision
from palate.core.path import Path as NoisePath


class Around(ABC):  # noqa: B024 - nothing is left open; it is only not meant to be used alone
    """A `Backbone` that hands every question on.

    Args:
        inner: Whom to ask.
    """

    def __init__(self, inner: Backbone) -> None:
        self._inner = inner

    @property
    def kind(self) -> str:
        """The family."""
        return self._inner.kind

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self._inner.device

    @property
    def precision(self) -> Precision:
        """What the denoising network computes in."""
        return self._inner.precision

    @property
    def resolution(self) -> int:
        """The side of the pictures it was made for, in pixels."""
        return self._inner.resolution

    @property
    def adapter(self) -> Adapter | None:
        """The model's adapters."""
        return self._inner.adapter

    @property
    def personal(self) -> Personal | None:
        """The model's attention to users."""
        return self._inner.personal

    @property
    def path(self) -> NoisePath:
        """Noise levels and kind of prediction."""
        return self._inner.path

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the base model."""
        return self._inner.digests

    @property
    def applied(self) -> str | None:
        """Digest of what was trained."""
        return self._inner.applied

    @property
    def scheduler_config(self) -> Mapping[str, object]:
        """The scheduler's configuration."""
        return self._inner.scheduler_config

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of a picture's latents; sizes in pixels."""
        return self._inner.latent_shape(height, width)

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the pictures' scaled latents."""
        return self._inner.encode(images)

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that scaled latents stand for."""
        return self._inner.decode(latents)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the network needs to know of the prompts."""
        return self._inner.embed(prompts)

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt, and how many are read."""
        return self._inner.token_counts(prompts)

    def predict(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b c y x"]:
        """What the present speaker predicts."""
        return self._inner.predict(noisy, level, condition)

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, the reference answers, without gradient."""
        return self._inner.as_reference()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights being trained."""
        return self._inner.trainable()

    def reference_probe(self) -> str:
        """Digest of the reference's answer to a fixed question."""
        return self._inner.reference_probe()

    def state(self) -> dict[str, Tensor]:
        """The trained weights."""
        return self._inner.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put trained weights back."""
        self._inner.load_state(tensors)

    def export(self, folder: Path) -> list[Path]:
        """Write what was trained."""
        return self._inner.export(folder)

    def release(self, *parts: str) -> None:
        """Forget parts that are no longer needed."""
        self._inner.release(*parts)
