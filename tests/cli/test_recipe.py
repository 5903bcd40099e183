"""`palate train --recipe`: a published run on one's own model and data, with changes."""

from palate.recipes.published import recipe
from palate.train.run import Run


def test_a_recipe_is_the_published_run_on_the_model_and_data_given(palate):
    answer = palate("train", "--recipe", "dpo-sd15", "--model", "m", "--data", "d", "--dry-run")
    assert Run.from_yaml_text(answer.out) == recipe("dpo-sd15").run("m", "d")


def test_flags_go_before_the_recipe_and_another_method_brings_its_own_settings(palate):
    words = ("train", "--recipe", "dpo-sd15", "--model", "m", "--data", "d", "--dry-run")
    run = Run.from_yaml_text(palate(*words, "--steps", 900, "--method", "spin").out)
    assert (run.plan.steps, run.plan.batch) == (900, 2048)
    assert run.objective.settings["beta"] == 2000.0
    assert run.plays
    lora = palate("train", "--recipe", "npo-sd15", "--model", "m", "--data", "d", "--full",
                  "--dry-run")  # fmt: skip
    assert Run.from_yaml_text(lora.out).adapter is None


def test_what_is_missing_or_said_twice_is_refused(palate):
    words = ("train", "--recipe", "dpo-sd15")
    assert "Need  model" in palate(*words, "--data", "d", "--dry-run").err
    assert "no data for objective dpo" in palate(*words, "--model", "m", "--dry-run").err
    assert "with --config" in palate(*words, "--config", "run.yaml", "--dry-run").err
    wrong = palate("train", "--recipe", "dpo-sd2", "--model", "m", "--dry-run")
    assert wrong.code == 2
    assert "Did you mean dpo-sd" in wrong.err


def test_a_file_of_one_method_is_a_start_for_another(palate, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(recipe("inpo-sd15").run("m", "d", **{"plan.steps": 900}).to_yaml())
    answer = palate("train", "--config", file, "--method", "dpo", "--beta", 500, "--dry-run")
    run = Run.from_yaml_text(answer.out)
    assert (run.evidence, run.pictures.latents) == ("noised", "sample")
    assert (run.objective.settings["beta"], run.plan.steps, run.plan.batch) == (500.0, 900, 1024)
