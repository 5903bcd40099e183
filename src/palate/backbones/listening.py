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

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from palate.backbones.around import Around
from palate.backbones.backbone import Backbone, Condition
from palate.core.files import digest_json, digest_tensors
from palate.core.problems import SettingError, require


@final
class Listening(Around):
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
        super().__init__(backbone)
        self._strength = float(strength)
        self._user = user.detach().float().cpu()

    @property
    def applied(self) -> str | None:
        """Digest of what was trained, whoever is listened to, and how strongly."""
        told = {"user": digest_tensors({"user": self._user}), "strength": self._strength}
        return digest_json([self._inner.applied, told])

    def embed(self, prompts: Sequence[str]) -> Condition:
        """What the network needs to know of the prompts, each for the user; the empty for nobody.

        A picture drawn for the empty prompt itself is the base model's.
        """
        told = self._inner.embed(prompts)
        some = next(iter(told.tensors.values()))
        said = torch.tensor([bool(prompt) for prompt in prompts])[:, None, None]
        return told.with_user((said * self._user).to(some.device))

    def predict(
        self,
        noisy: Float[Tensor, " b c y x"],
        level: Shaped[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b c y x"]:
        """What the model says for the user; at other strengths, from nobody's answer on."""
        found = self._inner.predict(noisy, level, condition)
        user = condition.user
        if self._strength == 1.0 or user is None:
            return found
        rows = user.ne(0).flatten(1).any(dim=1).nonzero().squeeze(1)
        if len(rows):
            here, at = rows.to(noisy.device), rows.to(level.device)
            alone = condition.with_user(None).rows(rows)
            nobody = self._inner.predict(noisy[here], level[at], alone)
            rows = rows.to(found.device)
            # A copy, so that the model's own answer keeps its gradient.
            found = found.index_copy(0, rows, nobody + self._strength * (found[rows] - nobody))
        return found
