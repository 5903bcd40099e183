"""Machines with opinions: pictures and prompts in, one number each out.

Read next: `scorer.py`, the protocol; `clip.py`, scorers of CLIP's shape.
"""

from palate.scorers.scorer import Scorer

__all__ = ["Scorer"]
