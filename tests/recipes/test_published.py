"""Published runs: complete, runs like any other, and every one takes a step."""

import inspect
import math
import re
from pathlib import Path

import pytest

from backbones import tiny_sd3
from palate.core.problems import SettingError
from palate.objectives import OBJECTIVES
from palate.recipes import published
from palate.recipes.published import RECIPES, Recipe, recipe
from palate.train.loop import train
from palate.train.run import Run
from train.conftest import WORDS, micro_model
from train.methods import data_for, smaller

# One of each kind of evidence; `make test-all` takes a step of all.
QUICK = ("dpo-sd15", "adaptive-dpo-sd15", "inpo-sd15")
SCALED = {"plan.batch": 2, "plan.micro_batch": 1, "plan.steps": 1, "plan.warmup_steps": 0,
          "plan.device": "cpu", "plan.tensorboard": "off", "pictures.resolution": None,
          "health.pairs": 2, "health.draws": 1, "health.stop": False}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micro model. Read only."""
    return micro_model(tmp_path_factory.mktemp("model") / "micro")


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose pictures and words share their attention. Read only."""
    folder = tmp_path_factory.mktemp("model") / "joint"
    tiny_sd3.build([f"a {word} thing" for word in WORDS], newer=True).save_pretrained(folder)
    return folder


def test_every_method_has_a_published_run_and_no_two_share_a_name():
    assert {each.method for each in RECIPES} == set(OBJECTIVES.names)
    assert len({each.name for each in RECIPES}) == len(RECIPES)
    for each in RECIPES:
        assert each.name.startswith(each.method)
        assert recipe(each.name) is each
        assert each.about.endswith(".")


@pytest.mark.parametrize("each", RECIPES, ids=lambda each: each.name)
def test_a_recipe_is_a_run_that_reads_back_and_keeps_every_setting_it_names(each: Recipe):
    drawn = OBJECTIVES.named(each.method).needs.scorer
    run = each.run("model", None if drawn else "pairs")
    assert Run.from_yaml_text(run.to_yaml()) == run
    values = run.values()
    for path, value in each.settings().items():
        group, _, name = path.partition(".")
        assert (values[group][name] if name else values[group]) == value, path
    assert run.planned_steps >= 1


def test_changes_go_before_what_was_published():
    run = recipe("dpo-sd15").run("model", "pairs", **{"objective.beta": 2000.0, "plan.steps": 900})
    assert (run.objective.settings["beta"], run.plan.steps, run.plan.batch) == (2000.0, 900, 2048)


def test_a_recipe_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(SettingError, match="Did you mean spin-sd15"):
        recipe("spin-sd14")


def test_every_setting_in_the_source_is_followed_by_where_it_stands():
    """A line that sets a value names its source, or says that the value is ours."""
    text = inspect.getsource(published)
    lines = re.findall(r'^        "(?!objective\.name)[a-z_.]+": .*$', text, re.MULTILINE)
    assert len(lines) > 100
    assert [line for line in lines if "  # " not in line] == []


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(each, id=each.name, marks=() if each.name in QUICK else pytest.mark.slow)
        for each in RECIPES
    ],
)
def test_a_recipe_scaled_down_takes_a_step(each: Recipe, model: Path, joint: Path, tmp_path: Path):
    model = joint if each.name.endswith("sd35") else model
    objective = OBJECTIVES.named(each.method)
    data = data_for(objective, tmp_path)
    told = None if data is None else str(data)
    whole = each.run(str(model), told, **{**SCALED, **smaller(objective)})
    result = train(whole, tmp_path / "out")
    assert result.steps == 1
    assert math.isfinite(result.history[0]["loss"])
    assert result.history[0]["skipped"] is None
