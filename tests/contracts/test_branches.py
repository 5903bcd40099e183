"""Every branch keeps every promise."""

import math

import pytest
import torch

from contracts.branch_contract import CHECKS
from palate.core.contrast import Denoised, Measured, Stepped, mean_square
from palate.core.problems import SettingError


def denoised(prediction, target, reference):
    return Denoised(prediction=prediction, target=target, reference=reference)


def measured(prediction, target, reference):
    """Errors taken first, as the cache of reference errors does."""
    if reference.shape != target.shape:
        return denoised(prediction, target, reference)
    return Measured(
        policy=mean_square(prediction, target), reference=mean_square(reference, target)
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("build", [denoised, measured], ids=["denoised", "measured"])
def test_a_branch_keeps_its_promise(build, check):
    check(build)


def test_a_step_gains_its_log_ratio():
    """Policy −1.0, reference −1.25: the log-ratio is 0.25, and a gain is twice that."""
    branch = Stepped(policy=torch.tensor([-1.0, -3.0]), reference=torch.tensor([-1.25, -2.0]))
    assert branch.gain.tolist() == [0.5, -2.0]
    assert branch.error.tolist() == [2.0, 6.0]


def test_a_clipped_step_stays_within_its_band_and_takes_no_gradient_outside():
    """Ratios e^0.5, e^0.05 and e^-0.5 within 1 ± 0.1: log 1.1, 0.05 and log 0.9."""
    policy = torch.tensor([-1.0, -1.0, -1.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-1.5, -1.05, -0.5], dtype=torch.float64)
    gain = Stepped(policy=policy, reference=reference).clipped(0.1).gain
    expected = torch.tensor([math.log(1.1), 0.05, math.log(0.9)], dtype=torch.float64)
    torch.testing.assert_close(gain.detach(), 2 * expected)
    gain.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [0.0, 2.0, 0.0]


def test_a_step_refuses_a_reference_that_learns():
    with pytest.raises(SettingError, match="frozen reference"):
        Stepped(policy=torch.zeros(2), reference=torch.zeros(2, requires_grad=True))


def test_evidence_nobody_collected_is_refused_and_not_guessed():
    branch = Denoised(prediction=torch.zeros(2, 3), target=torch.ones(2, 3))
    assert branch.error.tolist() == [1.0, 1.0]
    with pytest.raises(SettingError, match="Declare it in the objective's `needs`"):
        branch.gain  # noqa: B018
