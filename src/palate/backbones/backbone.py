"""What can be asked of a denoising model, whatever its family.

A `Backbone` is a network plus its noise path, with an autoencoder and a text encoder around it.
It speaks with one of two voices: the policy, which is being trained, and inside `as_reference()`
the model it started from. Nothing else in the project knows which family it is talking to.

Read next: `latent.py`, the one implementation; `lora.py`, adapters whose absence is the reference.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, final, get_args

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn

from palate.core.path import Path as NoisePath
from palate.core.problems import require, unknown

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Initialisation = Literal["gaussian", "uniform"]
INITIALISATIONS: tuple[str, ...] = get_args(Initialisation)
ATTENTION = ("to_k", "to_out.0", "to_q", "to_v")
_SIZES, _USER = "sizes", "user"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a picture went through before the network saw it; all in pixels.

    Models that were taught it (micro-conditioning, arXiv:2307.01952) tell a blurred enlargement
    from a sharp picture, and a cropped subject from a whole one.

    Attributes:
        original: Height and width before resizing.
        crop: Top and left edge of the window that was cut, in the resized picture.
        target: Height and width of what was cut.
    """

    original: tuple[int, int]
    crop: tuple[int, int]
    target: tuple[int, int]

    COUNT: ClassVar[int] = 6

    @classmethod
    def whole(cls, height: int, width: int) -> "Sizes":
        """A picture that was neither resized nor cropped."""
        return cls(original=(height, width), crop=(0, 0), target=(height, width))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The six numbers in the order networks are told them."""
        return (*self.original, *self.crop, *self.target)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a batch is conditioned on: named tensors, each [b, ...].

    Attributes:
        tensors: `text`, [b, tokens, width]; for larger models also `pooled`, [b, width]. Where
            the pictures are known, `sizes`, [b, 6], as `Sizes.numbers`; models that were not
            taught sizes ignore them. Where it is for somebody, `user`, [b, tokens, width].
    """

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        sizes = {name: tensor.shape[0] for name, tensor in self.tensors.items()}
        require(
            len(set(sizes.values())) == 1,
            got=f"a condition with rows {sizes}",
            need="at least one tensor, and the same number of rows in each",
            fix="Build conditions with `Backbone.embed`, `rows` and `concatenate`.",
        )

    def __len__(self) -> int:
        return int(next(iter(self.tensors.values())).shape[0])

    @property
    def sizes(self) -> Int[Tensor, " b 6"] | None:
        """What the pictures went through, one row of `Sizes.numbers` each; None if not known."""
        return self.tensors.get(_SIZES)

    def with_sizes(self, sizes: Int[Tensor, " b 6"] | None) -> "Condition":
        """The same prompts for pictures of these sizes; None for pictures nothing is known of."""
        rest = {name: tensor for name, tensor in self.tensors.items() if name != _SIZES}
        require(
            sizes is None or (sizes.ndim == 2 and sizes.shape[1] == Sizes.COUNT),
            got=f"sizes of shape {None if sizes is None else tuple(sizes.shape)}",
            need=f"one row of {Sizes.COUNT} numbers per picture",
            fix="Make them with `Sizes.numbers`.",
        )
        return Condition(rest if sizes is None else {**rest, _SIZES: sizes})

    @property
    def user(self) -> Float[Tensor, " b tokens width"] | None:
        """Whom each row is for; zeros are nobody. None where nobody was ever meant."""
        return self.tensors.get(_USER)

    def with_user(self, user: Float[Tensor, " b tokens width"] | None) -> "Condition":
        """The same prompts for these users, one embedding per row; None for nobody at all.

        Raises:
            SettingError: when there is not one embedding, [tokens, width], for each row.
        """
        rest = {name: tensor for name, tensor in self.tensors.items() if name != _USER}
        require(
            user is None or (user.ndim == 3 and len(user) == len(self)),
            got=f"user embeddings of shape {None if user is None else tuple(user.shape)}",
            need=f"[tokens, width] for each of {len(self)} rows",
            fix="Stack one embedding per row; zeros stand for nobody.",
        )
        return Condition(rest if user is None else {**rest, _USER: user})

    def rows(self, index: Tensor | Sequence[int]) -> "Condition":
        """The rows of the given numbers, in their order; a number may repeat."""
        chosen = torch.as_tensor(index, dtype=torch.long)
        return Condition({name: t[chosen.to(t.device)] for name, t in self.tensors.items()})

    def repeat(self, times: int) -> "Condition":
        """The whole batch several times, one after another: [a, b] becomes [a, b, a, b]."""
        return Condition.concatenate([self] * times)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Condition":
        """The same condition elsewhere, or in another floating type."""
        return Condition(
            {
                name: t.to(device=device, dtype=dtype if t.is_floating_point() else None)
                for name, t in self.tensors.items()
            }
        )

    @staticmethod
    def concatenate(parts: Sequence["Condition"]) -> "Condition":
        """Several conditions of one kind as one batch."""
        names = [sorted(part.tensors) for part in parts]
        require(
            bool(names) and all(name == names[0] for name in names),
            got=f"conditions with tensors {names}",
            need="one or more conditions of the same backbone",
            fix="Do not mix conditions of different models.",
        )
        return Condition({n: torch.cat([part.tensors[n] for part in parts]) for n in names[0]})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Low-rank adapters (LoRA, arXiv:2106.09685), in the forms whose absence is the base model.

    Trainable biases, whole saved modules and initialisations that rewrite the base (PiSSA, OLoRA)
    cannot be said here: with them, switching the adapters off would no longer give the reference.
    The up-projection starts at zero, so before the first step the policy is the reference.

    Attributes:
        rank: Width of the bottleneck.
        alpha: Scale of the adapter's answer is alpha / rank. None means equal to the rank.
        targets: Names of layers to adapt, as they end in the network (`to_q`, `conv1`), or of
            containers (`ff.net`), whose linear and convolution layers are all adapted.
        init: Down-projection: `gaussian` has standard deviation 1 / rank, `uniform` is that of
            a fresh linear layer.
        dora: Learn the length of each weight column apart (DoRA, arXiv:2402.09353).
        dropout: Must be 0 for now.
        seed: Names the random stream of the down-projections.
    """

    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = ATTENTION
    init: Initialisation = "gaussian"
    dora: bool = False
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.rank >= 1,
            got=f"adapter rank {self.rank}",
            need="a rank of at least 1",
            fix="Use 8; 4 to 64 are common.",
        )
        require(
            self.alpha is None or 0 < self.alpha < float("inf"),
            got=f"adapter alpha {self.alpha}",
            need="alpha > 0, or none for alpha = rank",
            fix="Leave alpha out, or use the rank or twice the rank.",
        )
        require(
            bool(self.targets) and all(self.targets),
            got=f"adapter targets {self.targets}",
            need="at least one layer name",
            fix=f"Use {', '.join(ATTENTION)}.",
        )
        if self.init not in INITIALISATIONS:
            raise unknown("adapter init", self.init, INITIALISATIONS)
        require(
            self.dropout == 0,
            got=f"adapter dropout {self.dropout}",
            need="dropout 0 (its draws are not keyed yet, so resuming would differ)",
            fix="Remove dropout; caption dropout and weight decay are there to regularise.",
        )

    @property
    def scale(self) -> float:
        """What the low-rank answer is multiplied with: alpha / rank."""
        return (self.rank if self.alpha is None else self.alpha) / self.rank


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Personal:
    """Attention to a user embedding beside every attention to text (PPD, arXiv:2501.06655).

    The new layers are all that is trained. What they answer starts at zero and is left out for
    rows that are for nobody, so that both before the first step and without a user the model is
    its base to the bit.

    Attributes:
        user_width: Width of one token of the user embeddings.
        tokens: The most tokens an embedding has.
        width: What one shared projection makes of a token's width, before each layer's keys and
            values. Straight from a vision-language model's 3,584 numbers, the keys and values of
            a large network would take 0.9 billion weights.
        seed: Names the random streams of the projection and the keys.
        about: Who makes the embeddings, in plain values; written beside the weights.
    """

    user_width: int
    tokens: int = 4
    width: int = 256
    seed: int = 0
    about: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        # As it comes back from a file, so that both are equal: tuples are lists there.
        object.__setattr__(self, "about", json.loads(json.dumps(dict(self.about))))
        sizes = {"user_width": self.user_width, "tokens": self.tokens, "width": self.width}
        for name, size in sizes.items():
            require(
                size >= 1,
                got=f"personal {name} {size}",
                need="a size of at least 1",
                fix="256 is a usual width of the shared projection.",
            )

    def check(self, user: Float[Tensor, " *rows tokens width"]) -> None:
        """Refuse embeddings of another form than the layers were made for.

        Raises:
            SettingError: with both forms.
        """
        require(
            user.ndim >= 2 and user.shape[-2] <= self.tokens and user.shape[-1] == self.user_width,
            got=f"user embeddings of shape {tuple(user.shape)}",
            need=f"at most {self.tokens} tokens of {self.user_width} numbers",
            fix="Make them with the encoder that the model was trained with.",
        )


class Backbone(Protocol):
    """A model that denoises, as policy or as reference.

    Inputs are moved to the model's device; answers stay there, in float32.
    """

    @property
    def kind(self) -> str:
        """The family, such as `sd`."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        ...

    @property
    def precision(self) -> Precision:
        """What the denoising network computes in. Weights being trained are float32."""
        ...

    @property
    def resolution(self) -> int:
        """The side of the pictures it was made for, in pixels."""
        ...

    @property
    def adapter(self) -> Adapter | None:
        """The low-rank adapters being trained, or None."""
        ...

    @property
    def personal(self) -> Personal | None:
        """Its attention to user embeddings, or None where it knows no users."""
        ...

    @property
    def path(self) -> NoisePath:
        """Noise levels and kind of prediction, from the scheduler's configuration."""
        ...

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the base model: unet, vae, scheduler, tokenizers and encoders."""
        ...

    @property
    def applied(self) -> str | None:
        """Digest of the files of trained weights that were put on the base, or None."""
        ...

    @property
    def scheduler_config(self) -> Mapping[str, object]:
        """The folder's scheduler configuration, with its class under `_class_name`."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture of this size in pixels.

        Raises:
            SettingError: when the size does not fit the autoencoder.
        """
        ...

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the pictures' latents, scaled as the network sees them."""
        ...

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that scaled latents stand for."""
        ...

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the network needs to know of the prompts, without sizes.

        The empty prompt is the unconditional one, as the family's own pipeline has it.
        """
        ...

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt, and how many are read; what is beyond is cut off."""
        ...

    def predict(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b c y x"]:
        """What the policy, or inside `as_reference()` the reference, predicts.

        A level in whole numbers is an index into `path`, as training names it; a floating one is
        the network's own time, as samplers name it. For many families they are the same numbers.
        """
        ...

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, `predict` speaks for the reference and takes no gradient."""
        ...

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights being trained, float32, sorted by name. Empty when not training."""
        ...

    def reference_probe(self) -> str:
        """Digest of the reference's answer to a fixed question: it must never change."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The trained weights, detached; they share memory with the model."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put trained weights back.

        Raises:
            StateError: when names or shapes differ from the model's.
        """
        ...

    def export(self, folder: Path) -> list[Path]:
        """Write what plain diffusers loads: adapter weights, or a whole pipeline folder."""
        ...

    def release(self, *parts: str) -> None:
        """Forget parts (`vae`, `text_encoder`) that are no longer needed, to free memory."""
        ...
