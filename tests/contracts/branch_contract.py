"""What every branch made from predictions must do, as plain functions for planted bugs too.

A builder takes prediction, target and reference, [b, …] each, and returns the branch.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from contracts.objective_contract import noise
from palate.core.contrast import Branch
from palate.core.problems import SettingError

Build = Callable[[Tensor, Tensor, Any], Branch]


def seeded(name: int, like: Tensor) -> Tensor:
    """Normal numbers in the shape of another tensor."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(name))


def check_gain_is_reference_error_minus_policy_error(build: Build) -> None:
    """By plain sums over the elements of each image."""
    prediction, target, reference = noise(1), noise(2), noise(3)
    branch = build(prediction, target, reference)
    for row in range(len(target)):
        gaps = [(p[row] - target[row]).flatten().tolist() for p in (prediction, reference)]
        policy, frozen = (sum(gap * gap for gap in gap_list) / len(gap_list) for gap_list in gaps)
        assert abs(float(branch.error[row]) - policy) < 1e-12
        assert abs(float(branch.reference_error[row]) - frozen) < 1e-12
        assert abs(float(branch.gain[row]) - (frozen - policy)) < 1e-12


def check_equal_networks_gain_exactly_nothing(build: Build) -> None:
    """Not nearly nothing: at the start of a run every margin is 0.0 in every type."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        same, target = noise(1, torch.float32).to(dtype), noise(2, torch.float32).to(dtype)
        assert build(same, target, same.clone()).gain.tolist() == [0.0] * len(same)


def check_the_gradient_reaches_the_policy(build: Build) -> None:
    """And is twice the gap over the number of elements, with a minus sign for gain."""
    prediction, target = noise(1).requires_grad_(), noise(2)
    build(prediction, target, noise(3)).gain.sum().backward()
    assert prediction.grad is not None
    expected = -2 * (prediction.detach() - target) / prediction[0].numel()
    torch.testing.assert_close(prediction.grad, expected, rtol=1e-12, atol=1e-15)


def check_a_reference_with_a_gradient_is_refused(build: Build) -> None:
    """Better impossible than tested: training the reference silently changes the objective."""
    with pytest.raises(SettingError, match=r"torch\.no_grad"):
        build(noise(1), noise(2), noise(3).requires_grad_())


def check_shapes_that_would_broadcast_are_refused(build: Build) -> None:
    """One target for a whole batch would compare every image with the same picture."""
    for wrong in (noise(2)[:1], noise(2)[:, :1]):
        for parts in ((noise(1), wrong, noise(3)), (noise(1), noise(2), wrong)):
            try:
                build(*parts).gain  # noqa: B018 - the property does the arithmetic
            except (SettingError, TypeError):
                continue
            raise AssertionError("broadcast a wrong shape")


def check_bfloat16_is_widened_before_subtracting(build: Build) -> None:
    """The reference is close to the policy: in bf16 arithmetic most signs would be wrong."""
    target = seeded(7, torch.empty(64, 4, 16, 16))
    reference = (target + 0.3 * seeded(8, target)).bfloat16()
    prediction = (reference.float() + 0.003 * seeded(9, target)).bfloat16()
    found = build(prediction, target.bfloat16(), reference).gain
    exact = build(prediction.double(), target.bfloat16().double(), reference.double()).gain
    assert found.dtype == torch.float32
    assert (found.double() - exact).abs().max() < 1e-6
    assert (found.sign() == exact.sign()).all()


CHECKS: tuple[Callable[[Build], None], ...] = tuple(
    value for name, value in sorted(globals().items()) if name.startswith("check_")
)
