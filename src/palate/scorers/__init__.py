"""Machines with opinions: pictures and prompts in, one number each out.

Read next: `scorer.py`, the protocol; `clip.py`, scorers of CLIP's shape; `stepwise.py`, scorers of
what is not finished yet.
"""

from palate.scorers.scorer import Scorer
from palate.scorers.stepwise import StepScorer, Timeless

__all__ = ["Scorer", "StepScorer", "Timeless"]
