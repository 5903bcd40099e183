"""Floor 1: pure judgement. One file per published idea; a class joins this tuple and is known."""

from palate.objectives.base import Catalogue, Evidence, Needs, Objective
from palate.objectives.dpo import DPO
from palate.objectives.sft import SFT

OBJECTIVES = Catalogue((SFT, DPO))

__all__ = ["DPO", "OBJECTIVES", "SFT", "Catalogue", "Evidence", "Needs", "Objective"]
