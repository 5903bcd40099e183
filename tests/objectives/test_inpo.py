"""InPO: Diffusion-DPO's loss; what is its own is the evidence it asks for."""

import math

import pytest
import torch

from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DPO, InPO


def test_one_pair_by_hand():
    """Gains +0.002 and −0.001, so the margin is 0.003, the logit 3, the loss log(1 + e⁻³)."""
    pairs = Contrast.from_errors([0.010], [0.012], [0.011], [0.010])
    assert float(InPO()(pairs).loss) == pytest.approx(math.log1p(math.exp(-3)), abs=1e-10)


def test_on_any_evidence_it_is_the_loss_of_diffusion_dpo():
    pairs = Contrast.from_errors([0.10, 0.12], [0.11, 0.11], [0.2, 0.1], [0.2, 0.2], [1.0, 0.7])
    assert torch.equal(InPO(beta=500.0)(pairs).loss, DPO(beta=500.0)(pairs).loss)


def test_it_asks_for_ten_steps_by_the_policy_with_a_little_noise():
    """The released code's grid has ten levels and a tenth of the posterior deviation."""
    asked = dict(InPO.needs.settings)
    assert InPO.needs.evidence == ("inverted",)
    assert asked["inversion.by"] == "policy"
    assert (asked["inversion.steps"], asked["inversion.jitter"]) == (10, 0.1)
    assert (asked["inversion.target"], asked["inversion.visits"]) == ("clean", 1)


@pytest.mark.parametrize("beta", [-1.0, 0.0, math.inf, math.nan])
def test_a_bad_beta_says_what_to_do(beta):
    with pytest.raises(SettingError, match=r"Need beta > 0\. Use 2000 for SD 1\.5"):
        InPO(beta=beta)
