"""Settings mean what they say, and are refused in three parts before anything is loaded."""

import math

import pytest

from palate.core.problems import SettingError
from palate.objectives import DPO
from palate.train.groups import Plan
from palate.train.run import Run, settings
from palate.train.strict import parse_yaml

START = "model: m\ndata: d\n"


def read(text: str) -> Run:
    return Run.from_yaml_text(START + text)


def test_a_run_printed_whole_reads_back_the_same():
    run = Run.from_values(
        {
            "model": "m",
            "data": "d",
            "plan.learning_rate": 1e-5,
            "objective.beta": 500,
            "adapter": None,
        }
    )
    again = Run.from_yaml_text(run.to_yaml())
    assert again == run
    assert again.digest == run.digest
    assert again.adapter is None
    assert "logit = (beta/2) · margin" in run.to_yaml()


@pytest.mark.parametrize(
    "word",
    ["08", "1e5", "12e3", "1_000", ".5", "-3", ".inf", "yes", "no", "true", "False", "null", "~",
     "0x10", "1:30", "2024-01-01", "=", "<<", "a: b", "#x", " x ", "é", "it's", "two\nlines"],
)  # fmt: skip
def test_a_word_that_looks_like_something_else_stays_a_word(word):
    run = Run.from_values({"model": word, "data": word, "adapter.targets": [word, "to_q"]})
    assert Run.from_yaml_text(run.to_yaml()) == run


def test_the_objective_is_recorded_whole_and_built():
    run = Run(model="m", data="d")
    assert run.values()["objective"] == {"name": "dpo", "beta": 2000.0}
    assert read("objective: {name: dpo, beta: 500}\n").build_objective() == DPO(beta=500.0)


def test_a_number_with_an_exponent_is_a_number():
    assert read("plan: {learning_rate: 1e-5}\n").plan.learning_rate == 1e-5
    assert read("plan: {steps: 1_000}\n").plan.steps == 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plan:\n  steps: 5\n  steps: 6\n", r"plan\.steps twice \(lines 4 and 5\)"),
        ("plan:\n  stps: 6\n", r"unknown setting plan\.stps \(line 4\).*Did you mean plan\.steps"),
        ("learning_rate: 1e-5\n", r"\(line 3\).*Did you mean plan\.learning_rate"),
        ("modl: x\n", r"unknown setting modl \(line 3\).*Did you mean model"),
        ("objective: {name: dop}\n", r"objective='dop' \(line 3\).*dpo, sft.*Did you mean dpo"),
        ("objective: {bta: 3}\n", r"unknown setting objective\.bta \(line 3\).*objective\.beta"),
        ("objective: {name: sft, beta: 3}\n", r"objective\.beta \(line 3\).*no settings in"),
        ("objective:\n  name: dpo\n  beta: -1\n", r"beta=-1\.0 \(line 5\)\. Need beta > 0"),
        ("objective: {beta: x}\n", r"objective\.beta='x'.*number"),
        ("plan: &a {steps: 5}\nnoise: *a\n", r"anchor or alias.*\(line 3\)"),
        ("plan: {steps: !!python/name:os.system }\n", r"a tag .*\(line 3\)"),
        ("plan: 3\n", r"plan=3 \(line 3\)\. Need a group of settings"),
        ("plan: {steps: '5'}\n", r"plan\.steps='5' \(line 3\)\. Need integer"),
        ("plan: {steps: 5.5}\n", r"Need integer"),
        ("plan: {steps: 0}\n", r"Need greater than or equal to 1"),
        ("plan: {learning_rate: .nan}\n", r"learning_rate=nan.*finite"),
        ("plan: {learning_rate: -1e-5}\n", r"greater than 0"),
        ("plan: {warmup_steps: 300}\n", r"warm-up no longer"),
        ("plan: {batch: 4, micro_batch: 8}\n", r"micro_batch ≤ plan\.batch"),
        ("plan: {betas: [0.9, 1.0]}\n", r"two numbers in \[0, 1\)"),
        ("plan: {precision: fp16, device: cpu}\n", r"Need fp32 or bf16"),
        ("pictures: {crop: centre}\n", r"Did you mean center"),
        ("noise: {lowest: 0.5, highest: 0.5}\n", r"Need lowest < highest"),
        ("health: {ignore: [winner-drft]}\n", r"Did you mean winner-drift"),
        ("seed: yes\n", r"seed='yes' \(line 3\)\. Need integer"),
        ("plan: [1, 2\n", r"Need valid YAML"),
        ("x: " + "[" * 50, r"deep nesting"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong_is_refused_with_its_line(text, message):
    with pytest.raises(SettingError, match=message) as caught:
        read(text)
    assert caught.value.exit_code == 2


def test_python_users_are_told_the_same():
    with pytest.raises(SettingError, match=r"unknown setting plan\.stps"):
        Plan(stps=3)
    with pytest.raises(SettingError, match=r"Got no data for objective dpo\. Need the folder"):
        Run(model="m")


def test_settings_that_contradict_are_refused():
    with pytest.raises(SettingError, match=r"adapter\.rank=4 with adapter: None"):
        Run.from_values({"model": "m", "data": "d", "adapter": None, "adapter.rank": 4})


def test_flags_over_a_file_change_only_what_they_name():
    run = read("objective: {name: dpo, beta: 500}\nplan: {steps: 7}\n")
    changed = run.with_values({"plan.batch": 3, "objective.name": "sft"})
    assert changed.differences(run) == {
        "objective.beta": (None, 500.0),
        "objective.name": ("sft", "dpo"),
        "plan.batch": (3, 16),
    }
    assert run.with_values({"plan.batch": 3}).objective == run.objective


def filed(method: str, **more: object) -> str:
    """The file of a method as published, everything written out."""
    told = {"model": "m", "data": "d", "objective.name": method}
    return Run.from_values({**told, **more}).to_yaml()


def over(text: str, **changes: object) -> Run:
    """A run from a file's text and changes over it, as the command line makes it."""
    values, lines = parse_yaml(text)
    return Run.from_values(values, changes=changes, lines=lines)


@pytest.mark.parametrize(
    ("before", "after"),
    [("inpo", "dpo"), ("npo", "dpo"), ("dpo", "spin"), ("dpo", "d3po"), ("spin", "sft"),
     ("flow-dpo", "dpo"), ("lpo", "spo"), ("inpo", "inversion-dpo")],
)  # fmt: skip
def test_another_method_over_a_file_is_that_method_as_published(before, after):
    run = over(filed(before), **{"objective.name": after})
    assert run == Run.from_values({"model": "m", "data": "d", "objective.name": after})


def test_what_was_chosen_in_a_file_stays_when_the_method_changes():
    text = filed("d3po", **{"rollout.prompts": "mine.txt", "plan.steps": 7, "noise.lowest": 0.1})
    run = over(text, **{"objective.name": "spo", "seed": 5})
    assert run.rollout is not None
    assert (run.rollout.prompts, run.rollout.labels) == ("mine.txt", "steps")
    assert (run.plan.steps, run.noise.lowest, run.seed) == (7, 0.1, 5)
    alone = over("model: m\ndata: d\nselfplay: {iterations: 2}\n", **{"objective.name": "spin"})
    assert alone.rounds == 2


def test_what_is_wrong_in_a_file_keeps_its_line_under_changes():
    with pytest.raises(SettingError, match=r"plan=3 \(line 3\)"):
        over(START + "plan: 3\n", **{"plan.steps": 5})
    with pytest.raises(SettingError, match=r"noise\.lowest=3 \(line 4\)"):
        over(START + "noise:\n  lowest: 3\n", **{"objective.name": "sft"})


def test_every_setting_has_help_and_only_the_model_is_required():
    known = settings()
    assert all(setting.help for setting in known)
    assert [setting.path for setting in known if setting.required] == ["model"]
    assert next(s for s in known if s.path == "plan.schedule").options == (
        "constant", "cosine", "linear",
    )  # fmt: skip


def test_nothing_in_a_run_is_infinite():
    with pytest.raises(SettingError, match="finite"):
        Plan(clip_norm=math.inf)
