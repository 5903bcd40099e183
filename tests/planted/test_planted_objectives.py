"""Known bugs, each of which must make the objective contract fail; and a control that passes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from contracts.objective_contract import CHECKS
from contracts.verdicts import failing
from palate.core.contrast import Contrast, Denoised, Verdict
from palate.objectives import Needs, Objective

Formula = Callable[[float, Contrast], Tensor]


def planted(
    formula: Formula,
    *,
    needs: Needs | None = None,
    start: float = 0.6931471805599453,
    paper: str = "arXiv:2311.12908",
) -> type[Objective]:
    """Diffusion-DPO with one of its parts replaced."""
    declared = Needs(reference=True) if needs is None else needs

    @final
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Planted(Objective):
        """Diffusion-DPO with one planted bug."""

        beta: float = 2000.0
        name: ClassVar[str] = "dpo"
        title: ClassVar[str] = "Diffusion-DPO"
        year: ClassVar[int] = 2023
        needs: ClassVar[Needs] = declared

        def __call__(self, pairs: Contrast) -> Verdict:
            return Verdict(formula(self.beta, pairs))

        def at_init(self) -> float:
            return start

    Planted.paper = paper
    return Planted


def coin(logit: Tensor, agreement: Tensor) -> Tensor:
    """The right loss for a logit."""
    return -(agreement * logsigmoid(logit) + (1 - agreement) * logsigmoid(-logit))


def right(beta: float, pairs: Contrast) -> Tensor:
    """The control: no bug."""
    return coin(beta / 2 * pairs.margin, pairs.agreement)


def mean_before_sigmoid(beta: float, pairs: Contrast) -> Tensor:
    return coin((beta / 2 * pairs.margin).mean().expand_as(pairs.margin), pairs.agreement)


def first_label_for_everyone(beta: float, pairs: Contrast) -> Tensor:
    return coin(beta / 2 * pairs.margin, pairs.agreement[0].expand_as(pairs.margin))


def labels_ignored(beta: float, pairs: Contrast) -> Tensor:
    return coin(beta / 2 * pairs.margin, torch.ones_like(pairs.agreement))


def ties_are_wins(beta: float, pairs: Contrast) -> Tensor:
    return coin(beta / 2 * pairs.margin, (pairs.agreement >= 0.5).to(pairs.agreement))


def beta_without_half(beta: float, pairs: Contrast) -> Tensor:
    return coin(beta * pairs.margin, pairs.agreement)


def wrong_sign(beta: float, pairs: Contrast) -> Tensor:
    return coin(-beta / 2 * pairs.margin, pairs.agreement)


def batch_mean_in_the_weight(beta: float, pairs: Contrast) -> Tensor:
    size = pairs.margin.detach().abs()
    return right(beta, pairs) * (1 + size) / (1 + size.mean())


def weight_by_place_in_the_batch(beta: float, pairs: Contrast) -> Tensor:
    return right(beta, pairs) * (1 + 0.1 * torch.arange(len(pairs.margin)))


def already_reduced(beta: float, pairs: Contrast) -> Tensor:
    return right(beta, pairs).mean()


def errors_in_half_precision(beta: float, pairs: Contrast) -> Tensor:
    def gain(side: object) -> Tensor:
        if not isinstance(side, Denoised) or side.reference is None:
            return side.gain  # pyright: ignore[reportAttributeAccessIssue]
        policy = (side.prediction - side.target).square().flatten(1).mean(1)
        return (side.reference - side.target).square().flatten(1).mean(1) - policy

    margin = gain(pairs.chosen) - gain(pairs.rejected)
    return coin(beta / 2 * margin.to(pairs.agreement), pairs.agreement)


def sums_for_means(beta: float, pairs: Contrast) -> Tensor:
    return coin(beta / 2 * 24 * pairs.margin, pairs.agreement)


def policy_only(beta: float, pairs: Contrast) -> Tensor:
    assert pairs.rejected is not None
    return coin(beta / 2 * (pairs.rejected.error - pairs.chosen.error), pairs.agreement)


def chosen_detached(beta: float, pairs: Contrast) -> Tensor:
    assert pairs.rejected is not None
    margin = pairs.chosen.gain.detach() - pairs.rejected.gain
    return coin(beta / 2 * margin, pairs.agreement)


def overflowing_logarithm(beta: float, pairs: Contrast) -> Tensor:
    chance = torch.sigmoid(beta / 2 * pairs.margin)
    return -(pairs.agreement * chance.log() + (1 - pairs.agreement) * (1 - chance).log())


def draws_from_the_global_generator(beta: float, pairs: Contrast) -> Tensor:
    return right(beta, pairs) + 1e-12 * torch.rand_like(pairs.margin)


def writes_into_its_input(beta: float, pairs: Contrast) -> Tensor:
    assert isinstance(pairs.chosen, Denoised)
    loss = right(beta, pairs)
    pairs.chosen.target.add_(1e-9)
    return loss


LOSING_BUGS: tuple[Formula, ...] = (
    mean_before_sigmoid,
    first_label_for_everyone,
    labels_ignored,
    ties_are_wins,
    beta_without_half,
    wrong_sign,
    batch_mean_in_the_weight,
    weight_by_place_in_the_batch,
    already_reduced,
    errors_in_half_precision,
    sums_for_means,
    policy_only,
    chosen_detached,
    overflowing_logarithm,
    draws_from_the_global_generator,
    writes_into_its_input,
)


class Unsealed(Objective):
    """Neither final nor a frozen record, and it keeps a setting it does not show."""

    name = "dpo"
    title = "Diffusion-DPO"
    paper = "arXiv:2311.12908"
    year = 2023
    needs = Needs(reference=True)

    def __call__(self, pairs: Contrast) -> Verdict:
        return Verdict(right(2000.0, pairs))

    def at_init(self) -> float:
        return 0.6931471805599453


STRUCTURAL_BUGS: dict[str, type[Objective]] = {
    "not a final frozen record": Unsealed,
    "no citation": planted(right, paper="a paper"),
    "claims another start": planted(right, start=0.5),
    "uses a reference it did not declare": planted(right, needs=Needs(reference=False)),
    "declares a reference and reads none": planted(
        lambda beta, pairs: coin(beta * (0.1 - pairs.chosen.error), pairs.agreement)
    ),
}
BUGS = {formula.__name__: planted(formula) for formula in LOSING_BUGS} | STRUCTURAL_BUGS


def test_the_control_without_a_bug_passes():
    assert failing(CHECKS, planted(right)) == set()


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_the_contract_catches(bug):
    assert failing(CHECKS, BUGS[bug])


def test_no_check_is_idle():
    """A check that no planted bug can fail might not be able to fail at all."""
    caught = [failing(CHECKS, kind) for kind in BUGS.values()]
    assert {check.__name__ for check in CHECKS} == set().union(*caught)
