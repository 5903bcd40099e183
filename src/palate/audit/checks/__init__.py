"""One question per file. A check's docstring is its page."""

from typing import Final

from palate.audit.calibration import NOISES
from palate.audit.check import Check
from palate.audit.checks.t001_same_picture import SamePictureTwice
from palate.audit.checks.t002_near_duplicate_pairs import NearDuplicatePairs
from palate.audit.checks.t003_contradictory_labels import ContradictoryLabels
from palate.audit.checks.t004_cycles import Cycles
from palate.audit.checks.t005_position_bias import PositionBias
from palate.audit.checks.t006_ties import Ties
from palate.audit.checks.t007_one_judge_dominates import OneJudgeDominates
from palate.audit.checks.t008_judges_disagree import JudgesDisagree
from palate.audit.checks.t009_shortcuts import Shortcuts
from palate.audit.checks.t010_prompt_overlap import PromptOverlap
from palate.audit.checks.t011_label_sources import LabelSources
from palate.audit.checks.t012_expected_flips import ExpectedFlips
from palate.audit.checks.t013_minority import Minority
from palate.audit.checks.t014_caption_gives_orders import CaptionGivesOrders

CHECKS: Final[tuple[Check, ...]] = (
    SamePictureTwice(),
    NearDuplicatePairs(),
    ContradictoryLabels(),
    Cycles(),
    PositionBias(),
    Ties(),
    OneJudgeDominates(),
    JudgesDisagree(),
    Shortcuts(),
    PromptOverlap(),
    LabelSources(),
    ExpectedFlips(),
    Minority(),
    CaptionGivesOrders(),
)


def assuming(noise: str) -> tuple[Check, ...]:
    """All checks, with another assumption of why labels may be against most people's.

    Args:
        noise: `people` or `flips`; see `palate/audit/calibration.py`.
    """
    return tuple(
        Minority(noise=NOISES[noise]) if isinstance(check, Minority) else check for check in CHECKS
    )
