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
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from palate.backbones.around import Around
from palate.backbones.backbone import Adapter, Backbone, Condition
from palate.backbones.folder import network_of
from palate.core.files import digest_json
from palate.core.problems import SettingError, require

_EMPTY = "empty"


@final
class Opposed(Around):
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
        super().__init__(positive)
        self._negative = negative
        # Only the network of the negative model is asked.
        negative.release("vae", "text_encoder")

    @property
    def adapter(self) -> Adapter | None:
        """None: two models at once are not trained."""
        return None

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the positive model's base, and of the negative one's network."""
        name = self._network
        return {**self._inner.digests, f"negative {name}": self._negative.digests[name]}

    @property
    def applied(self) -> str | None:
        """Digest of what was trained on both."""
        return digest_json([self._inner.applied, self._negative.applied])

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the networks need to know of the prompts, and which of them are empty.

        A picture drawn for the empty prompt itself is the negative model's.
        """
        told = self._inner.embed(prompts)
        empty = torch.tensor([not prompt for prompt in prompts])
        some = next(iter(told.tensors.values()))
        return Condition({**told.tensors, _EMPTY: empty.to(some.device)})

    def predict(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b c y x"]:
        """Each row by the model it is for."""
        empty = condition.tensors[_EMPTY].cpu()
        told = Condition({n: t for n, t in condition.tensors.items() if n != _EMPTY})
        rows = {self._negative: empty.nonzero(), self._inner: (~empty).nonzero()}
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
            for model in (self._inner, self._negative):
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
        return digest_json([m.reference_probe() for m in (self._inner, self._negative)])

    def state(self) -> dict[str, Tensor]:
        """Nothing: nothing is trained."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Refused, because nothing is trained."""
        raise _drawn_only(f"{len(tensors)} trained weights")

    def export(self, folder: Path) -> list[Path]:
        """Refused: plain diffusers has no pipeline of two denoising networks."""
        raise _drawn_only(f"an export to {folder}")


def _drawn_only(what: str) -> SettingError:
    return SettingError(
        got=f"{what}, for a model that is guided away from another one",
        need="one model at a time",
        fix="Train and export the positive and the negative model each by themselves.",
    )
