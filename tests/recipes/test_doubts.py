"""What runs say of pairs: margins by hand, kept between calls, and by runs that never saw them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.judged import row
from audit.judged import snapshot as judged
from palate.audit.minority import RunEvidence
from palate.backbones import load
from palate.core.problems import DataError, SettingError, StateError
from palate.core.streams import Streams
from palate.data.pairs import PreferencePairs
from palate.data.snapshot import read_rows as snapshot_rows
from palate.recipes.doubts import (
    cross_margins,
    name_of,
    planned_run,
    run_evidence,
    settings_of,
)
from palate.recipes.held_out import of_people
from palate.recipes.margins import by_digest
from palate.train.batch import Batches
from palate.train.cache import Cache
from palate.train.groups import NoiseSettings, Pictures
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.noise import Fixed
from train.conftest import micro_model, small_run, snapshot

ADAPTIVE = {
    "objective.name": "adaptive-dpo", "objective.beta": 2000.0, "objective.warm_up": 1,
    "plan.steps": 4, "plan.learning_rate": 1e-2, "split.held_out": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, twelve pairs on six prompts, and an adaptive run on them."""
    folder = tmp_path_factory.mktemp("doubts")
    run = small_run(micro_model(folder / "model"), snapshot(folder, 12)).with_values(ADAPTIVE)
    train(run, folder / "run")
    return folder


@pytest.fixture(scope="module")
def evidence(place: Path) -> RunEvidence:
    return run_evidence(place / "run", place / "snapshot", draws=3)


def test_a_margin_is_the_gain_on_the_winner_minus_that_on_the_loser(place, evidence):
    """Restated for one pair, one draw and one picture at a time."""
    pairs = PreferencePairs.open(place / "snapshot")
    base = load(place / "model")
    trained = load(place / "model", weights=place / "run" / "export")
    cache, pictures = Cache(place / "cache", base, base.resolution), Pictures()
    batches = Batches(cache=cache, pictures=pictures, streams=Streams(0))
    pair = pairs[3]
    batch = batches.plain([by_digest(pair)])
    margins = []
    for draw in range(3):
        source = Fixed(streams=Streams(0), path=base.path, settings=NoiseSettings(),
                       draw=draw, draws=3)  # fmt: skip
        question = source(batch)
        gains = []
        for side in (0, 1):
            with torch.no_grad():
                said = [
                    each.predict(question.noisy[side], question.level, question.conditions[side])
                    for each in (base, trained)
                ]
            errors = [float((one - question.target[side]).square().mean()) for one in said]
            gains.append(errors[0] - errors[1])
        winner = 0 if by_digest(pair).chosen == pair.chosen else 1
        margins.append(gains[winner] - gains[1 - winner])
    found = evidence.pairs[pair.id]
    # Float32 errors near 1 differ in their seventh digit from one batch size to another.
    assert found.margin == pytest.approx(np.mean(margins), abs=3e-6)
    assert found.spread == pytest.approx(np.std(margins, ddof=1), abs=3e-6)
    assert abs(found.margin) > 3e-5


def test_every_strict_pair_is_judged_and_held_out_prompts_are_told(place, evidence):
    pairs = PreferencePairs.open(place / "snapshot")
    run = small_run(place / "model", place / "snapshot").with_values(ADAPTIVE)
    learned, _ = pairs.split(by="prompt", held_out=0.3, seed=run.seed)
    assert set(evidence.pairs) == {pair.id for pair in pairs}
    assert {n for n, each in evidence.pairs.items() if not each.held_out} == {
        pair.id for pair in learned
    }
    assert not evidence.held_out


def test_minority_scores_are_means_over_visits_after_the_warm_up(place, evidence):
    rows = read_rows(place / "run" / "pairs.jsonl")
    name = rows[-1]["pair"]
    visits = [row["minority"] for row in rows if row["pair"] == name and row["step"] > 1]
    assert evidence.pairs[name].minority == pytest.approx(np.mean(visits))
    assert evidence.pairs[name].visits == len(visits)
    unseen = set(evidence.pairs) - {row["pair"] for row in rows}
    assert all(evidence.pairs[each].minority is None for each in unseen)


def test_asked_again_nothing_is_computed(place, evidence):
    heard: list[str] = []
    again = run_evidence(
        place / "run", place / "snapshot", draws=3, progress=lambda what, *_: heard.append(what)
    )
    assert again == evidence
    assert not heard


def test_a_label_turned_round_turns_its_margin_and_nothing_is_computed(place, evidence, tmp_path):
    turned = snapshot(tmp_path, 12, swapped=lambda i: i % 2 == 0)
    heard: list[str] = []
    found = run_evidence(
        place / "run", turned, draws=3, progress=lambda what, *_: heard.append(what)
    )
    assert not heard
    before = {p.prompt + min(p.chosen, p.rejected): (p, evidence.pairs[p.id].margin)
              for p in PreferencePairs.open(place / "snapshot")}  # fmt: skip
    signs = []
    for pair in PreferencePairs.open(turned):
        was, margin = before[pair.prompt + min(pair.chosen, pair.rejected)]
        sign = 1 if was.chosen == pair.chosen else -1
        assert found.pairs[pair.id].margin == sign * margin
        signs.append(sign)
    assert {1, -1} == set(signs)


def test_the_base_model_s_errors_come_along_for_every_picture(place, evidence):
    pairs = PreferencePairs.open(place / "snapshot")
    names = {(p.prompt, picture) for p in pairs for picture in (p.chosen, p.rejected)}
    assert len(evidence.scores) == 6
    for known in evidence.scores.values():
        assert set(known) == names
        assert np.isfinite(list(known.values())).all()


def test_a_folder_that_is_no_finished_run_is_refused(place, tmp_path):
    with pytest.raises(StateError, match="which is no finished run"):
        run_evidence(tmp_path, place / "snapshot")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"objective.name": "sft"}, "a run of sft, which has no beta"),
        ({"adapter": None, "personal.users": "looks"}, "a run that follows people"),
    ],
)
def test_a_run_without_implicit_margins_is_refused(place, tmp_path, changed, message):
    shutil.copytree(place / "run", tmp_path / "run")
    settings = small_run(place / "model", place / "snapshot").with_values(changed)
    (tmp_path / "run" / "run.yaml").write_text(settings.to_yaml())
    with pytest.raises(SettingError, match=message):
        run_evidence(tmp_path / "run", place / "snapshot")


@pytest.mark.slow
def test_folds_judge_pairs_whose_prompts_they_never_saw_and_resume(place, tmp_path):
    """Broken off when the second fold is asked; then finished: the same as in one go."""
    small = {"plan.steps": 2, "plan.warmup_steps": 0, "plan.batch": 4, "health.pairs": 2,
             "split.held_out": 0.3}  # fmt: skip
    told = {"model": str(place / "model"), "settings": small, "draws": 2, "cache": tmp_path / "c"}
    whole = cross_margins(place / "snapshot", tmp_path / "whole", **told)
    heard: list[str] = []

    class StopError(Exception):
        pass

    def break_off(what: str, *_counts: int) -> None:
        heard.append(what)
        if heard.count("trained model") == 2:
            raise StopError

    shutil.rmtree(tmp_path / "c" / "errors")
    with pytest.raises(StopError):
        cross_margins(place / "snapshot", tmp_path / "broken", **told, progress=break_off)
    resumed = cross_margins(place / "snapshot", tmp_path / "broken", **told)
    assert resumed == whole
    assert whole.held_out
    assert set(whole.pairs) == {pair.id for pair in PreferencePairs.open(place / "snapshot")}
    seen = [
        {json.loads(line)["prompt"] for line in file.read_text().splitlines()}
        for file in sorted((tmp_path / "whole").glob("fold-*-data/*.jsonl"))
    ]
    assert len(seen) == 2
    assert not seen[0] & seen[1]


def test_only_people_s_labels_are_learned_from_where_there_are_any(tmp_path):
    people = [row(2 * i, 2 * i + 1, prompt=f"a fox {i}") for i in range(3)]
    machine = [{**each, "judge": "clip", "source": "scorer"} for each in people]
    ties = [row(2 * i, 2 * i + 1, 0.5, prompt=f"a fox {i}") for i in range(3)]
    both = judged(tmp_path / "both", [*people, *machine])
    kept = of_people(both, tmp_path / "work")
    assert {each.source for each in snapshot_rows(kept)} == {"human"}
    assert {each.id for each in snapshot_rows(kept)} < {each.id for each in snapshot_rows(both)}
    assert of_people(both, tmp_path / "work") == kept
    for name, rows in {"people": people, "machine": machine, "ties": [*machine, *ties]}.items():
        alone = judged(tmp_path / name, rows)
        assert of_people(alone, tmp_path / "work") == alone


def test_folds_of_other_settings_or_data_never_answer_for_each_other(place, tmp_path):
    """Wherever the data lies."""
    told = planned_run(place / "snapshot")
    moved = planned_run(tmp_path)
    assert name_of(told, 2, "x") == name_of(moved, 2, "x")
    steps = planned_run(place / "snapshot", settings={"plan.steps": 7})
    like = planned_run(place / "snapshot", like=settings_of(place / "run"))
    names = [name_of(run, folds, data)
             for run, folds, data in ((told, 2, "x"), (steps, 2, "x"), (like, 2, "x"),
                                      (told, 3, "x"), (told, 2, "y"))]  # fmt: skip
    assert len(set(names)) == 5
    assert (like.model, like.objective.name) == (str(place / "model"), "adaptive-dpo")


def test_more_folds_than_prompts_can_fill_are_refused(place, tmp_path):
    with pytest.raises(DataError, match=r"on 6 prompts\. Need at least 8 prompts for 4 folds"):
        cross_margins(place / "snapshot", tmp_path, folds=4)


def test_one_fold_is_refused(place, tmp_path):
    with pytest.raises(SettingError, match=r"Got folds=1\. Need at least 2"):
        cross_margins(place / "snapshot", tmp_path, folds=1)
