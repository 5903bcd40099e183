"""The whole evaluation, on two real small models."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from evaluate.tastes import GREEN, RED, Channel, Opposite, small_plan
from palate.backbones import load
from palate.backbones.sample import sample, starting_noise
from palate.core.problems import DataError, SettingError, StateError
from palate.evaluate import draw as drawing
from palate.evaluate.draw import Pictures, draw
from palate.evaluate.plan import Plan
from palate.evaluate.result import Evaluation
from palate.evaluate.suite import evaluate
from palate.report.report import Report


@pytest.fixture(scope="module")
def found(before, after, tmp_path_factory) -> Evaluation:
    register = tmp_path_factory.mktemp("registered") / "plan.json"
    return evaluate(before, after, small_plan(), (GREEN, RED), register=register)


def test_the_primary_scorer_comes_first_and_every_number_has_its_n(found):
    assert [opinion.scorer for opinion in found.opinions] == ["red", "green"]
    assert found.primary.adjusted_p is None
    assert found.opinions[1].adjusted_p == found.opinions[1].p_value
    assert {rate.n for rate in found.win_rates.values()} == {5}
    assert len(found.frame()) == 2 * 5


def test_the_win_rate_is_what_counting_the_pictures_gives(found, before, after):
    """Drawn again from the keyed noise, scored and counted without the evaluation's own code."""
    plan = small_plan()
    noise = starting_noise(before, [(prompt, 0) for prompt in plan.prompts], 3, (64, 64))
    red = [
        sample(model, plan.prompts, noise, plan.sampler).numpy()[..., 0].mean(axis=(1, 2))
        for model in (before, after)
    ]
    wins = (red[1] > red[0]).mean() + 0.5 * (red[1] == red[0]).mean()
    assert found.primary.win_rate.value == pytest.approx(wins)
    assert found.primary.difference is not None
    assert found.primary.difference.value == pytest.approx((red[1] - red[0]).mean(), abs=0.05)


def test_both_models_start_from_the_same_noise(before, after, monkeypatch):
    seen: list[np.ndarray] = []

    def watched(backbone, prompts, noise, sampler, batch):
        seen.append(noise.numpy().copy())
        return sample(backbone, prompts, noise, sampler, batch)

    monkeypatch.setattr(drawing, "sample", watched)
    draw(before, small_plan())
    draw(after, small_plan())
    assert np.array_equal(seen[0], seen[1])
    # Nine pictures, nine noises: two prompts with three each, three with one.
    assert len({row.tobytes() for row in seen[0]}) == len(seen[0]) == 9


def test_pictures_do_not_depend_on_which_other_prompts_are_asked(before):
    """Batches of another size may round another way: at most one level of 255."""
    plan = small_plan()
    fewer = replace(plan, prompts=plan.prompts[3:], variety_prompts=0)
    apart = draw(before, plan).images[-2:].astype(int) - draw(before, fewer).images
    assert np.abs(apart).max() <= 1


def test_a_model_against_itself_is_a_tie_everywhere_and_changes_nothing(before):
    found = evaluate(before, before, small_plan(), (RED, GREEN))
    for opinion in found.opinions:
        assert opinion.win_rate.value == 0.5
        assert opinion.win_rate.low < 0.5 < opinion.win_rate.high
        assert opinion.ties == 1.0
        assert opinion.p_value == 1.0
    for drift in (*found.variety, *found.style):
        assert (drift.difference.value, drift.difference.low, drift.difference.high) == (0, 0, 0)


def test_variety_is_measured_on_the_planned_prompts_only(found):
    assert {drift.before.n for drift in found.variety} == {2}
    assert {drift.pictures for drift in found.variety} == {3}
    assert found.plan.pictures_of(0) == 3
    assert found.plan.pictures_of(2) == 1


def test_one_picture_per_prompt_measures_no_variety(before):
    plan = replace(small_plan(), variety_prompts=0)
    assert evaluate(before, before, plan, (RED,)).variety == ()


def test_kept_pictures_of_this_model_and_plan_are_used(found, before, after, tmp_path, monkeypatch):
    draw(before, small_plan()).save(tmp_path / "before.safetensors")
    kept = Pictures.load(tmp_path / "before.safetensors", before, small_plan())
    drawn: list[object] = []

    def watched(backbone, prompts, noise, sampler, batch):
        drawn.append(backbone)
        return sample(backbone, prompts, noise, sampler, batch)

    monkeypatch.setattr(drawing, "sample", watched)
    again = evaluate(before, after, small_plan(), (GREEN, RED), pictures_before=kept)
    assert drawn == [after]
    assert again.win_rates == found.win_rates


def test_kept_pictures_of_another_model_or_plan_are_refused(before, after, tmp_path):
    kept = draw(before, small_plan())
    other = replace(small_plan(), seed=4)
    with pytest.raises(StateError, match="pictures of this model and plan"):
        evaluate(before, after, other, (RED, GREEN), pictures_before=kept)
    kept.save(tmp_path / "kept.safetensors")
    with pytest.raises(StateError, match="another model"):
        Pictures.load(tmp_path / "kept.safetensors", after, small_plan())


def test_a_broken_picture_loses_and_is_counted(before, after, monkeypatch):
    def broken_after(backbone, prompts, noise, sampler, batch):
        pictures = sample(backbone, prompts, noise, sampler, batch)
        return pictures * 0 if backbone is after else pictures

    monkeypatch.setattr(drawing, "sample", broken_after)

    likes_dark = Opposite("dark", 0)
    found = evaluate(before, after, replace(small_plan(), primary="dark"), (likes_dark,))
    assert found.primary.difference is not None
    assert found.primary.difference.value > 0
    assert found.broken == (0, 5)
    assert found.primary.win_rate.value == 0.0


def test_everything_survives_the_way_to_disk_and_back(found, tmp_path):
    found.save(tmp_path / "evaluation")
    back = Evaluation.load(tmp_path / "evaluation")
    assert back.to_json() == found.to_json()
    assert back.frame() == found.frame()
    assert (back.plan, back.opinions, back.variety) == (found.plan, found.opinions, found.variety)
    for new, old in zip(back.exhibits, found.exhibits, strict=True):
        assert np.array_equal(new.before, old.before)
        assert np.array_equal(new.after, old.after)


def test_the_json_is_strict_json_even_with_scores_that_are_not_finite(before):
    @dataclass(frozen=True)
    class Silent(Channel):
        """Says nothing finite."""

        def score(self, images, prompts):
            return np.array([np.nan, np.inf, -np.inf, np.nan, 1.0])[: len(images)]

    found = evaluate(before, before, replace(small_plan(), primary="x"), (Silent("x", 0),))
    assert found.primary.unscored == 4
    json.dumps(found.to_json(), allow_nan=False)


def test_a_damaged_picture_is_noticed(found, tmp_path):
    found.save(tmp_path / "evaluation")
    picture = tmp_path / "evaluation/pictures/000-after.png"
    data = bytearray(picture.read_bytes())
    data[-20] ^= 1
    picture.write_bytes(bytes(data))
    with pytest.raises(StateError, match="000-after"):
        Evaluation.load(tmp_path / "evaluation")


def test_a_folder_without_an_evaluation_says_so(tmp_path):
    with pytest.raises(DataError, match="Check the path"):
        Evaluation.load(tmp_path)


def test_everything_fixed_beforehand_is_confirmatory(found):
    assert found.missing == ()
    assert found.standing == "confirmatory"


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        (("plan", "seed"), "no seed"),
        (("plan", "prompts"), "no prompts"),
        (("plan", "ties"), "no tie rule"),
        (("plan", "primary"), "no primary"),
        (("plan",), "no seed"),
        (("before",), "model before"),
        (("after",), "model after"),
        (("registered_at",), "not registered"),
    ],
)
def test_a_report_that_leaves_a_point_open_is_exploratory(found, remove, words):
    """E3 of the reliability notes, on the written file as a stranger may hand it in."""
    values = json.loads(json.dumps(found.to_json()))
    inner = values
    for name in remove[:-1]:
        inner = inner[name]
    del inner[remove[-1]]
    if remove[-1] in ("prompts",):
        inner["variety_prompts"] = 0
    back = Evaluation.from_json(values)
    assert back.standing == "exploratory"
    assert words in "; ".join(back.missing)


def test_prompts_that_nobody_calls_held_out_are_exploratory(before, tmp_path):
    plan = replace(small_plan(), held_out=False)
    path = tmp_path / "plan.json"
    trained_on = [plan.prompts[1], "another"]
    found = evaluate(before, before, plan, (RED, GREEN), register=path, trained_on=trained_on)
    assert found.missing == (
        "nobody said that the prompts were held out of training",
        "1 of 5 prompts were trained on",
    )
    assert Evaluation.from_json(found.to_json()).missing == found.missing


def test_held_out_prompts_that_were_trained_on_are_refused_and_counted(before):
    plan = replace(small_plan(), held_out=True)
    with pytest.raises(SettingError, match="2 of 5 prompts that are in the training data"):
        evaluate(before, before, plan, (RED, GREEN), trained_on=set(plan.prompts[:2]))


def test_what_was_put_on_a_model_is_in_its_identity(before, after, folder, tmp_path):
    """A trained model loaded for drawing is not called untrained."""
    after.export(tmp_path / "export")
    loaded = drawing.identity(load(folder, weights=tmp_path / "export"))["trained"]
    assert drawing.identity(before)["trained"] == "nothing"
    assert len(loaded) == 64


def test_one_prompt_goes_through_without_an_interval_of_means(before, after, tmp_path):
    plan = replace(small_plan(), prompts=small_plan().prompts[:1], variety_prompts=1)
    found = evaluate(before, after, plan, (RED, GREEN), register=tmp_path / "plan.json")
    assert found.primary.win_rate.high - found.primary.win_rate.low > 0.7
    found.save(tmp_path / "kept")
    back = Evaluation.load(tmp_path / "kept")
    assert back.primary == found.primary
    assert back.variety == found.variety
    assert not back.primary.difference.bounded
    json.dumps(back.to_json(), allow_nan=False)
    report = Report(evaluation=back)
    assert "no interval from one prompt" in report.text()
    assert "inf" not in report.text()
    assert report.page()


def test_a_scorer_nobody_planned_makes_it_exploratory(before, tmp_path):
    plan = replace(small_plan(), secondary=())
    found = evaluate(before, before, plan, (RED, GREEN), register=tmp_path / "plan.json")
    assert found.missing == ("no plan named the scorer green",)


def test_a_planned_scorer_that_was_not_asked_is_told(before, tmp_path):
    found = evaluate(before, before, small_plan(), (RED,), register=tmp_path / "plan.json")
    assert found.missing == ("the planned scorer green was not asked",)


def test_the_plan_is_on_disk_before_the_first_picture(before, tmp_path, monkeypatch):
    def looks(*_, **__):
        assert (tmp_path / "plan.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(drawing, "sample", looks)
    with pytest.raises(KeyboardInterrupt):
        evaluate(before, before, small_plan(), (RED, GREEN), register=tmp_path / "plan.json")


def test_a_registered_plan_cannot_be_swapped_for_another(tmp_path):
    path = tmp_path / "plan.json"
    first = small_plan().register(path)
    assert small_plan().register(path) == first
    with pytest.raises(StateError, match="another plan"):
        replace(small_plan(), seed=99).register(path)


def test_plans_read_back_equal_and_digests_tell_plans_apart():
    plan = small_plan()
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert replace(plan, primary="green").digest != plan.digest


@pytest.mark.parametrize(
    ("plan", "scorers", "words"),
    [
        (Plan(prompts=()), (RED,), "without prompts"),
        (Plan(prompts=("a",), primary="blue"), (RED,), "blue"),
        (Plan(prompts=("a",)), (RED, RED), "its own name"),
    ],
)
def test_what_cannot_work_is_refused_before_drawing(before, plan, scorers, words):
    with pytest.raises(SettingError, match=words):
        evaluate(before, before, plan, scorers)


def test_a_prompt_twice_is_refused():
    with pytest.raises(SettingError, match="Remove the duplicates"):
        Plan(prompts=("a", "a"))


def test_a_scorer_with_the_wrong_number_of_answers_is_named(before):
    @dataclass(frozen=True)
    class Short(Channel):
        """Forgets one."""

        def score(self, images, prompts):
            return np.zeros(len(images) - 1)

    with pytest.raises(SettingError, match="from short"):
        evaluate(before, before, replace(small_plan(), primary=None), (Short("short", 0),))
