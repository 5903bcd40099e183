r"""A model that draws for somebody: every prompt but the empty one comes with their embedding.

Guidance therefore goes from no prompt and nobody to the prompt and the user, as the model was
trained to be asked. How strongly it follows the user can be said apart from the prompt, as
InstructPix2Pix does for its two conditions (Brooks et al., 2023, arXiv:2211.09800, equation 3):

$$\tilde\epsilon = \epsilon(\varnothing, \varnothing)
+ g\,[\epsilon(c, \varnothing) - \epsilon(\varnothing, \varnothing)]
+ g_u\,[\epsilon(c, u) - \epsilon(c, \varnothing)]$$

What is done here is the second difference, times g_u / g; `guidance.py` does the rest. With
g_u = g it is not asked for separately.

Read next: `user_attention.py`, how the network hears a user; `opposed.py`, the other model of this
kind.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from palate.backbones.backbone import Adapter, Backbone, Condition, Personal, Precision
from palate.core.files import digest_json, digest_tensors
from palate.core.path import Path as NoisePath
from palate.core.problems import SettingError, require


@final
class Listening:
    """A personal model and a user, as one `Backbone`.

    Args:
        backbone: A model that was trained with users.
        user: The embedding, [tokens, width]; zeros are nobody, which is the base model.
        strength: How far to go from nobody's answer to the user's; 1 is as trained, 0 nobody.

    Raises:
        SettingError: when the model knows no users, the embedding does not fit it, or the
            strength is not a number of 0 to 100.
    """

    def __init__(
        self, backbone: Backbone, user: Float[Tensor, " tokens width"], *, strength: float = 1.0
    ) -> None:
        settings = backbone.personal
        if settings is None:
            raise SettingError(
                got="a user for a model that knows no users",
                need="a model that was trained with users",
                fix="Name the run or export of a personal training, or leave the user out.",
            )
        require(
            user.ndim == 2,
            got=f"a user embedding of shape {tuple(user.shape)}",
            need="one user: [tokens, width]",
            fix="Give the row of one person.",
        )
        settings.check(user)
        require(
            bool(torch.isfinite(user).all()) and 0 <= strength <= 100,
            got=f"strength {strength} of a user embedding with entries up to {user.abs().max():g}",
            need="finite numbers, and a strength of 0 to 100",
            fix="Use strength 1; make the embedding again if it is broken.",
        )
        self._backbone, self._strength = backbone, float(strength)
        self._user = user.detach().float().cpu()

    @property
    def kind(self) -> str:
        """The model's family."""
        return self._backbone.kind

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self._backbone.device

    @property
    def precision(self) -> Precision:
        """What the denoising network computes in."""
        return self._backbone.precision

    @property
    def resolution(self) -> int:
        """The side of the pictures it was made for, in pixels."""
        return self._backbone.resolution

    @property
    def adapter(self) -> Adapter | None:
        """The model's adapters."""
        return self._backbone.adapter

    @property
    def personal(self) -> Personal | None:
        """The model's attention to users."""
        return self._backbone.personal

    @property
    def path(self) -> NoisePath:
        """Noise levels and kind of prediction."""
        return self._backbone.path

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each part of the base model."""
        return self._backbone.digests

    @property
    def applied(self) -> str | None:
        """Digest of what was trained, whoever is listened to, and how strongly."""
        told = {"user": digest_tensors({"user": self._user}), "strength": self._strength}
        return digest_json([self._backbone.applied, told])

    @property
    def scheduler_config(self) -> Mapping[str, object]:
        """The scheduler's configuration."""
        return self._backbone.scheduler_config

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of a picture's latents; sizes in pixels."""
        return self._backbone.latent_shape(height, width)

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the pictures' scaled latents."""
        return self._backbone.encode(images)

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that scaled latents stand for."""
        return self._backbone.decode(latents)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the network needs to know of the prompts, each for the user; the empty for nobody.

        A picture drawn for the empty prompt itself is the base model's.
        """
        told = self._backbone.embed(prompts)
        some = next(iter(told.tensors.values()))
        said = torch.tensor([bool(prompt) for prompt in prompts])[:, None, None]
        return told.with_user((said * self._user).to(some.device))

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt, and how many are read."""
        return self._backbone.token_counts(prompts)

    def predict(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b c y x"]:
        """What the model says for the user; at other strengths, from nobody's answer on."""
        found = self._backbone.predict(noisy, level, condition)
        user = condition.user
        if self._strength == 1.0 or user is None:
            return found
        rows = user.ne(0).flatten(1).any(dim=1).nonzero().squeeze(1)
        if len(rows):
            here, at = rows.to(noisy.device), rows.to(level.device)
            alone = condition.with_user(None).rows(rows)
            nobody = self._backbone.predict(noisy[here], level[at], alone)
            rows = rows.to(found.device)
            # A copy, so that the model's own answer keeps its gradient.
            found = found.index_copy(0, rows, nobody + self._strength * (found[rows] - nobody))
        return found

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, the base answers, whoever is listened to."""
        return self._backbone.as_reference()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights being trained."""
        return self._backbone.trainable()

    def reference_probe(self) -> str:
        """Digest of the reference's answer to a fixed question."""
        return self._backbone.reference_probe()

    def state(self) -> dict[str, Tensor]:
        """The trained weights."""
        return self._backbone.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put trained weights back."""
        self._backbone.load_state(tensors)

    def export(self, folder: Path) -> list[Path]:
        """Write what was trained; the user is not part of it."""
        return self._backbone.export(folder)

    def release(self, *parts: str) -> None:
        """Forget parts that are no longer needed."""
        self._backbone.release(*parts)
