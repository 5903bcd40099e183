"""Every branch keeps every promise."""

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
    """Policy −1.0, reference −1.25: the policy finds the step likelier by 0.25."""
    branch = Stepped(policy=torch.tensor([-1.0, -3.0]), reference=torch.tensor([-1.25, -2.0]))
    assert branch.gain.tolist() == [0.25, -1.0]
    assert branch.error.tolist() == [1.0, 3.0]


def test_a_step_refuses_a_reference_that_learns():
    with pytest.raises(SettingError, match="frozen reference"):
        Stepped(policy=torch.zeros(2), reference=torch.zeros(2, requires_grad=True))


def test_evidence_nobody_collected_is_refused_and_not_guessed():
    branch = Denoised(prediction=torch.zeros(2, 3), target=torch.ones(2, 3))
    assert branch.error.tolist() == [1.0, 1.0]
    with pytest.raises(SettingError, match="Declare it in the objective's `needs`"):
        branch.gain  # noqa: B018
