"""Diffusion-NPO: DPO with winner and loser exchanged."""

import math
from dataclasses import replace

import pytest
import torch

from contracts.objective_contract import contrast, tensors
from objectives.golden_pairs import LOGITS, golden, slopes, tensor
from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DPO, NPO


def test_the_golden_vector_to_ten_digits():
    """Logits 1.5, −1.5, 0.5 and 0 at β = 2000: log(1 + eᵐ), the loss of losing."""
    verdict = NPO(beta=2000.0)(golden())
    expected = [math.log1p(math.exp(m)) for m in LOGITS]
    assert verdict.loss.tolist() == pytest.approx(expected, abs=1e-10)
    found = slopes(NPO(beta=2000.0), golden(), 1000.0)
    assert found == pytest.approx([1 / (1 + math.exp(-m)) for m in LOGITS], abs=1e-10)


@pytest.mark.parametrize("pairs", [golden(1.0), golden(0.7), contrast(tensors())])
def test_it_is_dpo_with_the_other_image_preferred(pairs: Contrast):
    exchanged = replace(pairs, chosen=pairs.rejected, rejected=pairs.chosen)
    torch.testing.assert_close(NPO(beta=700.0)(pairs).loss, DPO(beta=700.0)(exchanged).loss)


def test_its_logit_is_still_that_of_the_chosen_image():
    """So that a negative model shows what it is: it gives the chosen image the worse odds."""
    torch.testing.assert_close(NPO(beta=2000.0)(golden()).extras["logit"], tensor(*LOGITS))


def test_a_bad_beta_says_what_to_do():
    with pytest.raises(SettingError, match=r"Need beta > 0\. Use 1000 for SD 1\.5"):
        NPO(beta=0.0)
