r"""SEE-DPO: the policy's own entropy is paid for as well, which flattens what it aims at.

$$\ell = -\log\sigma(z), \qquad z = \tfrac{\beta}{2}\,\text{margin}
+ \tfrac{\gamma}{2}\,(e_\text{rejected} - e_\text{chosen})$$

With e the policy's errors. The optimum is proportional to p_ref^{β/(β+γ)} · exp(r/(β+γ)): the
reference flattened. On steps of a sampler the same line reads β · (difference of log-ratios)
+ γ · (difference of the policy's log-probabilities).

Read next: `dpo.py`, which it is at γ = 0, bit for bit.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from palate.core.contrast import Branch, Contrast, Verdict
from palate.core.problems import require
from palate.objectives.base import Needs, Objective
from palate.objectives.clipping import clipped_pairs
from palate.objectives.limits import one_of, positive, within
from palate.objectives.logistic import soft_label_loss

UNITS = ("relative", "absolute")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SEEDPO(Objective):
    """Self-entropy enhanced DPO (2024); RECONSTRUCTED from the abstract's entropy bonus.

    Attributes:
        beta: How tightly the reference holds the policy, as in the method it is added to.
        gamma: How much entropy is worth. No published value was found; 0.1, relative, is ours.
        gamma_mode: Whether gamma is a share of beta (`relative`) or stands beside it
            (`absolute`). Which one the paper means is not known.
        clip: On steps only: hold the ratio of policy to reference within 1 ± clip, and take the
            entropy from the clipped policy, so that the clip still stops the gradient.
    """

    beta: float = 2000.0
    gamma: float = 0.1
    gamma_mode: Literal["relative", "absolute"] = "relative"
    clip: float | None = None

    name: ClassVar[str] = "see-dpo"
    title: ClassVar[str] = "SEE-DPO"
    paper: ClassVar[str] = "arXiv:2411.04712"
    year: ClassVar[int] = 2024
    needs: ClassVar[Needs] = Needs(
        reference=True, evidence=("noised", "steps", "inverted"), steps_only=("clip",)
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000 for SD 1.5 or 5000 for SDXL.")
        require(
            self.gamma >= 0 and math.isfinite(self.gamma),
            got=f"gamma={self.gamma}",
            need="gamma >= 0",
            fix="Use 0.1 with gamma_mode=relative; 0 is the base method.",
        )
        one_of("gamma_mode", self.gamma_mode, UNITS)
        if self.clip is not None:
            within("clip", self.clip, 1e-6, 1.0, "Use 0.1, as D3PO and SPO do.")

    @property
    def entropy(self) -> float:
        """What entropy is worth, in the unit of beta."""
        return self.gamma * {"relative": self.beta, "absolute": 1.0}[self.gamma_mode]

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by its odds, re-centred by how hard its pictures are to explain."""
        held = pairs if self.clip is None else clipped_pairs(pairs, self.clip)
        rejected: Branch | None = held.rejected
        logit = 0.5 * self.beta * held.margin
        assert rejected is not None  # the margin has just read it
        logit = logit + 0.5 * self.entropy * (rejected.error - held.chosen.error)
        return Verdict(soft_label_loss(logit, held.agreement), {"logit": logit.detach()})

    def at_init(self) -> float | None:
        """A fair coin without entropy; with it, it depends on how hard the pictures are."""
        return math.log(2) if self.gamma == 0 else None
