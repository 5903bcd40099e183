"""Whole runs without pairs: prompts and a scorer in, and the same bits however often it stops."""

import json

import pytest

from palate.backbones import tiny
from palate.core.problems import DataError, SettingError, StateError
from palate.scorers.latent import LatentReward
from palate.scorers.learned import save_scorer
from palate.train.loop import train
from palate.train.run import Run
from train.test_resume import CutError, same_run, stop_after


def drawing_run(model, **more) -> Run:
    """Three steps of two prompts, four steps of the sampler."""
    return Run.from_values(
        {
            "model": str(model), "objective.name": "d3po", "seed": 3, "adapter.rank": 2,
            "plan.steps": 3, "plan.batch": 2, "plan.learning_rate": 1e-3, "plan.save_every": 1,
            "plan.keep_last": 9, "plan.health_every": 2, "plan.tensorboard": "off",
            "plan.device": "cpu", "health.pairs": 3, "rollout.prompts": "world:train:8",
            "rollout.steps": 4, "rollout.guidance": 2.0, **more,
        }
    )  # fmt: skip


METHODS = {
    "d3po": {},
    "spo": {"rollout.skip_first": 1, "rollout.threshold": 0.0},
    "see-dpo": {"rollout.labels": "steps", "rollout.weights": "sensitivity", "rollout.visits": 2},
}


@pytest.mark.parametrize("method", ["d3po", "spo", pytest.param("see-dpo", marks=pytest.mark.slow)])
def test_a_drawing_run_that_was_cut_off_goes_on_to_the_same_bits(model, cache, tmp_path, method):
    run = drawing_run(model, **{"objective.name": method}, **METHODS[method])
    result = train(run, tmp_path / "whole", cache=cache)
    with pytest.raises(CutError):
        train(run, tmp_path / "cut", on_event=stop_after(2), cache=cache)
    train(run, tmp_path / "cut", resume=True, cache=cache)
    same_run(tmp_path / "whole", tmp_path / "cut")
    first = result.history[0]
    assert first["margin"] == 0.0
    assert 0 < first["kept"] <= 1
    assert first["score_range"] > 0
    assert result.health[0]["winner_drift"] == 0.0
    record = json.loads((tmp_path / "whole" / "record.json").read_text())
    assert record["rollout"]["scorer"]["name"] == "true reward"
    assert record["data"]["prompts"] == 8
    assert "8 prompts" in (result.export / "README.md").read_text()


def test_a_drawing_run_may_have_pairs_for_its_health_checks(model, data, cache, tmp_path):
    run = drawing_run(model, **{"data": str(data), "plan.steps": 1})
    result = train(run, tmp_path / "run", cache=cache)
    assert result.health[0]["pairs"] == 3
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["data"]["pairs"] == 40
    assert record["rollout"]["judged_per_step"] == 4


def test_a_drawing_run_is_refused_before_weights_are_loaded(tmp_path):
    run = drawing_run(tmp_path / "no model")
    for change, words in (
        ({"rollout.scorer": "wrld"}, "Did you mean world"),
        ({"rollout.scorer": f"latent:{tmp_path / 'none'}"}, "palate scorer train"),
        ({"rollout.prompts": str(tmp_path / "none.txt")}, "No such file"),
        ({"plan.caption_dropout": 0.2}, "guided steps ask about the empty prompt anyway"),
    ):
        with pytest.raises((SettingError, DataError), match=words):
            train(run.with_values(change), tmp_path / "run")


def test_another_scorer_is_another_run(model, cache, tmp_path):
    run = drawing_run(model, **{"plan.steps": 1})
    train(run, tmp_path / "run", cache=cache)
    other = run.with_values({"rollout.scorer": "world:vividness", "plan.steps": 2})
    with pytest.raises(StateError, match="Got data"):
        train(other, tmp_path / "run", resume=True, cache=cache)


@pytest.mark.slow
def test_a_scorer_of_noisy_latents_needs_no_decoder(tmp_path):
    pipeline = tiny.build(["a red thing"], size="micro")
    pipeline.save_pretrained(tmp_path / "model")
    save_scorer(LatentReward.from_pipeline(tmp_path / "model"), tmp_path / "scorer")
    run = drawing_run(
        tmp_path / "model",
        **{"objective.name": "lpo", "rollout.scorer": f"latent:{tmp_path / 'scorer'}",
           "rollout.threshold": 0.0, "rollout.threshold_high": None, "plan.steps": 2},
    )  # fmt: skip
    result = train(run, tmp_path / "run")
    assert result.history[0]["kept"] > 0
    assert all(
        torch.isfinite(torch.tensor(row["loss"])) for row in read_rows(result.out / "log.jsonl")
    )
