r"""Supervised fine-tuning: learn to denoise the chosen images, ignore the others.

$$\ell = \lVert\epsilon-\epsilon_\theta(x_t^\text{chosen})\rVert^2$$

The plain diffusion loss. It is the baseline every preference method is compared with, and needs
no reference and no rejected image.

Read next: `dpo.py`, which also learns what to avoid.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict
from palate.objectives.base import Needs, Objective


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SFT(Objective):
    """Supervised fine-tuning on the chosen image (Ho et al., 2020, eq. 14)."""

    name: ClassVar[str] = "sft"
    title: ClassVar[str] = "Supervised fine-tuning"
    paper: ClassVar[str] = "arXiv:2006.11239"
    year: ClassVar[int] = 2020
    needs: ClassVar[Needs] = Needs(reference=False, rejected=False, labels="chosen images only")

    def __call__(self, pairs: Contrast) -> Verdict:
        """Score each pair by the error on its chosen image."""
        return Verdict(pairs.chosen.error)

    def at_init(self) -> None:
        """Whatever the model's error is."""
        return None
