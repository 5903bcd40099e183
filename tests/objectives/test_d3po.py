"""D3PO: clipped log-ratios of steps, from Gaussians one can check."""

import math

import pytest
import torch

from objectives.examples import steps
from palate.core.contrast import Contrast, Stepped
from palate.core.problems import SettingError
from palate.objectives import D3PO

WIDE = 0.5


def density(point: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Log-probability of a step under a Gaussian of deviation ½, averaged over elements."""
    gauss = torch.distributions.Normal(mean, WIDE)
    return gauss.log_prob(point).flatten(1).mean(1)


def test_one_pair_by_hand():
    """Log-ratios +0.05 and −0.03 inside the band: logit 0.1 · 0.08 = 0.008."""
    verdict = D3PO()(steps([0.05], [-0.03]))
    assert float(verdict.extras["logit"]) == pytest.approx(0.008, abs=1e-12)
    assert float(verdict.loss) == pytest.approx(math.log1p(math.exp(-0.008)), abs=1e-12)


def test_the_logit_cannot_leave_the_published_range():
    """At most β log(1.1/0.9) = 0.0200671 on either side: losses between 0.683 and 0.703."""
    verdict = D3PO()(steps([9.0, -9.0], [-9.0, 9.0]))
    most = 0.1 * math.log(1.1 / 0.9)
    assert verdict.extras["logit"].tolist() == pytest.approx([most, -most], abs=1e-12)
    assert [round(loss, 3) for loss in verdict.loss.tolist()] == [0.683, 0.703]


def test_outside_the_band_there_is_no_gradient_on_either_side():
    """A hard clamp: neither a winner that improved enough nor a worse one is pushed."""
    policy = torch.tensor([-0.7 + 0.2, -0.7 - 0.2, -0.7 + 0.05], dtype=torch.float64)
    policy.requires_grad_()
    base = torch.full((3,), -0.7, dtype=torch.float64)
    still = Stepped(policy=base, reference=base)
    pairs = Contrast(
        chosen=Stepped(policy=policy, reference=base),
        rejected=still,
        agreement=torch.ones(3, dtype=torch.float64),
    )
    verdict = D3PO()(pairs)
    verdict.loss.sum().backward()
    assert policy.grad is not None
    assert policy.grad[:2].tolist() == [0.0, 0.0]
    assert float(policy.grad[2]) == pytest.approx(-0.1 / (1 + math.exp(0.005)), abs=1e-12)
    assert verdict.extras["clipped"].tolist() == [0.5, 0.5, 0.0]


def test_the_log_ratio_of_two_gaussians_is_the_difference_of_squares():
    """[(x − μ_ref)² − (x − μ_θ)²] / (2σ²), a mean over elements and not a sum."""
    generator = torch.Generator().manual_seed(2)
    points, means, frozen = (
        torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    means = frozen + 0.01 * means
    side = Stepped(policy=density(points, means), reference=density(points, frozen))
    plain = ((points - frozen) ** 2 - (points - means) ** 2).flatten(1).mean(1) / (2 * WIDE**2)
    torch.testing.assert_close(side.gain / 2, plain, rtol=1e-9, atol=1e-12)
    still = Stepped(policy=side.reference, reference=side.reference)
    pairs = Contrast(chosen=side, rejected=still, agreement=torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(D3PO()(pairs).extras["logit"], 0.1 * plain, rtol=1e-9, atol=1e-12)


def test_turning_the_pair_turns_the_logit():
    pairs = steps([0.05], [-0.03], 0.8)
    there, back = D3PO()(pairs), D3PO()(pairs.swap())
    torch.testing.assert_close(there.extras["logit"], -back.extras["logit"])
    torch.testing.assert_close(there.loss, back.loss)


def test_noised_pictures_are_refused():
    pairs = Contrast.from_errors([0.1], [0.1], [0.1], [0.1])
    with pytest.raises(SettingError, match=r"evidence that is not steps.*log-probabilities"):
        D3PO()(pairs)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, r"Need beta > 0\. The released code uses 0\.1"),
        ({"clip": 0.0}, r"Got clip=0\.0\. Need 0 < clip < 1\. The released code uses 0\.1"),
        ({"clip": 1.0}, r"Got clip=1\.0"),
    ],
)
def test_settings_that_cannot_be_used_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        D3PO(**settings)
