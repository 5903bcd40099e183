"""DSPO: a target that leans away from the reference, on predictions themselves."""

import math

import pytest
import torch

from contracts.objective_contract import contrast, tensors
from objectives.golden_pairs import golden
from palate.core.contrast import Contrast, Denoised
from palate.core.problems import SettingError
from palate.objectives import DSPO, SFT


def side(policy: list[float], target: list[float], reference: list[float]) -> Denoised:
    rows = [torch.tensor([row], dtype=torch.float64) for row in (policy, target, reference)]
    return Denoised(prediction=rows[0], target=rows[1], reference=rows[2])


def pair(agreement: float = 1.0) -> Contrast:
    """Errors: chosen .05 (policy) and .10 (reference), rejected .04 and .02; margin .07."""
    return Contrast(
        chosen=side([0.1, 0.3], [0.0, 0.0], [0.2, 0.4]),
        rejected=side([0.2, 0.2], [0.0, 0.0], [0.2, 0.0]),
        agreement=torch.tensor([agreement], dtype=torch.float64),
    )


def test_one_pair_by_hand():
    """Residuals .1, .3; the policy moved by −.1, −.1; β = 2: gains .05 and −.02, logit .07.

    The lean is 2 · (1 − σ(.07)); the loss is ((.1 + .1 lean)² + (.3 + .1 lean)²) / 2.
    """
    verdict = DSPO(beta=2.0)(pair())
    assert verdict.extras["logit"].item() == pytest.approx(0.07, abs=1e-12)
    lean = 2 / (1 + math.exp(0.07))
    expected = ((0.1 + 0.1 * lean) ** 2 + (0.3 + 0.1 * lean) ** 2) / 2
    assert verdict.loss.item() == pytest.approx(expected, abs=1e-10)


def test_the_gradient_flows_through_the_odds_as_well():
    """The rejected prediction enters through the odds alone, and still has a gradient."""
    parts = tensors()
    leaf = parts["policy_rejected"].requires_grad_()
    DSPO(beta=1.0)(contrast(parts, torch.ones(6, dtype=torch.float64))).loss.sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad.flatten(1).norm(dim=1) > 0).all()


def test_with_hardly_any_lean_it_is_supervised_fine_tuning():
    found = DSPO(beta=1e-12)(pair()).loss
    torch.testing.assert_close(found, SFT()(pair()).loss, rtol=0, atol=1e-12)


def test_a_soft_label_averages_both_outcomes():
    kept = DSPO(beta=2.0)(pair(1.0)).loss
    turned = DSPO(beta=2.0)(pair(0.0)).loss
    torch.testing.assert_close(DSPO(beta=2.0)(pair(0.7)).loss, 0.7 * kept + 0.3 * turned)


def test_the_released_sdxl_branch_is_another_formula():
    """Chosen moved by a mean square of .01, below .1: the loss is (1 − s)² alone.

    Rejected moved by .02 on average, below as well. At a move of .16 it is (1 − s)² · .16.
    """
    lean = 1 / (1 + math.exp(0.07))
    assert DSPO(beta=2.0, form="sdxl")(pair()).loss.item() == pytest.approx(lean**2, abs=1e-10)
    far = Contrast(
        chosen=side([0.6, 0.0], [0.0, 0.0], [0.2, 0.4]),
        rejected=side([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
        agreement=torch.ones(1, dtype=torch.float64),
    )
    logit = 0.10 - 0.18
    expected = 0.16 / (1 + math.exp(logit)) ** 2
    assert DSPO(beta=2.0, form="sdxl")(far).loss.item() == pytest.approx(expected, abs=1e-10)


def test_errors_alone_will_not_do():
    with pytest.raises(SettingError, match=r"Need predictions of policy and reference"):
        DSPO()(golden())


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, r"Need beta > 0\. Use 0\.001, or 1000 with form=sdxl"),
        ({"form": "sdx"}, r"Got form='sdx'\. Need one of sd15, sdxl\. Did you mean sdxl\?"),
    ],
)
def test_bad_settings_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        DSPO(**settings)
