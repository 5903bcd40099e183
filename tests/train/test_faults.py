"""Broken numbers, broken files and a second trainer: kept out, written down, named."""

import json
import math
import random

import pytest
import torch

from palate.backbones import Condition, latent
from palate.core.problems import DataError, HealthStop, SettingError, StateError, WeightsError
from palate.objectives import DPO
from palate.train.batch import Batch
from palate.train.groups import Plan
from palate.train.guard import Guard
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.place import claim, enough_room
from palate.train.runs import find_runs
from palate.train.start import start_facts
from palate.train.step import Learner, judged
from palate.train.taken import Steps
from train.conftest import snapshot
from train.micro import Given, Micro, batch


def inject(rate: float, steps: int, folder) -> int:
    """Train with NaN in a share of the pairs, eight a step; returns the steps it went on for."""
    one = Learner(Micro(torch.float32), DPO(), Given(), Plan(batch=8, steps=steps, device="cpu"))

    def gradients(pairs, _number):
        for weight in one.backbone.trainable().values():
            weight.grad = torch.zeros_like(weight)
        return {"loss": torch.zeros(len(pairs), dtype=torch.float64)}

    one._gradients = gradients
    one._update = lambda: 0.0
    guard, draw, name = Guard(folder, 0.01), random.Random(5), 0
    whole = batch(8, torch.float32)
    for number in range(steps):
        chosen = whole.chosen.clone()
        for row in range(8):
            if draw.random() < rate:
                chosen[row].view(-1)[3] = math.nan
        ids = tuple(f"p{name + i}" for i in range(8))
        name += 8
        spoiled = Batch(
            ids=ids, visits=whole.visits, chosen=chosen, rejected=whole.rejected,
            conditions=whole.conditions, agreement=whole.agreement,
        )  # fmt: skip
        outcome = one.step(spoiled, number)
        guard.set_aside(number, outcome.culprits)
        try:
            guard.count(seen=8, broken=len(outcome.culprits), skipped=outcome.skipped is not None)
        except HealthStop:
            return number + 1
    return steps


@pytest.mark.parametrize(("rate", "longest"), [(0.05, 20), (0.5, 20)])
def test_many_broken_pairs_stop_the_run_within_twenty_steps(rate, longest, tmp_path):
    """B6."""
    assert inject(rate, 400, tmp_path) <= longest


def test_a_rare_broken_pair_does_not_stop_a_long_run(tmp_path):
    """B6: one in a thousand, over 400 steps; each is in quarantine by name."""
    assert inject(0.001, 400, tmp_path) == 400
    rows = read_rows(tmp_path / "quarantine.jsonl")
    assert 0 < len(rows) < 12
    assert rows[0]["reason"] == "latents are not finite"


def test_repeated_skipped_updates_stop_the_run(tmp_path):
    guard = Guard(tmp_path, 0.01)
    for _ in range(2):
        guard.count(seen=8, broken=0, skipped=True)
    with pytest.raises(HealthStop, match="3 skipped updates") as caught:
        guard.count(seen=8, broken=0, skipped=True)
    assert caught.value.exit_code == 6


def test_broken_rows_count_as_the_judgements_they_rest_on():
    """Twenty steps of one picture are one judgement; a picture without a score is another."""
    names = ("a step 1", "a step 2", "b step 1")
    states = torch.zeros(3, 1, 2, 2)
    drawn = Steps(
        ids=names,
        judged=("a", "a", "b"),
        noisy=(states,),
        taken=(states, states),
        level=torch.tensor([9, 5, 9]),
        previous=torch.tensor([5, 1, 5]),
        told=Condition({"text": torch.zeros(2, 1, 1)}),
        prompt=(0, 0, 1),
        agreement=torch.ones(3),
    )
    why = "loss is not finite"
    assert judged(drawn, dict.fromkeys(names[:2], why)) == (2, 1)
    assert judged(drawn, {names[0]: why, "c": "a score is not finite"}) == (3, 2)
    assert judged(drawn, {}) == (2, 0)
    assert judged(batch(4), {"pair 1": why, "pair 2": why}) == (4, 2)


def spoil(monkeypatch, share: float) -> None:
    """An autoencoder that overflows for some pictures, told by their first pixel."""
    plain = latent.LatentDiffusion.encode

    def encode(self, images):
        mean, std = plain(self, images)
        for i, image in enumerate(images):
            if random.Random(int(image.long().sum())).random() < share:
                mean[i, 0, 0, 0] = math.inf
        return mean, std

    monkeypatch.setattr(latent.LatentDiffusion, "encode", encode)


def test_a_picture_without_finite_latents_sets_its_pair_aside(monkeypatch, run, tmp_path):
    """B5: the run goes on, the pair is named, the weights are finite."""
    spoil(monkeypatch, 0.02)
    result = train(run.with_values({"health.nan_budget": 0.2}), tmp_path / "out")
    rows = read_rows(tmp_path / "out/quarantine.jsonl")
    assert 0 < len(rows) < 8
    assert all("not finite" in row["reason"] for row in rows)
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert record["quarantine"] == len(rows)
    assert record["overrides"] == ["health.nan_budget=0.2"]
    assert all(math.isfinite(row["loss"]) for row in result.history)
    assert sum(row["pairs"] for row in result.history) == result.history[-1]["pairs_seen"]


def test_an_autoencoder_that_overflows_is_found_before_the_first_step(monkeypatch, run, tmp_path):
    spoil(monkeypatch, 0.9)
    with pytest.raises(HealthStop, match="broken latents or embeddings"):
        train(run, tmp_path / "out")


def test_a_second_trainer_is_refused_and_told_who_is_first(run, tmp_path):
    """B10; the lock of a dead process is no obstacle, as every kill test shows."""
    import os

    with claim(run, tmp_path / "out", resume=False):
        for _ in range(50):
            with (
                pytest.raises(StateError, match=f"process {os.getpid()}"),
                claim(run, tmp_path / "out", resume=True),
            ):
                pass
        assert find_runs(tmp_path)[0].status == "running"
        assert find_runs(tmp_path)[0].pid == os.getpid()
    assert find_runs(tmp_path)[0].status == "unfinished"


def test_a_full_disk_is_noticed_before_the_first_step(tmp_path):
    """B3."""
    with pytest.raises(StateError, match=r"for two checkpoints"):
        enough_room(tmp_path, 10**18)


def test_a_reference_that_moves_stops_the_run(monkeypatch, run, cache, tmp_path):
    """B12: a leaked reference is noticed at the next check."""
    plain, asked = latent.LatentDiffusion.reference_probe, []

    def leaking(self):
        asked.append(1)
        return plain(self) if len(asked) < 4 else "moved"

    monkeypatch.setattr(latent.LatentDiffusion, "reference_probe", leaking)
    with pytest.raises(HealthStop, match="a reference that answers moved"):
        train(run, tmp_path / "out", cache=cache)
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert record["status"] == "stopped"
    assert "never changes" in record["sentence"]


def test_a_policy_that_starts_away_from_the_reference_is_refused():
    """A8 is asserted in real runs, not only in tests."""
    one = Learner(Micro().move(0.5), DPO(), Given(), Plan(device="cpu"))
    with pytest.raises(HealthStop, match="exactly 0, because the policy starts at the reference"):
        start_facts(one, batch(4))


def test_a_little_noise_before_the_first_step_is_measured_and_said():
    """Guard 5."""
    one = Learner(Micro(torch.float32).move(1e-5), DPO(), Given(), Plan(device="cpu"))
    facts = start_facts(one, batch(4, torch.float32))
    assert 0 < facts["noise_floor"] < 1e-3
    assert "Precision floor" in facts["warnings"][0]


def test_nothing_is_written_for_a_model_or_data_that_is_not_there(run, tmp_path):
    with pytest.raises(DataError):
        train(run.with_values({"data": str(tmp_path / "none")}), tmp_path / "out")
    with pytest.raises((WeightsError, SettingError)):
        train(run.with_values({"model": str(tmp_path / "none")}), tmp_path / "out")
    assert not (tmp_path / "out/checkpoints").exists() or not list(
        (tmp_path / "out/checkpoints").iterdir()
    )


def test_data_with_one_prompt_cannot_be_split(run, tmp_path):
    with pytest.raises(DataError, match="all with the same prompt"):
        train(run.with_values({"data": str(snapshot(tmp_path, pairs=2))}), tmp_path / "out")


def test_a_checkpoint_of_another_model_is_refused(monkeypatch, run, cache, tmp_path):
    train(run, tmp_path / "out", cache=cache)
    plain = latent.LatentDiffusion.digests.fget

    def other(self):
        return {**plain(self), "unet": "another"}

    monkeypatch.setattr(latent.LatentDiffusion, "digests", property(other))
    with pytest.raises(StateError, match="Got model unet another"):
        train(run, tmp_path / "out", resume=True, cache=cache)
