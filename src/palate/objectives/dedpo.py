r"""DeDPO: few people's labels correct the systematic errors of many synthetic ones.

$$\ell = -\bigl(\tilde w \log \sigma(m) + (1-\tilde w) \log \sigma(-m)\bigr),
\qquad \tilde w = \hat G + c\,(z - \hat G), \qquad m = \tfrac{\beta}{2}\cdot\text{margin}$$

A machine's label $\hat G$ stands beside every pair, a person's label $z$ beside a random part of
them. There $c = n/n_\text{labelled}$, elsewhere 0: on average over the draw of that part, the loss
is the one all people's labels would have given, however wrong the machine is.

Read next: `dpo.py`, which has only the people's labels.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective
from palate.objectives.limits import positive
from palate.objectives.logistic import soft_label_loss


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeDPO(Objective):
    """DeDPO (Pham et al., 2026, eq. 8 in the folded form of its proposition 2).

    Attributes:
        beta: How tightly the reference holds the policy: the logit is (beta/2) · margin, as in
            `dpo`. The paper's value was not found; 2000 is ours, as for `dpo`.
        hard: Round the synthetic labels to 0 and 1; a synthetic tie stays a tie.
        clip: Hold the logit within ± clip, so that a target outside [0, 1] cannot push it for
            ever; None, as in the paper, keeps the loss unbiased.
    """

    beta: float = 2000.0
    hard: bool = False
    clip: float | None = None

    name: ClassVar[str] = "dedpo"
    title: ClassVar[str] = "DeDPO"
    paper: ClassVar[str] = "arXiv:2602.06195"
    year: ClassVar[int] = 2026
    needs: ClassVar[Needs] = Needs(
        reference=True,
        labels="people's on a random part of the pairs, a machine's on all",
        facts=("synthetic", "correction"),
    )

    def __post_init__(self) -> None:
        positive("beta", self.beta, "Use 2000 for SD 1.5 or 5000 for SDXL.")
        if self.clip is not None:
            positive("clip", self.clip, "Leave it out, as the paper does, or use 10.")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair against its debiased target, which may lie outside [0, 1]."""
        synthetic = pairs.fact("synthetic")
        if self.hard:
            synthetic = 0.5 + 0.5 * (synthetic - 0.5).sign()
        target = synthetic + pairs.fact("correction") * (pairs.agreement - synthetic)
        logit = 0.5 * self.beta * pairs.margin
        held = logit if self.clip is None else logit.clamp(-self.clip, self.clip)
        extras = {"logit": logit.detach(), "target": target.detach()}
        return Verdict(soft_label_loss(held, target), extras)

    def at_init(self) -> float:
        """A fair coin, whatever the labels."""
        return math.log(2)
