"""The doctor ticks what is well, and for what is not says the one thing that helps."""

import shutil
import tomllib

import pytest
from packaging.requirements import Requirement

from palate.core.files import load_weights, save_weights
from palate.recipes.preflight import FLOORS, preflight


def by_name(ticks):
    return {tick["name"]: tick for tick in ticks}


def test_a_good_model_passes_every_check(palate, micro, tmp_path):
    answer = palate("doctor", "--model", micro, "--folder", tmp_path, "--json")
    ticks = by_name(answer.json)
    assert answer.code == 0, answer.out
    assert {tick["status"] for tick in ticks.values()} <= {"ok", "skipped"}
    assert ticks["step"]["detail"].startswith("margin 0 at the first step, finite gradient")
    assert {"version of torch", "version of pillow", "disk", "memory", "threads"} <= set(ticks)


def test_weights_that_are_not_finite_fail_with_the_code_for_weights(palate, micro, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(micro, broken)
    file = next((broken / "unet").glob("*.safetensors"))
    tensors = load_weights(file)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = float("nan")
    save_weights(file, tensors)
    answer = palate("doctor", "--model", broken, "--folder", tmp_path)
    assert answer.code == 4
    assert "✗ weights" in answer.out
    assert "NaN" in answer.out
    assert "– step: not asked" in answer.out


def test_a_model_that_is_not_there_leaves_the_other_questions_answered(palate, tmp_path):
    answer = palate("doctor", "--model", "nowhere", "--folder", tmp_path, "--json")
    ticks = by_name(answer.json)
    assert answer.code == 4
    assert ticks["model"]["status"] == "failed"
    assert ticks["model"]["fix"]
    assert ticks["disk"]["status"] == "ok"
    assert ticks["step"]["status"] == "skipped"


def test_a_package_that_is_too_old_is_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr("palate.recipes.preflight.requires", lambda name: ["numpy>=99"])
    tick = preflight("nowhere", tmp_path)[0]
    assert (tick.status, tick.exit_code) == ("failed", 7)
    assert tick.fix == "pip install 'numpy>=99'"


@pytest.mark.parametrize("floor", FLOORS)
def test_the_package_asks_for_no_less_than_the_floors(repository, floor):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = {r.name: r for r in map(Requirement, project["dependencies"])}
    lowest = Requirement(floor)
    minimum = next(s.version for s in wanted[lowest.name].specifier if s.operator == ">=")
    assert lowest.specifier.contains(minimum)
