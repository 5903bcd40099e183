"""Pairs that several objectives are tried on."""

import torch

from palate.core.contrast import Contrast, Stepped

# Margins of the policy and its two averages. The printed numbers divide by an L2 norm over 4 pairs
# with ρ = 15; a root mean square over the same pairs needs ρ = 15/√4 = 7.5.
POLICY = [0.0015, -0.0015, 0.0005, 0.0002]
SLOW = [0.0010, -0.0005, 0.0004, -0.0001]
FAST = [0.0014, -0.0012, 0.0006, 0.0001]


def annotated(**others: object) -> Contrast:
    """The four pairs of the printed numbers, judged by three annotators after the warm-up."""
    errors = [0.1 - margin for margin in POLICY]
    settings = {"averages": (SLOW, FAST), "step": 2} | others
    return Contrast.from_errors(errors, [0.1] * 4, [0.1] * 4, [0.1] * 4, **settings)


def steps(chosen: list[float], rejected: list[float], agreement: float = 1.0) -> Contrast:
    """Steps with these log-ratios of policy to reference."""
    sides = [torch.tensor(ratios, dtype=torch.float64) for ratios in (chosen, rejected)]
    base = torch.full_like(sides[0], -0.7)
    branches = [Stepped(policy=base + ratio, reference=base) for ratio in sides]
    label = torch.full_like(base, agreement)
    return Contrast(chosen=branches[0], rejected=branches[1], agreement=label)
