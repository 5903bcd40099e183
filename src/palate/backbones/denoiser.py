"""A denoising network and the reference behind it: the part every family shares.

Who the reference is, is a value: the network itself while nothing is trained, the network with
its adapters off, or a frozen copy. Policy and reference take the same numeric path, so before the
first step their answers are equal bit for bit.

Read next: `lora.py`, the reference that costs no second network.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from palate.backbones.backbone import Precision
from palate.core.files import digest_tensors
from palate.core.problems import StateError, require
from palate.core.streams import Streams

COMPUTE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Reference(Protocol):
    """How the reference speaks."""

    def __call__(self) -> AbstractContextManager[nn.Module]:
        """Inside, the network given is the reference."""
        ...


@final
class Untouched:
    """Nothing is trained and nothing was loaded on top: the policy is the reference."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    @contextmanager
    def __call__(self) -> Iterator[nn.Module]:
        """The network as it is."""
        yield self._network


@final
class FrozenCopy:
    """A second network that is never trained, made when it is first needed."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make
        self._network: nn.Module | None = None

    @classmethod
    def of(cls, network: nn.Module) -> "FrozenCopy":
        """A copy of a network as it is now."""
        frozen = copy.deepcopy(network).requires_grad_(False).eval()
        return cls(lambda: frozen)

    @contextmanager
    def __call__(self) -> Iterator[nn.Module]:
        """The frozen copy."""
        if self._network is None:
            self._network = self._make()
        yield self._network


@final
class Denoiser:
    """A network that predicts, as policy or as reference, in a chosen precision.

    Args:
        network: The policy.
        reference: How the reference speaks.
        precision: What it computes in; the weights stay float32.
        called: What the network calls noisy latents and their level; the rest comes by name.
    """

    def __init__(
        self,
        network: nn.Module,
        reference: Reference,
        precision: Precision,
        called: tuple[str, str] = ("sample", "timestep"),
    ) -> None:
        self._called = called
        self.network = network
        self.device = next(network.parameters()).device
        self.precision: Precision = precision
        self._reference = reference
        self._speaker = network

    def __call__(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        inputs: Mapping[str, Any],
    ) -> Float[Tensor, " b c y x"]:
        """What the present speaker predicts, in float32."""
        # Without a cache of cast weights: one filled under no_grad would cut the policy's gradient.
        with torch.autocast(
            self.device.type,
            dtype=COMPUTE[self.precision],
            enabled=self.precision != "fp32",
            cache_enabled=False,
        ):
            asked = (noisy.to(self.device), level.to(self.device))
            named = dict(zip(self._called, asked, strict=True))
            answer = self._speaker(**named, **inputs, return_dict=False)[0]
        return answer.float()

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Inside, the reference answers, without gradient. May be nested."""
        before = self._speaker
        with self._reference() as network, torch.no_grad():
            self._speaker = network
            try:
                yield
            finally:
                self._speaker = before

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights that take gradients, sorted by name."""
        return {n: p for n, p in sorted(self.network.named_parameters()) if p.requires_grad}

    def probe(
        self, channels: int, side: int, level: Shaped[Tensor, " 2"], inputs: Mapping[str, Any]
    ) -> str:
        """Digest of the reference's answer to noise that is always the same.

        Args:
            channels: Latent channels.
            side: Latent side; small is enough.
            level: Two levels, in the network's own time.
            inputs: The condition's tensors for two rows.
        """
        noisy = Streams(0)("reference probe").normal((2, channels, side, side))
        with self.as_reference():
            return digest_tensors({"answer": self(noisy, level, inputs)})

    def state(self) -> dict[str, Tensor]:
        """The trained weights, sharing memory with the network."""
        return {name: value.detach() for name, value in self.trainable().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put trained weights back.

        Raises:
            StateError: when names or shapes differ.
        """
        mine = self.trainable()
        wrong = sorted(set(mine) ^ set(tensors)) or sorted(
            name for name, value in mine.items() if value.shape != tensors[name].shape
        )
        require(
            not wrong,
            got=f"weights with {len(wrong)} other names or shapes, such as {', '.join(wrong[:3])}",
            need=f"the {len(mine)} weights this model trains",
            fix="Load the model with the settings (rank, targets) the weights were saved with.",
            kind=StateError,
        )
        with torch.no_grad():
            for name, value in mine.items():
                value.copy_(tensors[name])
