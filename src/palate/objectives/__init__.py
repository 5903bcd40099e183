"""Floor 1: pure judgement. One file per published idea; a class joins this tuple and is known."""

from palate.objectives.base import Needs, Objective
from palate.objectives.dpo import DPO
from palate.objectives.sft import SFT

OBJECTIVES: tuple[type[Objective], ...] = (SFT, DPO)

BY_NAME: dict[str, type[Objective]] = {objective.name: objective for objective in OBJECTIVES}

__all__ = ["BY_NAME", "DPO", "OBJECTIVES", "SFT", "Needs", "Objective"]
