"""Inversion-DPO: the logit, the two signs, and the start that does not move."""

import math

import pytest
import torch

from palate.core.contrast import Contrast, Denoised
from palate.core.problems import SettingError
from palate.objectives import DPO, InversionDPO


def branch(policy: torch.Tensor, reference: torch.Tensor, target: torch.Tensor) -> Denoised:
    return Denoised(prediction=policy, reference=reference, target=target)


def start(target: torch.Tensor | None) -> tuple[Contrast, torch.Tensor]:
    """A policy equal to the reference, aiming at it or at a target of its own."""
    generator = torch.Generator().manual_seed(4)
    shape = (3, 2, 4, 4)
    sides = []
    known = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    policies = [reference.clone().requires_grad_() for reference in known]
    for policy, reference in zip(policies, known, strict=True):
        sides.append(branch(policy, reference, reference if target is None else target))
    label = torch.ones(3, dtype=torch.float64)
    return Contrast(chosen=sides[0], rejected=sides[1], agreement=label), policies[0]


def test_one_pair_by_hand():
    """Distances 0.001 and 0.003 from the reference: (β/2)(0.003 − 0.001) = 2, loss log(1 + e⁻²)."""
    pairs = Contrast.from_errors([0.001], [0.0], [0.003], [0.0])
    assert float(InversionDPO()(pairs).loss) == pytest.approx(math.log1p(math.exp(-2)), abs=1e-10)


def test_the_released_sign_pays_for_leaving_the_reference_on_the_chosen_picture():
    pairs = Contrast.from_errors([0.001], [0.0], [0.003], [0.0])
    released = InversionDPO(sign="code")(pairs)
    assert float(released.loss) == pytest.approx(math.log1p(math.exp(2)), abs=1e-10)
    assert float(released.extras["logit"]) == pytest.approx(-2.0, abs=1e-12)


def test_aiming_at_the_reference_the_first_gradient_is_exactly_zero():
    """The figure's form: both distances are at their minimum, so nothing moves."""
    pairs, policy = start(None)
    InversionDPO()(pairs).loss.sum().backward()
    assert policy.grad is not None
    assert policy.grad.abs().max() == 0


def test_aiming_at_the_step_that_was_taken_it_is_not():
    pairs, policy = start(torch.zeros(3, 2, 4, 4, dtype=torch.float64))
    verdict = InversionDPO()(pairs)
    verdict.loss.sum().backward()
    assert policy.grad is not None
    assert (policy.grad.flatten(1).norm(dim=1) > 1).all()
    assert verdict.loss.tolist() == [math.log(2)] * 3


def test_on_any_evidence_the_figure_is_the_loss_of_diffusion_dpo():
    pairs = Contrast.from_errors([0.10, 0.12], [0.11, 0.11], [0.2, 0.1], [0.2, 0.2], [1.0, 0.7])
    assert torch.equal(InversionDPO()(pairs).loss, DPO()(pairs).loss)


def test_by_default_the_start_moves():
    """The house rule: the default is what the mathematics supports."""
    assert InversionDPO.needs.settings["inversion.target"] == "trajectory"
    assert InversionDPO.needs.evidence == ("inverted",)


@pytest.mark.parametrize("beta", [-1.0, 0.0, math.inf, math.nan])
def test_a_bad_beta_says_what_to_do(beta):
    with pytest.raises(SettingError, match=r"Need beta > 0\. The released script uses 2000"):
        InversionDPO(beta=beta)
