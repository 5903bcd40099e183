"""The whole work through the command line: import, train, resume, look, evaluate, report."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palate.train.run import Run


@pytest.fixture(scope="module")
def trained(palate, micro: Path, snapshot: Path, tmp_path_factory) -> Path:
    """A finished run of three steps."""
    run = tmp_path_factory.mktemp("runs") / "first"
    answer = palate(
        *("train", "--model", micro, "--data", snapshot, "--out", run, "--json"),
        *("--steps", 3, "--batch", 4, "--rank", 2, "--save-every", 2, "--health-every", 3),
        *("--held-out", 0.3, "--learning-rate", "1e-3", "--tensorboard", "off"),
    )
    assert answer.code == 0, answer.err
    result = answer.json
    assert result["steps"] == 3
    assert result["status"] in ("healthy", "watch")
    assert result["last"]["step"] == 3
    assert Path(result["export"]) == run / "export"
    return run


@pytest.fixture(scope="module")
def evaluated(palate, trained: Path) -> Path:
    """The same run, after somebody asked whether it helped."""
    answer = palate(
        *("evaluate", "--after", trained, "--prompts", "world:held-out:3", "--scorer", "world"),
        *("--steps", 2, "--variety-prompts", 0, "--json"),
    )
    assert answer.code == 0, answer.err
    facts = answer.json
    assert facts["scorer"] == "true reward"
    assert facts["prompts"] == 3
    assert facts["standing"] == "confirmatory"
    assert 0 <= facts["low"] <= facts["win_rate"] <= facts["high"] <= 1
    return trained


def test_an_import_prints_in_as_kept_plus_dropped_and_what_comes_next(palate, parquet, tmp_path):
    answer = palate("data", "import", parquet, "--store", tmp_path / "store")
    assert answer.out.startswith("30 rows read = 30 kept + 0 dropped")
    assert "10 ties (never a win)" in answer.out
    assert f"palate data freeze {tmp_path / 'store'} my-pairs" in answer.out
    assert "as pickapic" in answer.err


def test_an_import_as_json_says_the_same(palate, parquet, tmp_path):
    words = ("data", "import", parquet, "--store", tmp_path / "s", "--freeze", tmp_path / "f")
    facts = palate(*words, "--json").json
    assert (facts["read"], facts["kept"], facts["ties"], facts["dropped"]) == (30, 30, 10, {})
    assert len(facts["snapshot"]["digest"]) == 64


def test_a_setting_of_another_format_is_refused_before_the_store_is_touched(
    palate, parquet, tmp_path
):
    words = ("data", "import", parquet, "--store", tmp_path / "s", "--chosen", "good")
    answer = palate(*words)
    assert answer.code == 2
    assert "chosen" in answer.err


def test_show_counts_pairs_and_draws_them(palate, snapshot, tmp_path):
    facts = palate("data", "show", snapshot, "--json").json
    assert facts["pairs"] == 20
    assert facts["ties_left_out"] == 10
    answer = palate("data", "show", snapshot, "--grid", tmp_path / "g.png", "--count", 3)
    assert answer.code == 0
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.width == 6 * 200 + 8


def test_a_store_is_shown_and_frozen(palate, snapshot, tmp_path):
    store = snapshot.parent / "store"
    assert palate("data", "show", store, "--json").json["comparisons"] == 30
    facts = palate("data", "freeze", store, tmp_path / "again", "--json").json
    assert facts["comparisons"] == 30
    assert palate("data", "freeze", store, tmp_path / "again").code == 5


def test_a_dry_run_prints_settings_that_read_back_and_writes_nothing(palate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("train", "--model", "m", "--data", "d", "--steps", 9, "--full", "--dry-run")
    answer = palate(*words)
    assert answer.code == 0
    run = Run.from_yaml_text(answer.out)
    assert run.plan.steps == 9
    assert run.adapter is None
    assert list(tmp_path.iterdir()) == []


def test_flags_override_a_file_and_another_method_drops_the_files_own_settings(palate, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: m\nobjective: {name: dpo, beta: 500}\nplan:\n  steps: 5\n  batch: 2\n")
    words = ("train", "--config", file, "--data", "d", "--steps", 7, "--dry-run")
    run = Run.from_yaml_text(palate(*words).out)
    assert (run.plan.steps, run.plan.batch, run.objective.settings) == (7, 2, {"beta": 500.0})
    other = Run.from_yaml_text(palate(*words, "--method", "sft").out)
    assert (other.objective.name, other.objective.settings) == ("sft", {})


def test_a_mistake_in_a_file_is_named_with_its_line(palate, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: m\ndata: d\nplan:\n  stepz: 5\n")
    answer = palate("train", "--config", file, "--dry-run")
    assert answer.code == 2
    assert "line 4" in answer.err
    assert "plan.steps" in answer.err


def test_the_whole_run_is_shown_before_it_starts(palate, micro, snapshot, tmp_path):
    words = ("train", "--model", micro, "--data", snapshot, "--out", tmp_path / "run")
    answer = palate(*words, "--steps", 1, "--batch", 2, "--method", "sft", "--held-out", 0.3)
    assert answer.code == 0, answer.err
    assert "objective name=sft" in answer.err
    assert "learning_rate=2e-05" in answer.err
    assert f"palate evaluate --after {tmp_path / 'run'}" in answer.out


def test_runs_are_listed_with_their_checkpoints(palate, trained):
    rows = palate("runs", trained.parent, "--json").json
    row = next(each for each in rows if Path(each["folder"]).name == "first")
    assert (row["status"], row["step"], row["steps"]) == ("finished", 3, 3)
    assert {each["state"] for each in row["checkpoints"]} == {"ok"}
    assert "first" in palate("runs", trained.parent).out


def test_a_damaged_checkpoint_is_seen(palate, trained, tmp_path):
    import shutil

    copy = tmp_path / "runs" / "copy"
    shutil.copytree(trained, copy)
    newest = sorted((copy / "checkpoints").iterdir())[-1]
    largest = max(newest.glob("*.safetensors"), key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-1] ^= 1
    largest.write_bytes(bytes(data))
    rows = palate("runs", tmp_path / "runs", "--json").json
    assert [each["state"] for each in rows[0]["checkpoints"]].count("damaged") == 1
    assert "1 damaged" in palate("runs", tmp_path / "runs").out


def test_a_finished_run_resumes_to_the_same_end(palate, trained):
    before = (trained / "export" / "pytorch_lora_weights.safetensors").read_bytes()
    answer = palate("resume", trained, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["steps"] == 3
    assert (trained / "export" / "pytorch_lora_weights.safetensors").read_bytes() == before


def test_resume_takes_the_settings_that_messages_advise(palate, trained, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    words = ("--micro-batch", 2, "--health.stop", "false", "--plan.steps", 4, "--json")
    answer = palate("resume", copy, *words)
    assert answer.code == 0, answer.err
    assert answer.json["steps"] == 4
    assert "no longer bitwise" in answer.err
    refused = palate("resume", copy, "--beta", 5)
    assert refused.code == 5
    assert "objective.beta 2000.0 to 5.0" in refused.err
    wrong = palate("resume", copy, "--micro-bach", 2)
    assert wrong.code == 2
    assert "--micro-batch" in wrong.err


def test_an_empty_folder_of_runs_says_how_to_start(palate, tmp_path):
    assert "palate train --help" in palate("runs", tmp_path).out


def test_pictures_are_drawn_with_everything_needed_to_draw_them_again(palate, trained, tmp_path):
    words = ("sample", "a large red circle on the left of a white background", "--each", 2)
    for name in ("a", "b"):
        answer = palate(*words, "--weights", trained, "--steps", 2, "--out", tmp_path / name)
        assert answer.code == 0, answer.err
    facts = json.loads((tmp_path / "a" / "pictures.json").read_text())
    again = json.loads((tmp_path / "b" / "pictures.json").read_text())
    assert [p["index"] for p in facts["pictures"]] == [0, 1]
    assert facts["pictures"] == again["pictures"]
    assert facts["pictures"][0]["sha256_rgb"] != facts["pictures"][1]["sha256_rgb"]
    with Image.open(tmp_path / "a" / "0000.png") as picture:
        assert np.asarray(picture).shape == (64, 64, 3)
    assert (tmp_path / "a" / "grid.png").is_file()


def test_an_export_finds_its_base_model_in_the_run_that_made_it(palate, trained, tmp_path):
    words = ("sample", "x", "--steps", 1, "--out")
    whole = palate(*words, tmp_path / "a", "--weights", trained)
    export = palate(*words, tmp_path / "b", "--weights", trained / "export")
    assert (whole.code, export.code) == (0, 0), export.err
    pictures = [(tmp_path / name / "0000.png").read_bytes() for name in ("a", "b")]
    assert pictures[0] == pictures[1]


def test_weights_without_their_model_are_refused(palate, trained, tmp_path):
    import shutil

    alone = tmp_path / "elsewhere" / "deep" / "weights"
    shutil.copytree(trained / "export", alone)
    answer = palate("sample", "x", "--weights", alone, "--out", tmp_path / "o")
    assert answer.code == 2
    assert "--model shipped" in answer.err


def test_a_report_is_written_into_the_run(palate, evaluated):
    answer = palate("report", evaluated)
    assert answer.code == 0, answer.err
    page = (evaluated / "report.html").read_text()
    assert "<html" in page.lower()
    assert 'http-equiv="refresh"' not in page
    assert str(evaluated / "report.html") in answer.out
    assert palate("report", evaluated, "--json").json["evaluation"]


def test_an_evaluation_alone_can_be_reported_too(palate, evaluated, tmp_path):
    answer = palate("report", evaluated / "evaluation", "--out", tmp_path / "pages")
    assert answer.code == 0, answer.err
    assert (tmp_path / "pages" / "report.txt").is_file()


def test_a_run_that_nobody_evaluated_says_how_to(palate, trained, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("evaluation*"))
    answer = palate("report", copy)
    assert answer.code == 5
    assert f"palate evaluate --after {copy}" in answer.err


def test_another_plan_under_the_same_name_is_refused(palate, evaluated):
    answer = palate(
        *("evaluate", "--after", evaluated, "--prompts", "world:held-out:2", "--scorer", "world")
    )
    assert answer.code == 5
    assert "another plan" in answer.err


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (("--prompts", "world:held-out", "--scorer", "world"), "world:held-out:200"),
        (("--prompts", "world:held-out:2", "--scorer", "wrld"), "Did you mean world?"),
        (("--prompts", "world:held-out:2", "--scorer", "clip"), "Did you mean clip:FOLDER?"),
    ],
)
def test_wrong_prompts_and_scorers_are_named(palate, trained, words, fix):
    answer = palate("evaluate", "--after", trained, *words)
    assert answer.code == 2
    assert fix in answer.err


def test_scenes_are_drawn_with_their_captions(palate, tmp_path):
    for style in ("perfect", "mediocre"):
        out = tmp_path / f"{style}.png"
        answer = palate("world", "scenes", "--count", 3, "--style", style, "--out", out)
        assert answer.code == 0, answer.err
        assert answer.out.count("background") == 3
        with Image.open(out) as grid:
            assert grid.width == 3 * 200 + 8


@pytest.mark.slow
def test_pairs_are_made_in_the_schema_the_import_reads(palate, micro, tmp_path):
    out = tmp_path / "pairs.parquet"
    answer = palate("world", "pairs", "--model", micro, "--count", 6, "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == 6
    facts = palate("data", "import", out, "--store", tmp_path / "store", "--json").json
    assert facts["kept"] == 6


@pytest.mark.slow
def test_the_small_model_can_be_pretrained_by_the_command(palate, tmp_path):
    words = ("--size", "micro", "--pictures", 64, "--vae-steps", 2, "--unet-steps", 2)
    answer = palate("world", "pretrain", "--out", tmp_path / "model", *words, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["plan"]["unet_steps"] == 2
    assert (tmp_path / "model" / "model_index.json").is_file()
