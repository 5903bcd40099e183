"""SEE-DPO: entropy beside the reward, on every kind of evidence."""

import math

import pytest
import torch

from contracts.objective_contract import contrast, tensors
from objectives.golden_pairs import golden
from palate.core.contrast import Contrast, Stepped
from palate.core.problems import SettingError
from palate.objectives import D3PO, DPO, SEEDPO, SPO


def steps() -> Contrast:
    """Log-ratios of 0.05, 0.5, −0.5 on the chosen side and −0.02, 0, 0.3 on the other."""
    reference = torch.tensor([-1.0, -1.2, -0.8], dtype=torch.float64)
    chosen = reference + torch.tensor([0.05, 0.5, -0.5], dtype=torch.float64)
    rejected = reference - 0.1 + torch.tensor([-0.02, 0.0, 0.3], dtype=torch.float64)
    return Contrast(
        chosen=Stepped(policy=chosen, reference=reference),
        rejected=Stepped(policy=rejected, reference=reference - 0.1),
        agreement=torch.tensor([1.0, 0.8, 0.5], dtype=torch.float64),
    )


def test_one_pair_by_hand():
    """Errors .100, .110 under the policy and .101, .1095 under the reference; β 2000, γ 200.

    z = −½ [2200 · (−.010) − 2000 · (−.0085)] = −½ (−22 + 17) = 2.5.
    """
    pair = Contrast.from_errors([0.100], [0.101], [0.110], [0.1095])
    for objective in (SEEDPO(gamma=0.1), SEEDPO(gamma=200.0, gamma_mode="absolute")):
        verdict = objective(pair)
        assert verdict.extras["logit"].item() == pytest.approx(2.5, abs=1e-10)
        assert verdict.loss.item() == pytest.approx(math.log1p(math.exp(-2.5)), abs=1e-10)


@pytest.mark.parametrize("mode", ["relative", "absolute"])
@pytest.mark.parametrize("agreement", [1.0, 0.7])
def test_without_entropy_it_is_dpo_bit_for_bit(mode, agreement):
    """On noised pictures, errors or predictions, in float64 and bfloat16."""
    base, objective = DPO(beta=500.0), SEEDPO(beta=500.0, gamma=0.0, gamma_mode=mode)
    assert torch.equal(objective(golden(agreement)).loss, base(golden(agreement)).loss)
    for kind in (torch.float64, torch.bfloat16):
        pairs = contrast(tensors(kind), torch.full((6,), agreement))
        assert torch.equal(objective(pairs).loss, base(pairs).loss)


@pytest.mark.parametrize(("base", "beta"), [(D3PO, 0.1), (SPO, 10.0)])
def test_without_entropy_it_is_the_clipped_base_bit_for_bit(base, beta):
    objective = SEEDPO(beta=beta, gamma=0.0, clip=0.1)
    assert torch.equal(objective(steps()).loss, base(beta=beta, clip=0.1)(steps()).loss)


def test_on_steps_the_entropy_is_that_of_the_clipped_policy():
    """Pair two, β 10, γ 1, clip 0.1: the ratio e^0.5 is held at 1.1, the other side is 1.

    The log-probabilities are −1.2 + log 1.1 and −1.3, so
    z = 10 · log 1.1 + 1 · (0.1 + log 1.1).
    """
    expected = 10 * math.log(1.1) + 0.1 + math.log(1.1)
    logit = SEEDPO(beta=10.0, gamma=0.1, clip=0.1)(steps()).extras["logit"]
    assert logit[1].item() == pytest.approx(expected, abs=1e-10)


def test_outside_the_band_the_entropy_adds_no_gradient():
    policy = torch.tensor([-0.5], dtype=torch.float64, requires_grad=True)
    still = torch.tensor([-1.0], dtype=torch.float64)
    side = Stepped(policy=still, reference=still)
    pair = Contrast(
        chosen=Stepped(policy=policy, reference=still), rejected=side, agreement=torch.ones(1)
    )
    SEEDPO(beta=10.0, gamma=0.5, clip=0.1)(pair).loss.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [0.0]


def test_the_best_policy_is_the_reference_flattened():
    """Three pictures, exact log-probabilities, soft labels from rewards: the closed form wins.

    With p* ∝ p_ref^{β/(β+γ)} · e^{r/(β+γ)} the logit of every pair is the difference of rewards,
    so the loss of every pair is the entropy of its label, the least there is.
    """
    beta, gamma = 0.7, 0.4
    reference = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    reward = torch.tensor([0.2, -0.5, 1.0], dtype=torch.float64)
    best = torch.log_softmax((beta * reference + reward) / (beta + gamma), 0)
    first, second = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    pairs = Contrast(
        chosen=Stepped(policy=best[first], reference=reference[first]),
        rejected=Stepped(policy=best[second], reference=reference[second]),
        agreement=torch.sigmoid(reward[first] - reward[second]),
    )
    verdict = SEEDPO(beta=beta, gamma=gamma, gamma_mode="absolute")(pairs)
    torch.testing.assert_close(verdict.extras["logit"], reward[first] - reward[second])


def test_its_start_depends_on_the_pictures_unless_there_is_no_entropy():
    """Policy = reference: z₀ = (γ/2)(e_refˡ − e_refʷ), 0.1 · 1000 · 0.01 = 1 here."""
    still = Contrast.from_errors([0.1], [0.1], [0.11], [0.11])
    assert SEEDPO()(still).extras["logit"].item() == pytest.approx(1.0, abs=1e-10)
    assert SEEDPO().at_init() is None
    assert SEEDPO(gamma=0.0).at_init() == math.log(2)


def test_a_clip_on_noised_pictures_is_refused():
    with pytest.raises(SettingError, match=r"Got clip=0\.1 on evidence that is not steps"):
        SEEDPO(clip=0.1)(golden())


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma": -0.1}, r"Need gamma >= 0\. Use 0\.1 with gamma_mode=relative"),
        ({"gamma_mode": "relativ"}, r"Did you mean relative\?"),
        ({"clip": 1.0}, r"clip < 1\. Use 0\.1, as D3PO and SPO do"),
        ({"beta": 0.0}, r"Need beta > 0"),
    ],
)
def test_bad_settings_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        SEEDPO(**settings)
