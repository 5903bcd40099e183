"""What every objective must do, as plain functions, so that planted bugs can be run through too.

`CHECKS` is the suite. Each check takes a way to build the objective with its default settings
and raises when the promise is broken. The pairs differ in every field: a suite whose labels
were all 1 once missed "everyone uses the first pair's label".
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from contracts.restatements import RESTATEMENTS, Numbers
from palate.core.contrast import Branch, Contrast, Denoised, Stepped, Verdict
from palate.core.problems import SettingError
from palate.objectives import Needs, Objective

Make = Callable[[], Objective]
AGREEMENT = (1.0, 0.9, 0.5, 0.65, 0.0, 0.8)
SHAPE = (len(AGREEMENT), 2, 3, 4)
# These weaken the gradient of the rejected image and leave the value of the loss as it is.
SAFEGUARDED = ("sdpo",)
# These learn what people reject.
TURNED = ("npo",)
# Facts that leave a hard label as hard as it is.
PLAIN_FACTS = {"redeemed": 0.0, "reward_gap": 1.0, "synthetic": 1.0, "correction": 1.0}


def noise(name: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers of the shape of a small batch of latents."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(name), dtype=dtype)


def tensors(
    dtype: torch.dtype = torch.float64, spread: float = 0.02, learned: float = 0.0
) -> dict[str, Tensor]:
    """Predictions of policy and reference on two images; logits of ordinary size at β = 2000.

    Args:
        dtype: Their type.
        spread: How far the policy is from the reference, at random.
        learned: Which share of its way to the target it has gone besides, on the chosen image;
            half as much on the rejected one.
    """
    target_chosen, target_rejected = noise(1), noise(2)
    found = {
        "target_chosen": target_chosen,
        "target_rejected": target_rejected,
        "reference_chosen": target_chosen + 0.3 * noise(3),
        "reference_rejected": target_rejected + 0.3 * noise(4),
    }
    found["policy_chosen"] = found["reference_chosen"] + spread * noise(5)
    found["policy_rejected"] = found["reference_rejected"] + spread * noise(6)
    for side, share in (("chosen", learned), ("rejected", learned / 2)):
        way = found[f"target_{side}"] - found[f"reference_{side}"]
        found[f"policy_{side}"] = found[f"policy_{side}"] + share * way
    return {name: value.to(dtype) for name, value in found.items()}


def contrast(
    parts: dict[str, Tensor],
    agreement: Tensor | None = None,
    kind: type[Objective] | Objective | None = None,
    rows: Sequence[int] | None = None,
    **others: Any,
) -> Contrast:
    """Pairs from predictions, as the trainer builds them.

    For an objective that judges steps, the same numbers become log-probabilities of steps. What
    else an objective needs is there for every pair, and differs in every pair.

    Args:
        parts: Predictions, from `tensors`; with `rows`, already only these rows of them.
        agreement: The labels; `AGREEMENT` by default.
        kind: Whose needs to fill.
        rows: Which pairs of the batch these are; all, in order, by default.
        others: Further attributes of the contrast.
    """
    wide = torch.promote_types(parts["target_chosen"].dtype, torch.float32)
    chosen = list(range(len(AGREEMENT))) if rows is None else list(rows)
    if agreement is None:
        agreement = torch.tensor(AGREEMENT, dtype=wide)[chosen]
    needs = kind.needs if kind is not None else Needs()
    side = step if needs.evidence[0] == "steps" else denoised
    shape = (len(AGREEMENT),)
    extra = torch.arange(1, len(AGREEMENT) + 1, dtype=wide)
    facts: dict[str, Any] = {
        "level": torch.arange(shape[0])[chosen] * 137 % 1000,
        "alpha": (1 / (1 + 0.2 * extra))[chosen],
        "sigma": (1 - 1 / (1 + 0.2 * extra)).sqrt()[chosen],
        "averages": tuple(
            (1e-3 * (number + 2) * torch.sin(extra + number))[chosen]
            for number in range(len(needs.averages))
        ),
        "facts": {
            name: (0.5 + 0.45 * torch.sin(3 * extra + number))[chosen]
            for number, name in enumerate(needs.facts)
        },
        "step": 37,
        "progress": 0.37,
    }
    sides = [side(parts, name) for name in ("chosen", "rejected")]
    return Contrast(chosen=sides[0], rejected=sides[1], agreement=agreement, **(facts | others))


def denoised(parts: dict[str, Tensor], side: str) -> Branch:
    """Evidence from one noised picture."""
    return Denoised(
        prediction=parts[f"policy_{side}"],
        target=parts[f"target_{side}"],
        reference=parts[f"reference_{side}"],
    )


def step(parts: dict[str, Tensor], side: str) -> Branch:
    """The same distances as log-probabilities of a step: minus half the mean square."""
    known = denoised(parts, side)
    return Stepped(policy=-known.error / 2, reference=-known.reference_error / 2)


def with_gradient(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, the policy's as leaves that collect a gradient."""
    return {
        name: value.detach().clone().requires_grad_(name.startswith("policy"))
        for name, value in parts.items()
    }


def numbers(parts: dict[str, Tensor], pairs: Contrast, row: int) -> Numbers:
    """One pair as plain floats, in float64, by an arithmetic of our own, without its company."""
    flat = {
        name: tuple(float(value) for value in part[row].double().flatten())
        for name, part in parts.items()
    }

    def error(who: str, side: str) -> float:
        answers, targets = flat[f"{who}_{side}"], flat[f"target_{side}"]
        gaps = [answer - target for answer, target in zip(answers, targets, strict=True)]
        return math.fsum(gap * gap for gap in gaps) / len(gaps)

    assert pairs.alpha is not None
    assert pairs.sigma is not None
    return Numbers(
        policy_chosen=error("policy", "chosen"),
        reference_chosen=error("reference", "chosen"),
        policy_rejected=error("policy", "rejected"),
        reference_rejected=error("reference", "rejected"),
        agreement=float(pairs.agreement[row]),
        averages=tuple(float(margin[row]) for margin in pairs.averages),
        facts={name: float(values[row]) for name, values in pairs.facts.items()},
        alpha=float(pairs.alpha[row]),
        sigma=float(pairs.sigma[row]),
        step=pairs.step,
        progress=pairs.progress,
        predictions=flat,
    )


def company(parts: dict[str, Tensor], pairs: Contrast) -> list[Numbers]:
    """All pairs of a step, each with its company."""
    alone = [numbers(parts, pairs, row) for row in range(len(pairs.agreement))]
    return [dataclasses.replace(pair, company=tuple(alone)) for pair in alone]


def check_one_finite_loss_per_pair(make: Make) -> None:
    """The trainer reduces; an objective never does."""
    objective = make()
    verdict = objective(contrast(tensors(), kind=objective))
    assert isinstance(verdict, Verdict)
    assert verdict.loss.shape == SHAPE[:1]
    assert verdict.loss.dtype == torch.float64
    assert torch.isfinite(verdict.loss).all()
    for name, extra in verdict.extras.items():
        assert extra.shape == SHAPE[:1], name
        assert not extra.requires_grad, name


def check_equals_an_independent_restatement(make: Make) -> None:
    """To 1e-10 in float64 (A6), pair by pair, with soft and hard labels.

    Of three policies: one near the reference, one that is better than it, one far from it.
    """
    objective = make()
    formula = RESTATEMENTS[objective.name]
    settings = dataclasses.asdict(objective)
    for parts in (tensors(), tensors(learned=0.02), tensors(spread=0.5)):
        pairs = contrast(parts, kind=objective)
        expected = [formula(pair, settings) for pair in company(parts, pairs)]
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

    objective = make()
    together = objective(contrast(parts, kind=objective, mean=remember)).loss
    assert objective.whole_batch == bool(answers), "declare whether `mean` is read"
    assert objective.needs.whole_batch == type(objective)().whole_batch, "and for the defaults"
    for row in range(SHAPE[0]):
        replay = iter(list(answers))
        alone = contrast(
            {name: value[row : row + 1] for name, value in parts.items()},
            kind=objective,
            rows=[row],
            mean=lambda values, replay=replay: next(replay),
        )
        torch.testing.assert_close(objective(alone).loss[0], together[row], rtol=1e-12, atol=1e-14)


def check_order_does_not_matter(make: Make) -> None:
    """Shuffled pairs get the same losses, shuffled."""
    objective, parts, order = make(), tensors(), [3, 0, 5, 1, 4, 2]
    shuffled = {name: value[order] for name, value in parts.items()}
    found = objective(contrast(shuffled, kind=objective, rows=order)).loss
    plain = objective(contrast(parts, kind=objective)).loss
    torch.testing.assert_close(found, plain[order], rtol=1e-12, atol=1e-14)


def check_starts_where_it_says(make: Make) -> None:
    """Policy = reference: margin exactly 0 and the declared loss for every label (A8)."""
    objective, parts = make(), tensors(spread=0.0)
    pairs = contrast(
        parts,
        kind=objective,
        # Averages of a policy that has not moved have not moved either.
        averages=(torch.zeros(SHAPE[0], dtype=torch.float64),) * len(objective.needs.averages),
    )
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
    loss = objective(contrast(tensors(), kind=objective)).loss
    found = again(contrast(tensors(), kind=objective)).loss
    torch.testing.assert_close(found, loss, rtol=0, atol=0)


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
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", objective.name)
    assert objective.title
    assert re.match(r"(arXiv:\d{4}\.\d{4,5}|doi:\S+|github:[\w.-]+/[\w.-]+)$", objective.paper)
    assert 2015 <= objective.year <= 2100
    assert len((type(objective).__doc__ or "").split()) >= 5


def check_a_hard_label_pays_for_the_chosen_image(make: Make) -> None:
    """At the start, a better chosen image lowers the loss and a better rejected one does not.

    An objective may be indifferent to the rejected image there, but only to all of them. One
    that learns what people reject keeps the promise for the label turned round.
    """
    objective, parts = make(), with_gradient(tensors(spread=0.0))
    label = torch.full(SHAPE[:1], float(objective.name not in TURNED), dtype=torch.float64)
    facts = {
        name: torch.full_like(label, PLAIN_FACTS.get(name, 1.0)) for name in objective.needs.facts
    }
    pairs = contrast(parts, label, kind=objective, facts=facts)
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
        costs = toward["rejected"]
        assert (costs > 0).all() or (costs == 0).all(), "a better rejected image must cost"


def check_turning_a_pair_and_its_label_changes_nothing(make: Make) -> None:
    """Where soft labels are allowed, the order of the two images carries no information."""
    objective = make()
    if "soft" not in objective.needs.labels:
        return
    pairs = contrast(tensors(), kind=objective)
    turned = objective(pairs.swap()).loss
    torch.testing.assert_close(turned, objective(pairs).loss, rtol=1e-12, atol=1e-14)


def check_a_label_touches_only_its_own_pair(make: Make) -> None:
    """Changing one label changes that loss at most."""
    objective, parts = make(), tensors()
    before = objective(contrast(parts, kind=objective)).loss
    for row in range(SHAPE[0]):
        labels = torch.tensor(AGREEMENT, dtype=torch.float64)
        labels[row] = 0.25
        changed = (objective(contrast(parts, labels, kind=objective)).loss - before).abs() > 1e-14
        changed[row] = False
        assert not changed.any()


def check_a_step_down_the_gradient_lowers_the_loss(make: Make) -> None:
    """And every pair has a gradient of its own, so that nothing is detached by accident.

    At step 0, where nothing that is measured on the way and then held fixed plays a part yet.
    """
    objective, parts = make(), with_gradient(tensors())
    labels = torch.tensor([1.0, 0.9, 0.8, 0.65, 0.7, 0.95], dtype=torch.float64)
    before = objective(contrast(parts, labels, kind=objective, step=0)).loss
    before.sum().backward()
    chosen = parts["policy_chosen"].grad
    assert chosen is not None
    assert (chosen.flatten(1).norm(dim=1) > 0).all()
    for side in ("policy_chosen", "policy_rejected"):
        gradient = parts[side].grad
        if gradient is not None:
            scale = gradient.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
            parts[side] = parts[side].detach() - 1e-6 * gradient / scale
    assert (objective(contrast(parts, labels, kind=objective, step=0)).loss < before).all()


def check_bfloat16_predictions_keep_their_sign(make: Make) -> None:
    """Errors are taken in float32 at least: the same bf16 numbers, judged in float64, agree."""
    objective, parts = make(), tensors(torch.bfloat16, spread=0.003)
    found = objective(contrast(parts, torch.tensor(AGREEMENT), kind=objective)).loss
    exact = {name: value.double() for name, value in parts.items()}
    expected = objective(contrast(exact, kind=objective)).loss
    assert found.dtype == torch.float32
    assert (found.double() - expected).abs().max() <= 1e-3


def check_extreme_margins_stay_finite(make: Make) -> None:
    """A pair far out gives a large loss, not NaN, and a finite gradient."""
    objective, parts = make(), tensors()
    for side, errors in (
        ("chosen", (50.0, 1e-6, 3.0, 1e-6, 20.0, 0.0)),
        ("rejected", (1e-6, 50.0, 1e-6, 3.0, 20.0, 0.0)),
    ):
        target = parts[f"target_{side}"]
        gap = parts[f"policy_{side}"] - target
        size = gap.square().flatten(1).mean(1).sqrt().reshape(-1, 1, 1, 1)
        scale = torch.tensor(errors, dtype=torch.float64).sqrt().reshape(-1, 1, 1, 1)
        parts[f"policy_{side}"] = target + gap / size * scale
    parts = with_gradient(parts)
    loss = objective(contrast(parts, kind=objective)).loss
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    gradient = parts["policy_chosen"].grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()


def check_the_gradient_is_the_slope_of_the_loss(make: Make) -> None:
    """By central differences in float64, along a random direction, on each side.

    A safeguarded objective weakens the rejected side's gradient on purpose: there the slope may
    be larger than the gradient says, never smaller or turned round.
    """
    objective, parts = make(), tensors()
    answers: list[Tensor] = []

    def remember(values: Tensor) -> Tensor:
        answers.append(values.detach().mean())
        return answers[-1]

    # At step 0, where nothing that is measured on the way and then held fixed plays a part yet.
    objective(contrast(parts, kind=objective, mean=remember, step=0))

    def losses(moved: dict[str, Tensor]) -> Tensor:
        replay = iter(list(answers))
        return objective(contrast(moved, kind=objective, mean=lambda _: next(replay), step=0)).loss

    for side in ("chosen", "rejected"):
        name, width = f"policy_{side}", 1e-6
        leaves, direction = with_gradient(parts), noise(9)
        losses(leaves).sum().backward()
        gradient = leaves[name].grad
        found = torch.zeros(SHAPE[0], dtype=torch.float64)
        if gradient is not None:
            found = (gradient * direction).flatten(1).sum(1)
        ends = [losses({**parts, name: parts[name] + sign * width * direction}) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * width)
        if side == "rejected" and objective.name in SAFEGUARDED:
            assert ((found / slope > -1e-6) & (found / slope < 1 + 1e-5)).all()
        else:
            torch.testing.assert_close(found, slope, rtol=1e-5, atol=1e-9)


def check_asks_only_for_what_it_declared(make: Make) -> None:
    """Undeclared evidence may be absent; declared evidence that is absent is refused."""
    objective, parts = make(), tensors()
    full = contrast(parts, kind=objective)
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
    first, second = (objective(contrast(parts, kind=objective)).loss for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(parts[name], kept[name]) for name in parts)
    assert torch.equal(torch.get_rng_state(), state)


CHECKS: tuple[Callable[[Make], None], ...] = tuple(
    value for name, value in sorted(globals().items()) if name.startswith("check_")
)
