"""What every objective must do, as plain functions, so that planted bugs can be run through too.

`CHECKS` is the suite. Each check takes a way to build the objective with its default settings
and raises when the promise is broken. The pairs differ in every field: a suite whose labels
were all 1 once missed "everyone uses the first pair's label".
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from contracts.restatements import RESTATEMENTS, Numbers
from palate.core.contrast import Contrast, Denoised, Measured, Verdict
from palate.core.problems import SettingError
from palate.objectives import Objective

Make = Callable[[], Objective]
AGREEMENT = (1.0, 0.9, 0.5, 0.65, 0.0, 0.8)
SHAPE = (len(AGREEMENT), 2, 3, 4)


def noise(name: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers of the shape of a small batch of latents."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(name), dtype=dtype)


def tensors(dtype: torch.dtype = torch.float64, spread: float = 0.02) -> dict[str, Tensor]:
    """Predictions of policy and reference on two images; logits of ordinary size at β = 2000."""
    target_chosen, target_rejected = noise(1), noise(2)
    found = {
        "target_chosen": target_chosen,
        "target_rejected": target_rejected,
        "reference_chosen": target_chosen + 0.3 * noise(3),
        "reference_rejected": target_rejected + 0.3 * noise(4),
    }
    found["policy_chosen"] = found["reference_chosen"] + spread * noise(5)
    found["policy_rejected"] = found["reference_rejected"] + spread * noise(6)
    return {name: value.to(dtype) for name, value in found.items()}


def contrast(parts: dict[str, Tensor], agreement: Tensor | None = None, **others: Any) -> Contrast:
    """Pairs from predictions, as the trainer builds them."""
    wide = torch.promote_types(parts["target_chosen"].dtype, torch.float32)
    if agreement is None:
        agreement = torch.tensor(AGREEMENT, dtype=wide)
    sides = [
        Denoised(
            prediction=parts[f"policy_{side}"],
            target=parts[f"target_{side}"],
            reference=parts[f"reference_{side}"],
        )
        for side in ("chosen", "rejected")
    ]
    facts = {"level": torch.arange(len(agreement)) * 137 % 1000, "progress": 0.37, **others}
    return Contrast(chosen=sides[0], rejected=sides[1], agreement=agreement, **facts)


def with_gradient(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, the policy's as leaves that collect a gradient."""
    return {
        name: value.detach().clone().requires_grad_(name.startswith("policy"))
        for name, value in parts.items()
    }


def numbers(pairs: Contrast, row: int) -> Numbers:
    """One pair as plain floats, in float64, by an arithmetic of our own."""

    def error(prediction: Tensor | None, target: Tensor) -> float:
        assert prediction is not None
        gaps = (prediction[row].double() - target[row].double()).flatten().tolist()
        return math.fsum(gap * gap for gap in gaps) / len(gaps)

    chosen, rejected = pairs.chosen, pairs.rejected
    assert isinstance(chosen, Denoised)
    assert isinstance(rejected, Denoised)
    return Numbers(
        policy_chosen=error(chosen.prediction, chosen.target),
        reference_chosen=error(chosen.reference, chosen.target),
        policy_rejected=error(rejected.prediction, rejected.target),
        reference_rejected=error(rejected.reference, rejected.target),
        agreement=float(pairs.agreement[row]),
    )


def check_one_finite_loss_per_pair(make: Make) -> None:
    """The trainer reduces; an objective never does."""
    verdict = make()(contrast(tensors()))
    assert isinstance(verdict, Verdict)
    assert verdict.loss.shape == SHAPE[:1]
    assert verdict.loss.dtype == torch.float64
    assert torch.isfinite(verdict.loss).all()
    for name, extra in verdict.extras.items():
        assert extra.shape == SHAPE[:1], name
        assert not extra.requires_grad, name


def check_equals_an_independent_restatement(make: Make) -> None:
    """To 1e-10 in float64 (A6), pair by pair, with soft and hard labels."""
    objective, pairs = make(), contrast(tensors())
    formula = RESTATEMENTS[objective.name]
    settings = dataclasses.asdict(objective)
    expected = [formula(numbers(pairs, row), settings) for row in range(SHAPE[0])]
    found = objective(pairs).loss
    assert (found - torch.tensor(expected, dtype=torch.float64)).abs().max() <= 1e-10


def check_a_pair_judged_alone_gets_the_same_loss(make: Make) -> None:
    """Company changes nothing, except through the one collective an objective may use.

    What `mean` answered in company is replayed to each pair alone, so that a declared batch
    statistic passes and a hidden one does not.
    """
    parts, answers = tensors(), []

    def remember(values: Tensor) -> Tensor:
        answers.append(values.mean())
        return answers[-1]

    together = make()(contrast(parts, mean=remember)).loss
    for row in range(SHAPE[0]):
        replay = iter(list(answers))
        alone = contrast(
            {name: value[row : row + 1] for name, value in parts.items()},
            torch.tensor(AGREEMENT[row : row + 1], dtype=torch.float64),
            level=torch.tensor([row * 137 % 1000]),
            mean=lambda values, replay=replay: next(replay),
        )
        torch.testing.assert_close(make()(alone).loss[0], together[row], rtol=1e-12, atol=1e-14)


def check_order_does_not_matter(make: Make) -> None:
    """Shuffled pairs get the same losses, shuffled."""
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    parts, labels = tensors(), torch.tensor(AGREEMENT, dtype=torch.float64)
    level = torch.arange(SHAPE[0]) * 137 % 1000
    shuffled = {name: value[order] for name, value in parts.items()}
    found = make()(contrast(shuffled, labels[order], level=level[order])).loss
    torch.testing.assert_close(found, make()(contrast(parts)).loss[order], rtol=1e-12, atol=1e-14)


def check_starts_where_it_says(make: Make) -> None:
    """Policy = reference: margin exactly 0 and the declared loss for every label (A8)."""
    objective, parts = make(), tensors(spread=0.0)
    pairs = contrast(parts)
    assert pairs.margin.tolist() == [0.0] * SHAPE[0]
    start = objective.at_init()
    if start is not None:
        assert (objective(pairs).loss - start).abs().max() <= 1e-15


def check_rebuilds_from_its_settings(make: Make) -> None:
    """A run record holds the name and the settings, as JSON, and nothing else."""
    objective = make()
    settings = json.loads(json.dumps(dataclasses.asdict(objective)))
    again = type(objective)(**settings)
    assert again == objective
    assert again is not objective
    loss = objective(contrast(tensors())).loss
    torch.testing.assert_close(again(contrast(tensors())).loss, loss, rtol=0, atol=0)


def check_is_a_final_frozen_record(make: Make) -> None:
    """Settings cannot change under a running training."""
    kind = type(make())
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert getattr(kind, "__final__", False), "mark the class @final"
    assert "__slots__" in kind.__dict__
    assert all(field.kw_only for field in dataclasses.fields(kind))


def check_says_what_it_is(make: Make) -> None:
    """Name, title, citation and year stand on the class, and it explains itself."""
    objective = make()
    assert re.fullmatch(r"[a-z][a-z0-9_]*", objective.name)
    assert objective.title
    assert re.match(r"(arXiv:\d{4}\.\d{4,5}|doi:\S+)$", objective.paper)
    assert 2015 <= objective.year <= 2100
    assert len((type(objective).__doc__ or "").split()) >= 5


def check_a_hard_label_pays_for_the_chosen_image(make: Make) -> None:
    """At the start, a better chosen image lowers the loss and a better rejected one does not."""
    objective, parts = make(), with_gradient(tensors(spread=0.0))
    pairs = contrast(parts, torch.ones(SHAPE[0], dtype=torch.float64))
    objective(pairs).loss.sum().backward()
    toward = {
        side: (parts[f"policy_{side}"].grad * (parts[f"target_{side}"] - parts[f"policy_{side}"]))
        .flatten(1)
        .sum(1)
        if parts[f"policy_{side}"].grad is not None
        else torch.zeros(SHAPE[0])
        for side in ("chosen", "rejected")
    }
    assert (toward["chosen"] < 0).all(), "denoising the chosen image better must pay"
    if objective.needs.rejected:
        assert (toward["rejected"] > 0).all(), "denoising the rejected image better must cost"


def check_turning_a_pair_and_its_label_changes_nothing(make: Make) -> None:
    """Where soft labels are allowed, the order of the two images carries no information."""
    objective = make()
    if "soft" not in objective.needs.labels:
        return
    pairs = contrast(tensors())
    turned = objective(pairs.swap()).loss
    torch.testing.assert_close(turned, objective(pairs).loss, rtol=1e-12, atol=1e-14)


def check_a_label_touches_only_its_own_pair(make: Make) -> None:
    """Changing one label changes that loss at most."""
    objective, parts = make(), tensors()
    before = objective(contrast(parts)).loss
    for row in range(SHAPE[0]):
        labels = torch.tensor(AGREEMENT, dtype=torch.float64)
        labels[row] = 0.25
        changed = (objective(contrast(parts, labels)).loss - before).abs() > 1e-14
        changed[row] = False
        assert not changed.any()


def check_a_step_down_the_gradient_lowers_the_loss(make: Make) -> None:
    """And every pair has a gradient of its own, so that nothing is detached by accident."""
    objective, parts = make(), with_gradient(tensors())
    labels = torch.tensor([1.0, 0.9, 0.8, 0.65, 0.7, 0.95], dtype=torch.float64)
    before = objective(contrast(parts, labels)).loss
    before.sum().backward()
    chosen = parts["policy_chosen"].grad
    assert chosen is not None
    assert (chosen.flatten(1).norm(dim=1) > 0).all()
    for side in ("policy_chosen", "policy_rejected"):
        gradient = parts[side].grad
        if gradient is not None:
            scale = gradient.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
            parts[side] = parts[side].detach() - 1e-6 * gradient / scale
    assert (objective(contrast(parts, labels)).loss < before).all()


def check_bfloat16_predictions_keep_their_sign(make: Make) -> None:
    """Errors are taken in float32 at least: the same bf16 numbers, judged in float64, agree."""
    objective, parts = make(), tensors(torch.bfloat16, spread=0.003)
    found = objective(contrast(parts, torch.tensor(AGREEMENT))).loss
    exact = {name: value.double() for name, value in parts.items()}
    expected = objective(contrast(exact)).loss
    assert found.dtype == torch.float32
    assert (found.double() - expected).abs().max() <= 1e-3


def check_extreme_margins_stay_finite(make: Make) -> None:
    """A pair far out gives a large loss, not NaN, and a finite gradient."""
    errors = torch.tensor([50.0, 1e-6, 3.0], dtype=torch.float64)
    policy = errors.clone().requires_grad_()
    losing = errors.flip(0).clone().requires_grad_()
    pairs = Contrast(
        chosen=Measured(policy=policy, reference=torch.full((3,), 0.1, dtype=torch.float64)),
        rejected=Measured(policy=losing, reference=torch.full((3,), 0.2, dtype=torch.float64)),
        agreement=torch.tensor([1.0, 0.5, 0.9], dtype=torch.float64),
    )
    loss = make()(pairs).loss
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert policy.grad is not None
    assert torch.isfinite(policy.grad).all()


def check_asks_only_for_what_it_declared(make: Make) -> None:
    """Undeclared evidence may be absent; declared evidence that is absent is refused."""
    objective, parts = make(), tensors()
    full = contrast(parts)
    bare = Denoised(prediction=parts["policy_chosen"], target=parts["target_chosen"])
    other = Denoised(prediction=parts["policy_rejected"], target=parts["target_rejected"])
    if not objective.needs.rejected:
        objective(dataclasses.replace(full, rejected=None))
    if not objective.needs.reference:
        objective(dataclasses.replace(full, chosen=bare, rejected=other))
        return
    try:
        objective(dataclasses.replace(full, chosen=bare, rejected=other))
    except SettingError:
        return
    raise AssertionError("declares a reference and does not read it")


def check_is_pure(make: Make) -> None:
    """Asking twice gives the same answer, changes no input and draws no random number."""
    objective, parts = make(), tensors()
    kept = {name: value.clone() for name, value in parts.items()}
    state = torch.get_rng_state()
    first, second = objective(contrast(parts)).loss, objective(contrast(parts)).loss
    assert torch.equal(first, second)
    assert all(torch.equal(parts[name], kept[name]) for name in parts)
    assert torch.equal(torch.get_rng_state(), state)


CHECKS: tuple[Callable[[Make], None], ...] = tuple(
    value for name, value in sorted(globals().items()) if name.startswith("check_")
)
