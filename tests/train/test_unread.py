"""What a run would never look at is refused while it is read, in three parts."""

import pytest

from palate.core.problems import DataError, SettingError
from palate.objectives import OBJECTIVES
from palate.train.labels import check_labels
from palate.train.loop import train
from palate.train.run import Run
from palate.train.scoring import check_scorer
from train.conftest import small_run, snapshot


def run_of(method: str, **more: object) -> Run:
    """A method as published, on data unless the policy draws all there is."""
    told = {} if OBJECTIVES[method].needs.scorer else {"data": "d"}
    return Run.from_values({"model": "m", "objective.name": method, **told, **more})


@pytest.mark.parametrize("method", OBJECTIVES.names)
def test_every_method_as_published_reads_all_it_brings(method):
    run = run_of(method)
    assert Run.from_yaml_text(run.to_yaml()) == run


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("spin", {"selfplay": None}, "objective spin with neither rollout nor selfplay"),
        ("d3po", {"noise.levels": "logit-normal"}, r"noise\.levels=logit-normal with a rollout"),
        ("d3po", {"noise.shared": False}, r"noise\.shared=False with a rollout"),
        ("d3po", {"pictures.flip": True}, r"Leave out pictures\.flip"),
        ("d3po", {"pictures.crop": "random", "data": "d"}, r"pictures\.crop=random with a roll"),
        ("d3po", {"pictures.latents": "mean"}, r"pictures\.latents=mean with a rollout"),
        ("d3po", {"split.by": "judge"}, r"split\.by=judge with a rollout"),
        ("d3po", {"split.held_out": 0.3}, r"split\.held_out=0\.3 with a rollout"),
        ("d3po", {"rollout.threshold_high": 0.5}, "a finished picture is judged once"),
        ("see-dpo", {"objective.clip": 0.1}, r"objective\.clip of see-dpo without a rollout"),
        ("see-dpo", {"objective.clip": 0.1, "inversion.by": "policy"}, "without a rollout"),
        ("sdpo", {"noise.shared": False}, r"noise\.shared=False with objective sdpo"),
        ("mapo", {"inversion.target": "reference", "inversion.by": "policy"}, "asks no reference"),
        ("spin", {"labels.scorer": "world"}, r"spin and labels\.scorer=world"),
        ("capo", {"labels.scorers": ["world"], "selfplay.iterations": 2}, "labels that nobody"),
        ("dedpo", {"selfplay.iterations": 2}, "objective dedpo and its labels"),
        ("spin", {"selfplay.opponent": "trajectory", "noise.levels": "logit-normal"},
         r"noise\.levels=logit-normal with selfplay\.opponent=trajectory"),
        ("dpo", {"selfplay.opponent": "trajectory", "inversion.steps": 4,
                 "pictures.latents": "mean"}, "with the group inversion"),
        ("sft", {"selfplay.opponent": "trajectory"}, "sft, which asks no reference"),
        ("dpo", {"labels.sharpness": 2.0}, "without a scorer"),
        ("capo", {"labels.sharpness": None}, "without a scorer"),
        ("kto", {"labels.any_draw": True}, "an objective that corrects a machine's labels"),
    ],
)  # fmt: skip
def test_what_nobody_would_read_is_refused(method, more, message):
    with pytest.raises(SettingError, match=message):
        run_of(method, **more)


def test_what_somebody_reads_is_taken():
    run_of("d3po", **{"data": "d", "split.held_out": 0.3, "noise.lowest": 0.2})
    run_of("spo", **{"rollout.threshold_high": 0.5})
    run_of("see-dpo", **{"objective.clip": 0.1, "rollout.steps": 4})
    run_of("dpo", **{"labels.sharpness": 2.0, "labels.scorer": "world"})
    run_of("capo", **{"labels.sharpness": None, "labels.scorers": ["world"]})
    run_of("dedpo", **{"labels.any_draw": True})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("wrld", r"Did you mean world"),
        ("clip:./none", "a folder that is not there"),
        ("steps:./none", "judges unfinished pictures"),
        ("world:vividnes", "Did you mean vividness"),
    ],
)
def test_a_judge_of_pairs_that_cannot_be_opened_is_refused_by_name(words, message):
    check_scorer("world:vividness")
    check_scorer("clip:owner/name")
    with pytest.raises(SettingError, match=message):
        check_labels(run_of("dpo", **{"labels.scorer": words}))
    with pytest.raises(SettingError, match=message):
        check_labels(run_of("capo", **{"labels.scorers": ["world", words]}))


def test_a_self_play_that_could_hold_nothing_out_draws_nothing(tmp_path):
    run = small_run(tmp_path / "no model", snapshot(tmp_path, 2))
    game = run.with_values({"objective.name": "spin", "selfplay.steps": None})
    with pytest.raises(DataError, match="2 pairs, all with the same prompt"):
        train(game, tmp_path / "out")
    assert not (tmp_path / "out").exists()
