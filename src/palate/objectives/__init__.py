"""Floor 1: pure judgement. One file per published idea; a class joins this tuple and is known."""

from palate.objectives.adaptive_dpo import AdaptiveDPO
from palate.objectives.adaptive_ipo import AdaptiveIPO
from palate.objectives.base import Catalogue, Evidence, Needs, Objective
from palate.objectives.d3po import D3PO
from palate.objectives.dedpo import DeDPO
from palate.objectives.dpo import DPO
from palate.objectives.inpo import InPO
from palate.objectives.inversion_dpo import InversionDPO
from palate.objectives.lpo import LPO
from palate.objectives.sft import SFT
from palate.objectives.smpo import SmPO
from palate.objectives.spin import SPIN
from palate.objectives.spo import SPO

OBJECTIVES = Catalogue(
    (
        SFT,
        DPO,
        AdaptiveDPO,
        AdaptiveIPO,
        DeDPO,
        InversionDPO,
        InPO,
        SmPO,
        SPIN,
        D3PO,
        SPO,
        LPO,
    )
)

__all__ = [
    "D3PO",
    "DPO",
    "LPO",
    "OBJECTIVES",
    "SFT",
    "SPIN",
    "SPO",
    "AdaptiveDPO",
    "AdaptiveIPO",
    "Catalogue",
    "DeDPO",
    "Evidence",
    "InPO",
    "InversionDPO",
    "Needs",
    "Objective",
    "SmPO",
]
