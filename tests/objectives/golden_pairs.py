"""Four pairs of errors that every test of a margin starts from.

The margins are +.0015, −.0015, +.0005 and 0; with β = 2000 in our convention the logits are
1.5, −1.5, 0.5 and 0.
"""

from typing import Any

import torch

from palate.core.contrast import Contrast
from palate.objectives import Objective

POLICY_CHOSEN = [0.100, 0.120, 0.080, 0.150]
REFERENCE_CHOSEN = [0.101, 0.119, 0.0805, 0.150]
POLICY_REJECTED = [0.110, 0.090, 0.130, 0.140]
REFERENCE_REJECTED = [0.1095, 0.0905, 0.1300, 0.1400]
MARGINS = [0.0015, -0.0015, 0.0005, 0.0]
LOGITS = [1.5, -1.5, 0.5, 0.0]


def golden(agreement: float = 1.0, **others: Any) -> Contrast:
    """The four pairs, with one label for all."""
    return Contrast.from_errors(
        POLICY_CHOSEN, REFERENCE_CHOSEN, POLICY_REJECTED, REFERENCE_REJECTED, agreement, **others
    )


def slopes(objective: Objective, pairs: Contrast, scale: float) -> list[float]:
    """How each loss changes with its pair's margin, divided by a scale.

    The policy's error on the chosen image is moved: the margin goes down as it goes up.
    """
    policy = pairs.chosen.error.detach().clone().requires_grad_()
    assert pairs.rejected is not None
    moved = Contrast.from_errors(
        policy,
        pairs.chosen.reference_error,
        pairs.rejected.error,
        pairs.rejected.reference_error,
        pairs.agreement,
    )
    objective(moved).loss.sum().backward()
    assert policy.grad is not None
    return (-policy.grad / scale).tolist()


def tensor(*values: float) -> torch.Tensor:
    """Numbers in float64."""
    return torch.tensor(values, dtype=torch.float64)
