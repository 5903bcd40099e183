r"""SDPO: a safeguard for other objectives, so that the chosen image is not sacrificed.

$$\lambda = \min\Bigl(1,\ (1-\mu)\,\frac{\lVert g_w\rVert^2}{\langle g_w, g_l\rangle}\Bigr)
\ \text{where}\ \langle g_w, g_l\rangle > 0,\ \text{else}\ 1,
\qquad g = \epsilon_\theta - \epsilon$$

The value is that of the base objective. Only the gradient through the rejected prediction is
multiplied by λ, so that to first order, in the space of predictions, a step down does not make
the chosen prediction worse.

Read next: `dpo.py`, `dmpo.py` and `dspo.py`, the objectives it can safeguard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Contrast, Denoised, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.dmpo import DMPO
from palate.objectives.dpo import DPO
from palate.objectives.dspo import DSPO
from palate.objectives.limits import one_of, positive, predicted, within

BASES: Mapping[str, type[DPO] | type[DMPO] | type[DSPO]] = MappingProxyType(
    {kind.name: kind for kind in (DPO, DMPO, DSPO)}
)
RANGES = ("pair", "batch")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SDPO(Objective):
    """Diffusion-SDPO (Fu et al., 2025): a base objective with a safeguarded loser gradient.

    Attributes:
        base: The objective whose value it has: `dpo`, `dmpo` or `dspo`.
        beta: The β of the base, by its own convention; its own default where none is given.
            Published with the safeguard: 5000 (dpo), 2000 and 6000 (dmpo), 0.001 (dspo).
        slack: How much of the chosen image's progress is kept from the loser's pull: μ.
            Published: 0.9 for dpo and dmpo and 0.2 for dspo on SD 1.5, 0.6 on SDXL.
        per: One λ per `pair`, or one for all pairs of the optimizer step (`batch`). The released
            code has one for each micro-batch.
    """

    base: Literal["dpo", "dmpo", "dspo"] = "dpo"
    beta: float | None = None
    slack: float = 0.9
    per: Literal["pair", "batch"] = "pair"

    name: ClassVar[str] = "sdpo"
    title: ClassVar[str] = "Diffusion-SDPO"
    paper: ClassVar[str] = "arXiv:2511.03317"
    year: ClassVar[int] = 2025
    needs: ClassVar[Needs] = Needs(
        reference=True, evidence=("noised", "inverted"), predictions=True, shared_noise=True
    )

    def __post_init__(self) -> None:
        one_of("base", self.base, BASES)
        one_of("per", self.per, RANGES)
        within("slack", self.slack, 0.0, 1.0, "Use 0.9 on SD 1.5 or 0.6 on SDXL.")
        if self.beta is not None:
            positive("beta", self.beta, f"Leave it out for the default of {self.base}.")

    @property
    def whole_batch(self) -> bool:
        """One λ for the whole step is a statistic of it."""
        return self.per == "batch"

    @property
    def judge(self) -> DPO | DMPO | DSPO:
        """The objective that is safeguarded."""
        kind = BASES[self.base]
        return kind() if self.beta is None else kind(beta=self.beta)

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score as the base does, with the rejected side's gradient held back."""
        chosen, rejected = predicted(pairs.chosen), predicted(pairs.rejected)
        share = self.share(chosen, rejected, pairs)
        held = replace(rejected, prediction=held_back(rejected.prediction, share))
        verdict = self.judge(replace(pairs, rejected=held))
        return Verdict(verdict.loss, {**verdict.extras, "safeguard": share})

    @torch.no_grad()
    def share(self, chosen: Denoised, rejected: Denoised, pairs: Contrast) -> Float[Tensor, " b"]:
        """How much of the rejected side's gradient each pair keeps: λ, [b]."""
        win, lose = _residual(chosen), _residual(rejected)
        along, size = (win * lose).sum(1), win.square().sum(1)
        if self.per == "batch":
            along, size = (pairs.mean(part).expand_as(part) for part in (along, size))
        limit = (1 - self.slack) * size / along.clamp_min(torch.finfo(along.dtype).tiny)
        return torch.where(along > 0, limit.clamp(max=1.0), torch.ones_like(limit))

    def at_init(self) -> float | None:
        """Where the base starts."""
        return self.judge.at_init()


def held_back(prediction: Tensor, share: Float[Tensor, " b"]) -> Tensor:
    """The same values, with a gradient multiplied by a share per row, [b, …]."""
    still = prediction.detach()
    part = share.to(prediction.dtype).reshape(-1, *[1] * (prediction.ndim - 1))
    return still + part * (prediction - still)


def _residual(side: Denoised) -> Tensor:
    """What the prediction is off by, [b, elements], in float32 at least."""
    wide = torch.promote_types(side.target.dtype, torch.float32)
    return (side.prediction.to(wide) - side.target.to(wide)).flatten(1)
