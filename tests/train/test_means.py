"""Means over a whole optimizer step: however it is split, and over processes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from palate.core.contrast import Contrast, Measured, Stepped
from palate.objectives import OBJECTIVES
from palate.train.groups import Plan
from palate.train.means import mean_of_all, together
from palate.train.step import Learner
from train.micro import Given, Micro, batch

SLOW = pytest.mark.slow
OBJECTIVES_OF_A_STEP = {
    "kto": OBJECTIVES["kto"](),
    "adaptive-dpo": OBJECTIVES["adaptive-dpo"](warm_up=0),
    "adaptive-ipo": OBJECTIVES["adaptive-ipo"](warm_up=0),
    "balanced": OBJECTIVES["adaptive-dpo"](warm_up=0, balanced=True, margin_units="logit"),
    "sdpo": OBJECTIVES["sdpo"](per="batch"),
    "sdpo per pair": OBJECTIVES["sdpo"](per="pair"),
}


def rows(size: int = 6, dtype: torch.dtype = torch.float64):
    """Pairs whose losers sometimes won elsewhere."""
    redeemed = (torch.arange(size) % 3 == 0).to(dtype)
    return replace(batch(size, dtype), facts={"redeemed": redeemed})


def taught(name: str, micro_batch: int) -> Learner:
    """A learner whose averages have fallen behind its policy in different ways."""
    backbone = Micro().move(0.02)
    settings = {"batch": 6, "learning_rate": 1e-3, "steps": 10, "device": "cpu"}
    one = Learner(
        backbone, OBJECTIVES_OF_A_STEP[name], Given(), Plan(**settings, micro_batch=micro_batch)
    )
    for amount in (0.01, 0.02):
        one.averages.update()
        backbone.move(amount)
    return one


def gradient(one: Learner) -> torch.Tensor:
    return torch.cat([w.grad.flatten() for w in one.backbone.trainable().values()])


@pytest.mark.parametrize(
    "micro_batch", [4, pytest.param(1, marks=SLOW), pytest.param(5, marks=SLOW)]
)
@pytest.mark.parametrize("name", OBJECTIVES_OF_A_STEP)
def test_statistics_of_a_step_do_not_depend_on_how_it_is_split(name, micro_batch):
    """4 + 2 and 5 + 1 are ragged. Losses and weights pair by pair, and the gradient."""
    whole, split = taught(name, 6), taught(name, micro_batch)
    expected, found = whole._gradients(rows(), 3), split._gradients(rows(), 3)
    assert set(expected) == set(found)
    for key, values in expected.items():
        torch.testing.assert_close(found[key], values, rtol=1e-9, atol=1e-12)
    difference = (gradient(whole) - gradient(split)).norm() / gradient(whole).norm()
    assert float(difference) <= 1e-9


@pytest.mark.parametrize("name", ["kto", "adaptive-dpo"])
def test_means_of_parts_would_have_been_another_loss(name, monkeypatch):
    """The test above can fail: without the first look at the whole step, it does."""
    whole, split = taught(name, 6), taught(name, 2)
    monkeypatch.setattr(split, "_means", lambda _parts, _number: lambda: mean_of_all)
    expected, found = whole._gradients(rows(), 3), split._gradients(rows(), 3)
    assert float((expected["loss"] - found["loss"]).abs().max()) > 1e-4


def test_a_safeguard_of_parts_would_have_been_another_gradient(monkeypatch):
    """The same for SDPO, whose loss is that of its base and whose gradient is not."""
    whole, split = taught("sdpo", 6), taught("sdpo", 2)
    monkeypatch.setattr(split, "_means", lambda _parts, _number: lambda: mean_of_all)
    expected, found = whole._gradients(rows(), 3), split._gradients(rows(), 3)
    assert float(expected["safeguard"].max()) < 1
    assert len(set(found["safeguard"].tolist())) == 3
    difference = (gradient(whole) - gradient(split)).norm() / gradient(whole).norm()
    assert float(difference) > 1e-4


def test_only_what_reads_a_mean_is_asked_about_the_whole_step_first(monkeypatch):
    """A λ for each pair costs no second look."""
    asked = {"sdpo": 0, "sdpo per pair": 0}
    for name in asked:
        split = taught(name, 2)
        plain = split.evidence

        def counted(part, number, name=name, plain=plain):
            asked[name] += 1
            return plain(part, number)

        monkeypatch.setattr(split, "evidence", counted)
        split._gradients(rows(), 3)
    assert asked == {"sdpo": 6, "sdpo per pair": 3}


def test_parts_put_together_have_the_margins_of_the_whole():
    """Errors of noised pictures, and log-probabilities of steps, each keep their gains."""
    values = torch.tensor([0.1, 0.3, 0.2, 0.5], dtype=torch.float64)
    for kind in (Measured, Stepped):
        chosen = kind(policy=values, reference=values + 0.25)
        rejected = kind(policy=values + 0.5, reference=values)
        whole = Contrast(chosen=chosen, rejected=rejected, agreement=torch.ones(4))
        parts = [
            Contrast(
                chosen=kind(policy=values[i : i + 3], reference=values[i : i + 3] + 0.25),
                rejected=kind(policy=values[i : i + 3] + 0.5, reference=values[i : i + 3]),
                agreement=torch.ones(len(values[i : i + 3])),
            )
            for i in (0, 3)
        ]
        joined = together(parts)
        torch.testing.assert_close(joined.margin, whole.margin, rtol=0, atol=1e-15)
        assert type(joined.chosen) is kind


ASK = """
import sys
import torch
from palate.train.means import mean_of_all, several_processes
place, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group("gloo", f"file://{place}", rank=rank, world_size=2)
assert several_processes()
values = [torch.tensor([1.0, 2.0, 6.0]), torch.tensor([11.0])][rank].requires_grad_()
mean = mean_of_all(values)
assert not mean.requires_grad
print(float(mean))
torch.distributed.destroy_process_group()
"""

STEP = """
import sys
import torch
from train.test_means import rows, taught
place, rank, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.distributed.init_process_group("gloo", f"file://{place}", rank=rank, world_size=2)
mine = rows().rows([[0, 1, 2, 3], [4, 5]][rank])
print(*taught(name, 3)._gradients(mine, 3)["loss"].tolist())
torch.distributed.destroy_process_group()
"""


def two_processes(script: str, folder: Path, *words: str) -> list[list[float]]:
    """What each of two processes prints, as numbers."""
    tests = str(Path(__file__).parents[1])
    surroundings = {**os.environ, "PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder / "meeting"), str(rank), *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    return [[float(word) for word in out.split()] for out, _ in said]


def test_two_processes_with_unequal_pairs_share_one_mean(tmp_path):
    """1, 2, 6 here and 11 there: 20 / 4 = 5, not the mean 7 of the means 3 and 11."""
    assert two_processes(ASK, tmp_path) == [[5.0], [5.0]]


@SLOW
@pytest.mark.parametrize("name", ["kto", "adaptive-dpo"])
def test_a_step_over_two_processes_has_the_losses_of_one(name, tmp_path):
    first, second = two_processes(STEP, tmp_path, name)
    whole = taught(name, 6)._gradients(rows(), 3)["loss"].tolist()
    assert first + second == pytest.approx(whole, rel=1e-9)
