"""Diffusion-DPO by hand, against printed numbers, and by finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.objective_contract import contrast, tensors, with_gradient
from palate.core.contrast import Contrast, Denoised
from palate.core.problems import SettingError
from palate.objectives import DPO

# Four pairs of errors: margins +.0015, −.0015, +.0005 and 0. With logits of 1000 · margin (β = 2000
# in our convention) the losses are those of a coin with odds e^1.5, e^−1.5, e^.5 and 1.
POLICY_CHOSEN = [0.100, 0.120, 0.080, 0.150]
REFERENCE_CHOSEN = [0.101, 0.119, 0.0805, 0.150]
POLICY_REJECTED = [0.110, 0.090, 0.130, 0.140]
REFERENCE_REJECTED = [0.1095, 0.0905, 0.1300, 0.1400]
LOGITS = [1.5, -1.5, 0.5, 0.0]


def golden(agreement=1.0) -> Contrast:
    return Contrast.from_errors(
        POLICY_CHOSEN, REFERENCE_CHOSEN, POLICY_REJECTED, REFERENCE_REJECTED, agreement
    )


def test_one_pair_by_hand():
    """Gains +0.002 and −0.001, so the margin is 0.003, the logit 3, the loss log(1 + e⁻³)."""
    pairs = Contrast.from_errors([0.010], [0.012], [0.011], [0.010])
    assert float(pairs.margin) == pytest.approx(0.003, abs=1e-15)
    assert abs(float(DPO(beta=2000.0)(pairs).loss) - math.log1p(math.exp(-3))) < 1e-10


def test_the_golden_vector_to_ten_digits():
    expected = [math.log1p(math.exp(-logit)) for logit in LOGITS]
    found = DPO(beta=2000.0)(golden()).loss.tolist()
    assert found == pytest.approx(expected, abs=1e-10)


def test_the_golden_vector_as_printed():
    """The mean and the slopes of the printed table, to all its digits."""
    loss = DPO(beta=2000.0)(golden()).loss
    assert round(float(loss.mean()), 6) == 0.767513
    logits = DPO(beta=2000.0)(golden()).extras["logit"]
    slopes = [-1 / (1 + math.exp(logit)) for logit in logits.tolist()]
    assert [round(slope, 6) for slope in slopes] == [-0.182426, -0.817574, -0.377541, -0.5]


def test_conservative_dpo_is_a_soft_label():
    """Label smoothing of 0.1 is an agreement of 0.9: the printed 0.780013."""
    assert round(float(DPO(beta=2000.0)(golden(0.9)).loss.mean()), 6) == 0.780013


def test_the_slope_is_the_golden_one():
    """dℓ/d(error of the chosen image) = (β/2) · (1 − σ(logit))."""
    policy = torch.tensor(POLICY_CHOSEN, dtype=torch.float64, requires_grad=True)
    pairs = Contrast.from_errors(
        policy,
        torch.tensor(REFERENCE_CHOSEN, dtype=torch.float64),
        torch.tensor(POLICY_REJECTED, dtype=torch.float64),
        torch.tensor(REFERENCE_REJECTED, dtype=torch.float64),
    )
    DPO(beta=2000.0)(pairs).loss.sum().backward()
    assert policy.grad is not None
    expected = [1000 / (1 + math.exp(logit)) for logit in LOGITS]
    assert policy.grad.tolist() == pytest.approx(expected, abs=1e-8)


def test_at_the_start_the_loss_is_a_fair_coin_for_every_label():
    """Policy = reference: margin exactly 0, loss exactly ln 2 in float64 (soft: one rounding)."""
    parts = tensors(spread=0.0)
    soft, hard = contrast(parts), contrast(parts, torch.ones(6, dtype=torch.float64))
    assert soft.margin.tolist() == hard.margin.tolist() == [0.0] * 6
    assert DPO()(hard).loss.tolist() == [math.log(2)] * 6
    assert (DPO()(soft).loss - math.log(2)).abs().max() <= 1.2e-16
    assert DPO().at_init() == math.log(2)


def test_gradients_match_finite_differences():
    """Through predictions, on both sides, for hard and soft labels."""
    parts = with_gradient({name: value[:, :, :1, :2] for name, value in tensors().items()})

    def loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return DPO(beta=200.0)(
            contrast({**parts, "policy_chosen": chosen, "policy_rejected": rejected})
        ).loss

    inputs = (parts["policy_chosen"], parts["policy_rejected"])
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-9, rtol=1e-6)


def test_ten_random_directions_through_a_network_agree_to_a_millionth():
    """The whole way from weights to loss, by central differences in float64 (A7)."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 2, 3, padding=1)
    ).double()
    generator = torch.Generator().manual_seed(5)
    weights = [
        torch.randn(w.shape, generator=generator, dtype=torch.float64) * 0.2
        for w in net.parameters()
    ]
    names = [name for name, _ in net.named_parameters()]
    parts = tensors()

    def loss(values: list[torch.Tensor]) -> torch.Tensor:
        def predict(noisy: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(net, dict(zip(names, values, strict=True)), noisy)

        sides = {
            f"policy_{side}": parts[f"reference_{side}"] + 0.05 * predict(parts[f"target_{side}"])
            for side in ("chosen", "rejected")
        }
        return DPO(beta=50.0)(contrast({**parts, **sides})).loss.mean()

    leaves = [value.clone().requires_grad_() for value in weights]
    slopes = torch.autograd.grad(loss(leaves), leaves)
    for _ in range(10):
        way = [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in weights]
        exact = sum(float((s * d).sum()) for s, d in zip(slopes, way, strict=True))
        ends = [
            float(loss([w + h * d for w, d in zip(weights, way, strict=True)]))
            for h in (1e-5, -1e-5)
        ]
        assert abs((ends[0] - ends[1]) / 2e-5 - exact) <= 1e-6 * max(abs(exact), 1e-3)


def test_a_label_says_nothing_while_it_is_a_tie():
    """Agreement ½: the loss is lowest at margin 0, whichever image is called chosen."""
    losses = [
        float(DPO()(Contrast.from_errors([0.1 + m], [0.1], [0.1], [0.1], 0.5)).loss)
        for m in (-1e-3, 0.0, 1e-3)
    ]
    assert losses[0] == pytest.approx(losses[2], abs=1e-12)
    assert losses[1] < losses[0]


@given(
    margins=st.lists(st.floats(-0.05, 0.05), min_size=1, max_size=8),
    agreement=st.floats(0.5, 1.0),
    beta=st.floats(1.0, 20_000.0),
)
def test_any_pairs_match_the_plain_formula_and_turn_round(margins, agreement, beta):
    count = len(margins)
    pairs = Contrast.from_errors(
        [0.2 - m for m in margins], [0.2] * count, [0.3] * count, [0.3] * count, agreement
    )
    found = DPO(beta=beta)(pairs).loss
    for loss, margin in zip(found.tolist(), pairs.margin.tolist(), strict=True):
        m = beta / 2 * margin
        big = max(m, 0.0) + math.log1p(math.exp(-abs(m)))  # log(1 + e^m)
        assert loss == pytest.approx(big - agreement * m, rel=1e-12, abs=1e-10)
    torch.testing.assert_close(DPO(beta=beta)(pairs.swap()).loss, found, rtol=1e-12, atol=1e-12)


def test_bfloat16_predictions_do_not_flip_the_sign_of_the_margin():
    """Logits near 0.1 at β = 2000. Subtracting in bf16 loses the sign; we widen first."""
    generator = torch.Generator().manual_seed(0)
    shape = (64, 4, 32, 32)
    sides = []
    for _ in range(2):
        target = torch.randn(shape, generator=generator)
        reference = target + 0.3 * torch.randn(shape, generator=generator)
        policy = reference + 0.01 * torch.randn(shape, generator=generator)
        sides.append([part.bfloat16() for part in (policy, target, reference)])

    def margin(dtype: torch.dtype) -> torch.Tensor:
        branches = [
            Denoised(prediction=p.to(dtype), target=t.to(dtype), reference=r.to(dtype))
            for p, t, r in sides
        ]
        label = torch.ones(64, dtype=torch.promote_types(dtype, torch.float32))
        return Contrast(chosen=branches[0], rejected=branches[1], agreement=label).margin

    def gain_in_half(parts: list[torch.Tensor]) -> torch.Tensor:
        policy, target, reference = parts
        errors = [(x - target).square().flatten(1).mean(1) for x in (reference, policy)]
        return (errors[0] - errors[1]).float()

    honest, exact = margin(torch.bfloat16), margin(torch.float64)
    careless = gain_in_half(sides[0]) - gain_in_half(sides[1])
    assert (1000 * (honest.double() - exact)).abs().max() < 1e-3
    assert (honest.sign() == exact.sign()).all()
    assert (careless.sign() != exact.sign()).float().mean() > 0.3


@pytest.mark.parametrize("beta", [-1.0, 0.0, math.inf, math.nan])
def test_a_bad_beta_says_what_to_do(beta):
    with pytest.raises(SettingError, match=r"Got beta=\S+\. Need beta > 0\. Use 2000 for SD 1\.5"):
        DPO(beta=beta)
