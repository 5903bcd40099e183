"""Two models as one: the empty prompt is answered by a model of what people reject.

Classifier-free guidance goes from what the network says without a prompt to what it says with
one. Diffusion-NPO (Wang et al., 2025, arXiv:2505.11245) lets another network stand in for the
first half, trained on the pairs with winner and loser exchanged:

    negative(x, no prompt) + guidance · (positive(x, prompt) − negative(x, no prompt))

Which rows are the empty prompt travels with them as a tensor of the condition, so whoever asks
for guidance asks as ever. Without guidance the negative model is never asked.

Read next: `guidance.py`, the formula; `mixture.py`, what the negative model is made of.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from palate.backbones.backbone import Adapter, Backbone, Condition, Personal, Precision
from palate.backbones.folder import network_of
from palate.core.files import digest_json
from palate.core.path import Path as NoisePath
from palate.core.problems import SettingError, require

_EMPTY = "empty"


@final
class Opposed:
    """A model to draw with, and one to guide away from, as one `Backbone`.

    Args:
        positive: Answers prompts, encodes and decodes.
        negative: Answers the empty prompt; nothing else is asked of it.

    Raises:
        SettingError: when the two do not speak of the same latents, noise and prompts.
    """

    def __init__(self, positive: Backbone, negative: Backbone) -> None:
        self._network = network_of(positive.digests)
        different = [
            name for name in sorted({*positive.digests, *negative.digests} - {self._network})
            if positive.digests.get(name) != negative.digests.get(name)
        ]  # fmt: skip
        require(
            not different,
            got=f"a positive and a negative model with another {', '.join(different)}",
            need="two trainings of one model: they share everything but the denoising network",
            fix="Train the negative model from the model that is drawn with.",
            kind=SettingError,
        )
        self._positive, self._negative = positive, negative
        # Only the network of the negative model is asked.
        negative.release("vae", "text_encoder")

    @property
    def kind(self) -> str:
        """The family of both."""
        return self._positive.kind

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self._positive.device

    @property
    def precision(self) -> Precision:
        """What the positive model computes in."""
        return self._positive.precision

    @property
    def resolution(self) -> int:
        """The side of the pictures it was made for, in pixels."""
        return self._positive.resolution

    @property
    def adapter(self) -> Adapter | None:
        """None: two models at once are not trained."""
        return None

    @property
    def personal(self) -> Personal | None:
        """The positive model's attention to users, if it has any."""
        return self._positive.personal

    @property
    def path(self) -> NoisePath:
        """Noise levels and kind of prediction."""
        return self._positive.path

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the positive model's base, and of the negative one's network."""
        name = self._network
        return {**self._positive.digests, f"negative {name}": self._negative.digests[name]}

    @property
    def applied(self) -> str | None:
        """Digest of what was trained on both."""
        return digest_json([self._positive.applied, self._negative.applied])

    @property
    def scheduler_config(self) -> Mapping[str, object]:
        """The scheduler's configuration."""
        return self._positive.scheduler_config

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of a picture's latents; sizes in pixels."""
        return self._positive.latent_shape(height, width)

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the pictures' scaled latents."""
        return self._positive.encode(images)

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that scaled latents stand for."""
        return self._positive.decode(latents)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the networks need to know of the prompts, and which of them are empty.

        A picture drawn for the empty prompt itself is the negative model's.
        """
        told = self._positive.embed(prompts)
        empty = torch.tensor([not prompt for prompt in prompts])
        some = next(iter(told.tensors.values()))
        return Condition({**told.tensors, _EMPTY: empty.to(some.device)})

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt, and how many are read."""
        return self._positive.token_counts(prompts)

    def predict(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b c y x"]:
        """Each row by the model it is for."""
        empty = condition.tensors[_EMPTY].cpu()
        told = Condition({n: t for n, t in condition.tensors.items() if n != _EMPTY})
        rows = {self._negative: empty.nonzero(), self._positive: (~empty).nonzero()}
        answers = torch.empty(noisy.shape, dtype=torch.float32, device=self.device)
        for model, found in rows.items():
            index = found.squeeze(1).to(noisy.device)
            if len(index):
                said = model.predict(noisy[index], level[index.to(level.device)], told.rows(index))
                answers[index.to(answers.device)] = said.to(answers)
        return answers

    @contextmanager
    def _references(self) -> Iterator[None]:
        with ExitStack() as stack:
            for model in (self._positive, self._negative):
                stack.enter_context(model.as_reference())
            yield

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, both answer as what they were trained from."""
        return self._references()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Nothing: two models at once are not trained."""
        return {}

    def reference_probe(self) -> str:
        """Digest of both references' answers to a fixed question."""
        return digest_json([m.reference_probe() for m in (self._positive, self._negative)])

    def state(self) -> dict[str, Tensor]:
        """Nothing: nothing is trained."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Refused, because nothing is trained."""
        raise _drawn_only(f"{len(tensors)} trained weights")

    def export(self, folder: Path) -> list[Path]:
        """Refused: plain diffusers has no pipeline of two denoising networks."""
        raise _drawn_only(f"an export to {folder}")

    def release(self, *parts: str) -> None:
        """Forget parts of the positive model."""
        self._positive.release(*parts)


def _drawn_only(what: str) -> SettingError:
    return SettingError(
        got=f"{what}, for a model that is guided away from another one",
        need="one model at a time",
        fix="Train and export the positive and the negative model each by themselves.",
    )
