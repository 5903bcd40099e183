"""Pairs that are learned for nobody: they teach nothing, alone as little as beside others."""

import math
from pathlib import Path

import pytest
import torch

from palate.backbones import Backbone, Personal, load
from palate.backbones.backbone import Condition
from palate.core.problems import HealthStop
from palate.core.streams import Streams
from palate.objectives import DPO
from palate.train.batch import Batch
from palate.train.groups import Plan
from palate.train.guard import MOST_IDLE, Guard
from palate.train.loop import train
from palate.train.noise import Noised, add_noise
from palate.train.run import Run
from palate.train.step import FOR_NOBODY, Learner
from train.people import people

USERS = Personal(user_width=4, tokens=1, width=5)


def draw(name: str, *shape: int) -> torch.Tensor:
    return Streams(3)(name).normal(shape)


def pairs(somebody: list[bool], width: int) -> Batch:
    """A batch in which only some rows are for somebody."""
    rows = len(somebody)
    told = Condition({"text": draw("text", rows, 5, width)})
    told = told.with_user(draw("user", rows, 1, 4) * torch.tensor(somebody)[:, None, None])
    return Batch(
        ids=tuple(f"pair {i}" for i in range(rows)),
        visits=(0,) * rows,
        chosen=draw("chosen", rows, 4, 16, 16),
        rejected=draw("rejected", rows, 4, 16, 16),
        conditions=(told, told),
        agreement=torch.ones(rows),
    )


class Given:
    """Noise that is a function of a pair's name."""

    def __init__(self, backbone: Backbone) -> None:
        self.path = backbone.path

    def __call__(self, batch: Batch) -> Noised:
        noise = torch.stack([draw(f"noise {name}", 4, 16, 16) for name in batch.ids])
        level = torch.tensor([100 * int(name[-1]) + 50 for name in batch.ids])
        return add_noise(self.path, batch, noise, noise, level)


def learner(model: Path, **plan) -> tuple[Learner, int]:
    """What learns attention to users, and the width of the text."""
    backbone = load(model, personal=USERS, train=True)
    settings = {"batch": 6, "learning_rate": 1e-2, "steps": 10, "device": "cpu", **plan}
    width = backbone.embed([""]).tensors["text"].shape[-1]
    return Learner(backbone, DPO(beta=50.0), Given(backbone), Plan(**settings)), width


def everything(one: Learner) -> dict[str, torch.Tensor]:
    kept = {**one.backbone.state(), **one.tensors()}
    return {name: tensor.clone() for name, tensor in kept.items()}


def test_a_part_for_nobody_changes_nothing_but_rounding(model):
    """One pair at a time: four parts of six have no gradient; the whole batch has one."""
    found = []
    for size in (1, 2, 6):
        one, width = learner(model, micro_batch=size)
        outcome = one.step(pairs([False, False, True, False, True, False], width), 0)
        assert (outcome.skipped, outcome.pairs) == (None, 6)
        found.append((outcome.norm, everything(one)))
    for norm, state in found[:2]:
        assert norm == pytest.approx(found[2][0], rel=1e-4)
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, found[2][1][name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4])
def test_a_step_for_nobody_leaves_weights_and_optimizer_as_they_were(model, size):
    """Also where the step before left momentum: its gradient is not used once more."""
    one, width = learner(model, batch=4, micro_batch=size)
    assert one.step(pairs([True] * 4, width), 0).norm is not None
    before = everything(one)
    outcome = one.step(pairs([False] * 4, width), 1)
    assert (outcome.skipped, outcome.norm, outcome.pairs) == (FOR_NOBODY, None, 4)
    assert outcome.measures["margin"].abs().max() == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in everything(one).items())
    assert one.step(pairs([True] * 4, width), 2).skipped is None


def test_a_run_that_is_for_nobody_all_the_time_is_stopped_and_told_why(tmp_path):
    guard = Guard(tmp_path, 0.01)
    for _ in range(MOST_IDLE - 1):
        guard.rest(FOR_NOBODY)
    with pytest.raises(HealthStop, match=r"every pair was for nobody.*personal\.dropout"):
        guard.rest(FOR_NOBODY)
    guard.rest(None)
    assert guard.idle == 0


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_run_goes_on_where_a_part_or_a_step_is_for_nobody(model, cache, tmp_path, share):
    data = people(tmp_path / "people")
    run = Run.from_values({
        "model": str(model), "data": str(data), "seed": 3, "objective.name": "ppd",
        "plan.steps": 4, "plan.batch": 2, "plan.micro_batch": 1, "plan.tensorboard": "off",
        "plan.device": "cpu", "health.pairs": 4, "health.stop": False, "split.held_out": 0.2,
        "personal.subsets": 3, "personal.width": 8, "personal.dropout": share,
    })  # fmt: skip
    result = train(run, tmp_path / "out", cache=cache)
    told = [row["skipped"] for row in result.history]
    assert all(math.isfinite(row["loss"]) for row in result.history)
    assert [why is None for why in told] == [row["gradient_norm"] is not None
                                             for row in result.history]  # fmt: skip
    if share == 1.0:
        assert told == [FOR_NOBODY] * 4
        assert result.history[-1]["pairs_seen"] == 0
    else:
        assert None in told
