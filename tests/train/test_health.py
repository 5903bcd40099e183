"""The health monitor names the cause: rules by hand, and runs that were spoiled on purpose."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d

from palate.backbones import latent
from palate.core.problems import HealthStop
from palate.data.pairs import PreferencePairs
from palate.objectives import AdaptiveDPO
from palate.train.findings import findings, verdict
from palate.train.groups import Limits, Plan
from palate.train.health import Asked, Monitor
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.run import Run
from palate.train.runs import find_runs
from palate.train.step import Learner
from train.conftest import PAIRS, WORDS, small_run, snapshot
from train.micro import Given, Micro, batch


def row(**changes):
    """A check of a run that is doing well, half-way."""
    accuracy = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 64}
    return {
        "winner_drift": -0.01, "loser_drift": 0.01, "margin": 1e-3, "margin_low": 5e-4,
        "accuracy": accuracy, "training_accuracy": None, "progress": 0.5, "pairs": 64,
        "saturated": 0.0, **changes,
    }  # fmt: skip


def share(value: float, low: float, high: float, n: int = 64) -> dict:
    return {"value": value, "low": low, "high": high, "n": n}


CHANCE = {"accuracy": share(0.52, 0.45, 0.6), "margin_low": -1e-4}


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, "healthy", "1.0 % better than by the reference, and held-out accuracy is 0.70"),
        ({"winner_drift": 0.03}, "winner-drift", "3.0 % worse than by the reference"),
        ({"winner_drift": 0.03, "loser_drift": 0.05}, "winner-drift", "get worse still"),
        ({"winner_drift": 0.01, "loser_drift": 0.03}, "loser-worse", "margin grows because"),
        ({"saturated": 0.6}, "saturated", "60 % of the pairs have a logit beyond ±10"),
        (CHANCE, "no-learning", "after 50 % of the run accuracy is 0.52"),
        ({**CHANCE, "training_accuracy": share(0.8, 0.75, 0.85)}, "labels-random", "memorised"),
        ({"accuracy": share(0.3, 0.2, 0.4), "margin_low": -1}, "labels-swapped", "looks swapped"),
        ({"accuracy": share(0.97, 0.95, 1.0)}, "separable", "other than quality"),
        ({"accuracy": None}, "healthy", "1.0 % better than by the reference."),
        ({**CHANCE, "progress": 0.1}, "healthy", "Healthy"),
        ({"accuracy": share(0.0, 0.0, 0.35, n=9)}, "healthy", "too few held-out pairs to judge"),
        ({"accuracy": share(1.0, 0.65, 1.0, n=9)}, "healthy", "too few held-out pairs to judge"),
        ({**CHANCE, "accuracy": share(0.5, 0.2, 0.8, n=3)}, "healthy", "too few held-out pairs"),
        ({"accuracy": share(0.97, 0.95, 1.0), "progress": 0.9}, "healthy", "Healthy"),
    ],
)  # fmt: skip
def test_each_rule_by_hand(changes, code, words):
    check = row(**changes)
    said = verdict(findings(check, [], Limits()), check)
    assert said["code"] == code
    assert words in said["sentence"]
    assert said["status"] == ("healthy" if code == "healthy" else "watch")


def test_drift_stops_only_when_it_lasts():
    """Over 5 % in three checks running; one better check in between starts the count again."""
    bad, better = row(winner_drift=0.06), row(winner_drift=0.04)
    statuses = [
        findings(bad, before, Limits())[0].status
        for before in ([], [bad], [bad, bad], [bad, bad, better], [better, bad, bad])
    ]
    assert statuses == ["watch", "watch", "stopped", "watch", "stopped"]


def test_a_stop_can_be_overridden_and_a_finding_silenced():
    bad = row(winner_drift=0.06)
    assert findings(bad, [bad, bad], Limits(stop=False))[0].status == "watch"
    assert findings(bad, [bad, bad], Limits(ignore=("winner-drift",))) == []


@pytest.mark.parametrize(("own", "passes"), [({}, 4), ({"synthetic": Given()}, 2)])
def test_averages_are_asked_only_where_the_objective_judges(own, passes, run, monkeypatch):
    """Policy and reference; two averages besides, unless the model supplies facts itself."""
    asked: list[int] = []
    plain = Micro.predict

    def predict(self, noisy, level, condition):
        asked.append(len(noisy))
        return plain(self, noisy, level, condition)

    learner = Learner(Micro(), AdaptiveDPO(), Given(), Plan(device="cpu"), own)
    monitor = Monitor(run, learner, Asked(batch=batch(2), prompts=("p", "q")))
    monkeypatch.setattr(Micro, "predict", predict)
    assert ("loss" in monitor._ask(0, batch(2))) == (not own)
    assert asked == [4] * passes


@pytest.fixture(scope="module", autouse=True)
def plain_latents():
    """An autoencoder that shrinks: a random one would hide bright from dark."""

    def encode(_self, images):
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        small = avg_pool2d(pixels, 4)
        mean = torch.cat([small, small.mean(1, keepdim=True)], 1)
        return mean, torch.full_like(mean, 0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent.LatentDiffusion, "encode", encode)
        yield


@pytest.fixture(scope="module")
def taught(model, tmp_path_factory) -> Path:
    """The micro model after 150 steps on bright and dark pictures: something to ruin."""
    mixed = snapshot(tmp_path_factory.mktemp("mixed"), swapped=lambda i: i % 2 == 1)
    run = small_run(model, mixed).with_values(
        {
            "objective.name": "sft", "adapter": None, "plan.steps": 150, "plan.batch": 8,
            "plan.health_every": 1000, "plan.save_every": 1000, "plan.learning_rate": 5e-3,
        }
    )  # fmt: skip
    result = train(run, tmp_path_factory.mktemp("taught") / "out")
    assert result.health[-1]["winner_drift"] < -0.5
    return result.export


def preference(model: Path, data: Path, **changes) -> Run:
    return small_run(model, data).with_values(
        {
            "objective.beta": 200, "plan.steps": 20, "plan.batch": 8, "plan.health_every": 5,
            "plan.save_every": 20, "plan.learning_rate": 3e-3, "health.pairs": 8,
            "adapter.rank": 4, "health.draws": 4, **changes,
        }
    )  # fmt: skip


def alarms(run: Run, out: Path, cache: Path) -> set[str]:
    """Every code a run's checks raised, also of one that was stopped."""
    with suppress(HealthStop):
        train(run, out, cache=cache)
    return {
        found["code"] for check in read_rows(out / "health.jsonl") for found in check["findings"]
    }


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_sound_run_is_not_stopped(seed, taught, data, tmp_path):
    run = preference(taught, data, seed=seed, **{"plan.learning_rate": 5e-4})
    found = alarms(run, tmp_path / "out", tmp_path / "cache")
    assert not found & {"labels-swapped", "labels-random", "saturated", "winner-drift"}
    last = read_rows(tmp_path / "out/health.jsonl")[-1]
    assert last["accuracy"]["value"] > 0.6


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_swapped_training_labels_are_caught(seed, taught, data, tmp_path):
    """Training says dark is better, the held-out pairs say bright is."""
    _, held_out = PreferencePairs.open(data).split(by="prompt", held_out=0.5, seed=seed)
    away = set(held_out.prompts)
    turned = snapshot(
        tmp_path, swapped=lambda i: f"a {WORDS[i // 2 % len(WORDS)]} thing {i // 2}" not in away
    )
    assert len(PreferencePairs.open(turned)) == PAIRS
    run = preference(taught, turned, seed=seed, **{"split.held_out": 0.5, "health.pairs": 20})
    found = alarms(run, tmp_path / "out", tmp_path / "cache")
    assert "labels-swapped" in found


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_learning_rate_a_hundred_times_too_large_stops_the_run(seed, taught, data, tmp_path):
    """The record says why; the checkpoint before the stop is whole."""
    changes = {"plan.learning_rate": 0.05, "plan.save_every": 5, "seed": seed}
    with pytest.raises(HealthStop, match="Winner drift") as stop:
        train(preference(taught, data, **changes), tmp_path / "out")
    assert stop.value.exit_code == 6
    (state,) = find_runs(tmp_path)
    assert state.status == "stopped"
    assert "Winner drift" in state.sentence
    assert state.checkpoints
    assert all(check.state == "ok" for check in state.checkpoints)
