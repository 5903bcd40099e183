"""SDPO: the value of its base, and a rejected gradient that cannot hurt the chosen image."""

import math
from collections.abc import Sequence

import pytest
import torch

from contracts.objective_contract import contrast, tensors
from objectives.golden_pairs import golden
from palate.core.contrast import Contrast, Denoised
from palate.core.problems import SettingError
from palate.objectives import DMPO, DPO, DSPO, SDPO

HARD = torch.ones(6, dtype=torch.float64)
BASES = [("dpo", DPO()), ("dmpo", DMPO()), ("dspo", DSPO())]


def gradients(objective, parts) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of the summed loss with respect to the chosen and rejected predictions."""
    leaves = [parts[f"policy_{side}"].clone().requires_grad_() for side in ("chosen", "rejected")]
    moved = {**parts, "policy_chosen": leaves[0], "policy_rejected": leaves[1]}
    objective(contrast(moved, HARD)).loss.sum().backward()
    assert leaves[0].grad is not None
    assert leaves[1].grad is not None
    return leaves[0].grad, leaves[1].grad


def aligned() -> dict[str, torch.Tensor]:
    """Pairs whose residuals point the same way, so that the loser pulls at the winner."""
    parts = tensors()
    residual = parts["policy_chosen"] - parts["target_chosen"]
    parts["policy_rejected"] = parts["target_rejected"] + 1.1 * residual
    return parts


def pair(win: Sequence[float], lose: Sequence[float]) -> Contrast:
    """One pair with the given residuals."""
    sides = [
        Denoised(
            prediction=torch.tensor([values], dtype=torch.float64),
            target=torch.zeros(1, len(values), dtype=torch.float64),
            reference=torch.zeros(1, len(values), dtype=torch.float64),
        )
        for values in (win, lose)
    ]
    label = torch.ones(1, dtype=torch.float64)
    return Contrast(chosen=sides[0], rejected=sides[1], agreement=label)


@pytest.mark.parametrize(("base", "plain"), BASES, ids=lambda value: str(value)[:5])
def test_its_value_is_that_of_its_base_bit_for_bit(base, plain):
    for kind in (torch.float64, torch.bfloat16):
        pairs = contrast(tensors(kind), torch.tensor([1.0, 0.9, 0.5, 0.6, 0.0, 0.8]))
        assert torch.equal(SDPO(base=base)(pairs).loss, plain(pairs).loss)


@pytest.mark.parametrize(
    ("win", "lose", "share"),
    [
        ([1.0, 0.0], [2.0, 5.0], 0.05),  # ⟨w, l⟩ = 2, ‖w‖² = 1: (1 − .9) · 1 / 2
        ([1.0, 0.0], [0.05, 3.0], 1.0),  # (1 − .9) · 1 / .05 = 2, held at 1
        ([1.0, 0.0], [-2.0, 5.0], 1.0),  # they pull apart: nothing to guard against
        ([1.0, 0.0], [0.0, 5.0], 1.0),
        ([0.0, 0.0], [1.0, 1.0], 1.0),  # a perfect winner has no direction
    ],
)
def test_the_share_by_hand(win, lose, share):
    found = SDPO(slack=0.9)(pair(win, lose)).extras["safeguard"].item()
    assert found == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(("base", "plain"), BASES[:2], ids=["dpo", "dmpo"])
def test_only_the_rejected_gradient_is_scaled_by_the_share(base, plain):
    parts = aligned()
    objective = SDPO(base=base, slack=0.6)
    share = objective(contrast(parts, HARD)).extras["safeguard"].reshape(-1, 1, 1, 1)
    assert share.flatten().tolist() == pytest.approx([0.4 / 1.1] * 6, abs=1e-12)
    (chosen, rejected), (free_chosen, free_rejected) = (
        gradients(one, parts) for one in (objective, plain)
    )
    assert torch.equal(chosen, free_chosen)
    torch.testing.assert_close(rejected, share * free_rejected, rtol=1e-12, atol=1e-15)


def test_to_first_order_the_chosen_image_does_not_get_worse():
    """A step moves both predictions together, as shared weights do; DPO's step is a loss here."""
    parts = aligned()
    for objective, worse in ((DPO(), True), (SDPO(slack=0.0), False), (SDPO(slack=0.9), False)):
        chosen, rejected = gradients(objective, parts)
        residual = parts["policy_chosen"] - parts["target_chosen"]
        change = -((chosen + rejected) * residual).flatten(1).sum(1)
        assert ((change > 1e-12) == worse).all()


def test_one_share_for_all_pairs_as_in_the_released_code():
    """It asks for two means: of the inner products, and of the winners' squares."""
    parts, asked = tensors(), []

    def mean(values: torch.Tensor) -> torch.Tensor:
        asked.append(values.clone())
        return values.mean()

    pairs = contrast(parts, HARD, mean=mean)
    share = SDPO(per="batch", slack=0.2)(pairs).extras["safeguard"]
    win = (parts["policy_chosen"] - parts["target_chosen"]).flatten(1)
    lose = (parts["policy_rejected"] - parts["target_rejected"]).flatten(1)
    along, size = float((win * lose).sum()), float(win.square().sum())
    expected = 1.0 if along <= 0 else min(1.0, 0.8 * size / along)
    assert len(asked) == 2
    assert share.tolist() == pytest.approx([expected] * 6, abs=1e-12)


def test_beta_belongs_to_the_base():
    pairs = contrast(tensors(), HARD)
    assert torch.equal(SDPO(beta=5000.0)(pairs).loss, DPO(beta=5000.0)(pairs).loss)
    found = SDPO(base="dspo", beta=0.05)(pairs).loss
    assert torch.equal(found, DSPO(beta=0.05)(pairs).loss)
    assert SDPO().at_init() == math.log(2)
    assert SDPO(base="dmpo").at_init() == DMPO().at_init()


def test_errors_alone_will_not_do():
    with pytest.raises(SettingError, match=r"Need predictions of policy and reference"):
        SDPO()(golden())


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base": "ipo"}, r"Got base='ipo'\. Need one of dmpo, dpo, dspo"),
        ({"per": "batches"}, r"Did you mean batch\?"),
        ({"slack": 1.0}, r"Need 0 <= slack < 1\. Use 0\.9 on SD 1\.5"),
        ({"beta": 0.0, "base": "dspo"}, r"Need beta > 0\. Leave it out for the default of dspo"),
    ],
)
def test_bad_settings_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        SDPO(**settings)
