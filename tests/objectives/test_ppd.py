"""PPD: Diffusion-DPO's loss; what is its own is whom the policy is told the pair is by."""

import math

import pytest
import torch

from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DPO, PPD


def test_one_pair_by_hand():
    """Gains +0.002 and −0.001, so the margin is 0.003; at β = 5000 the logit is 7.5."""
    pairs = Contrast.from_errors([0.010], [0.012], [0.011], [0.010])
    verdict = PPD()(pairs)
    assert float(verdict.extras["logit"]) == pytest.approx(7.5, abs=1e-10)
    assert float(verdict.loss) == pytest.approx(math.log1p(math.exp(-7.5)), abs=1e-10)


def test_a_soft_label_counts_both_outcomes_by_hand():
    """0.7 · log(1 + e⁻¹) + 0.3 · log(1 + e): margin 0.002 at β = 1000 is a logit of 1."""
    pairs = Contrast.from_errors([0.010], [0.012], [0.010], [0.010], [0.7])
    expected = 0.7 * math.log1p(math.exp(-1)) + 0.3 * math.log1p(math.e)
    assert float(PPD(beta=1000.0)(pairs).loss) == pytest.approx(expected, abs=1e-10)


def test_a_pair_that_nobody_is_told_of_is_a_fair_coin_without_a_slope():
    """Nobody's policy is the reference: margin 0 and loss ln 2, whatever the policy learned."""
    error = torch.tensor([0.011], dtype=torch.float64)
    pairs = Contrast.from_errors(error, error, error + 0.1, error + 0.1)
    assert float(PPD()(pairs).loss) == PPD().at_init() == math.log(2)


def test_on_any_evidence_it_is_the_loss_of_diffusion_dpo():
    pairs = Contrast.from_errors([0.10, 0.12], [0.11, 0.11], [0.2, 0.1], [0.2, 0.2], [1.0, 0.7])
    assert torch.equal(PPD(beta=500.0)(pairs).loss, DPO(beta=500.0)(pairs).loss)


def test_it_asks_for_people_known_by_four_pairs():
    """The notes' N is 4; a rate of dropping was not found, and 0.1 stands for it."""
    asked = dict(PPD.needs.settings)
    assert PPD.needs.users
    assert (asked["personal.examples"], asked["personal.dropout"]) == (4, 0.1)


@pytest.mark.parametrize("beta", [-1.0, 0.0, math.inf, math.nan])
def test_a_bad_beta_says_what_to_do(beta):
    with pytest.raises(SettingError, match=r"Need beta > 0\. Use 5000 to begin with"):
        PPD(beta=beta)
