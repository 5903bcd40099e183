"""Statistics over a whole optimizer step, in however many parts and processes it is taken."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from palate.core.contrast import Branch, Contrast, Denoised, Measured, Stepped

Mean = Callable[[Tensor], Tensor]


def several_processes() -> bool:
    """Whether other processes train the same model."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def mean_of_all(values: Tensor) -> Tensor:
    """The mean over all values of all processes, without gradient."""
    values = values.detach()
    if not several_processes():
        return values.mean()
    # Sums and counts, because processes may hold unequal numbers of pairs.
    total = torch.stack([values.sum(), values.new_tensor(float(values.numel()))])
    torch.distributed.all_reduce(total)
    return total[0] / total[1]


def together(parts: Sequence[Contrast], *, predictions: bool = False) -> Contrast:
    """Parts of one step as one contrast, without gradient.

    Args:
        parts: The parts, in order.
        predictions: Keep predictions whole; otherwise they become one error per picture.
    """
    first = parts[0]
    rejected = [part.rejected for part in parts if part.rejected is not None]
    return replace(
        first,
        chosen=_joined([part.chosen for part in parts], predictions),
        rejected=_joined(rejected, predictions) if rejected else None,
        agreement=torch.cat([part.agreement for part in parts]),
        level=_cat([part.level for part in parts]),
        alpha=_cat([part.alpha for part in parts]),
        sigma=_cat([part.sigma for part in parts]),
        averages=tuple(torch.cat(each) for each in zip(*(p.averages for p in parts), strict=True)),
        facts={name: torch.cat([part.facts[name] for part in parts]) for name in first.facts},
    )


def _joined(branches: Sequence[Branch], predictions: bool) -> Branch:
    whole = [branch for branch in branches if isinstance(branch, Denoised)]
    if predictions and len(whole) == len(branches):
        return Denoised(
            prediction=torch.cat([branch.prediction.detach() for branch in whole]),
            target=torch.cat([branch.target for branch in whole]),
            reference=_cat([branch.reference for branch in whole]),
        )
    error = torch.cat([branch.error.detach() for branch in branches])
    reference = torch.cat([branch.reference_error.detach() for branch in branches])
    if all(isinstance(branch, Stepped) for branch in branches):
        return Stepped(policy=-error / 2, reference=-reference / 2)
    return Measured(policy=error, reference=reference)


def _cat(tensors: Sequence[Tensor | None]) -> Tensor | None:
    known = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(known) if known else None
