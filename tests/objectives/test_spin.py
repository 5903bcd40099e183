"""SPIN-Diffusion: the data always wins."""

import math

import pytest
import torch

from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DPO, SPIN


def pairs(agreement: float = 1.0) -> Contrast:
    return Contrast.from_errors([0.010], [0.012], [0.011], [0.010], agreement)


def test_one_pair_by_hand():
    """Gains +0.002 and −0.001, so the margin is 0.003, the logit 3, the loss log(1 + e⁻³)."""
    assert float(SPIN()(pairs()).loss) == pytest.approx(math.log1p(math.exp(-3)), abs=1e-10)


def test_nobody_labelled_anything_so_no_label_is_read():
    for agreement in (0.0, 0.5, 0.9):
        assert torch.equal(SPIN()(pairs(agreement)).loss, SPIN()(pairs()).loss)


def test_it_is_diffusion_dpo_with_the_data_as_the_winner():
    assert torch.equal(SPIN(beta=5000.0)(pairs()).loss, DPO(beta=5000.0)(pairs()).loss)


def test_it_asks_for_three_rounds_of_pictures_of_its_own():
    assert SPIN.needs.generation
    assert not SPIN.needs.scorer
    assert SPIN.needs.settings["selfplay.iterations"] == 3
    assert SPIN.needs.settings["selfplay.opponent"] == "renoised"


@pytest.mark.parametrize("beta", [-1.0, 0.0, math.inf, math.nan])
def test_a_bad_beta_says_what_to_do(beta):
    with pytest.raises(SettingError, match=r"Need beta > 0\. The paper uses 2000 in the first"):
        SPIN(beta=beta)
