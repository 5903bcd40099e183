"""Traces every objective as one graph and prints its name. Run by `test_objectives.py`.

A process of its own, because the shape checks of the test run cannot be traced and production
has none.
"""

import torch
from torch import Tensor

from contracts.objective_contract import AGREEMENT, contrast, tensors
from palate.core.contrast import Contrast
from palate.objectives import OBJECTIVES, Objective


def trace(objective: Objective) -> None:
    """Compile with the trivial backend, refuse any graph break, compare with the plain call."""

    def losses(pairs: Contrast) -> Tensor:
        return objective(pairs).loss

    torch.compiler.reset()
    traced = torch.compile(losses, backend="eager", fullgraph=True)
    exact, half = tensors(), tensors(torch.bfloat16)
    for pairs in (
        contrast(exact, kind=objective),
        contrast(half, torch.tensor(AGREEMENT), kind=objective),
    ):
        torch.testing.assert_close(traced(pairs), losses(pairs), rtol=0, atol=0)


if __name__ == "__main__":
    for kind in OBJECTIVES:
        trace(kind())
        print(kind.name)  # noqa: T201
