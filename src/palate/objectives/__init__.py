"""Floor 1: pure judgement. One file per published idea; a class joins this tuple and is known."""

from palate.objectives.adaptive_dpo import AdaptiveDPO
from palate.objectives.adaptive_ipo import AdaptiveIPO
from palate.objectives.base import Catalogue, Evidence, Needs, Objective
from palate.objectives.capo import CaPO
from palate.objectives.cdpo import CDPO
from palate.objectives.d3po import D3PO
from palate.objectives.dedpo import DeDPO
from palate.objectives.dmpo import DMPO
from palate.objectives.dpo import DPO
from palate.objectives.dspo import DSPO
from palate.objectives.flow_dpo import FlowDPO
from palate.objectives.hinge import Hinge
from palate.objectives.inpo import InPO
from palate.objectives.inversion_dpo import InversionDPO
from palate.objectives.ipo import IPO
from palate.objectives.kto import KTO
from palate.objectives.lpo import LPO
from palate.objectives.mapo import MaPO
from palate.objectives.npo import NPO
from palate.objectives.ppd import PPD
from palate.objectives.rdpo import RDPO
from palate.objectives.sdpo import SDPO
from palate.objectives.see_dpo import SEEDPO
from palate.objectives.sft import SFT
from palate.objectives.smpo import SmPO
from palate.objectives.spin import SPIN
from palate.objectives.spo import SPO

OBJECTIVES = Catalogue(
    (
        SFT,
        DPO,
        CDPO,
        RDPO,
        IPO,
        Hinge,
        AdaptiveDPO,
        AdaptiveIPO,
        DeDPO,
        DMPO,
        InversionDPO,
        InPO,
        SmPO,
        SEEDPO,
        SPIN,
        D3PO,
        SPO,
        LPO,
        KTO,
        MaPO,
        DSPO,
        SDPO,
        CaPO,
        NPO,
        FlowDPO,
        PPD,
    )
)

__all__ = [
    "CDPO",
    "D3PO",
    "DMPO",
    "DPO",
    "DSPO",
    "IPO",
    "KTO",
    "LPO",
    "NPO",
    "OBJECTIVES",
    "PPD",
    "RDPO",
    "SDPO",
    "SEEDPO",
    "SFT",
    "SPIN",
    "SPO",
    "AdaptiveDPO",
    "AdaptiveIPO",
    "CaPO",
    "Catalogue",
    "DeDPO",
    "Evidence",
    "FlowDPO",
    "Hinge",
    "InPO",
    "InversionDPO",
    "MaPO",
    "Needs",
    "Objective",
    "SmPO",
]
