"""`palate scorer`: taught, tested, and refused in words."""

import os

import pytest
import torch
from transformers import CLIPConfig, CLIPModel


@pytest.mark.slow
def test_a_scorer_is_taught_and_tested(palate, snapshot, micro, tmp_path):
    taught = palate(
        "scorer", "train", "latent", "--data", snapshot, "--model", micro,
        "--out", tmp_path / "mine", "--steps", 2, "--batch", 4, "--held-out", 0.3, "--json",
    )  # fmt: skip
    assert taught.code == 0, taught.err
    assert taught.json["kind"] == "latent"
    words = ("scorer", "test", tmp_path / "mine", "--data", snapshot, "--model", micro)
    tested = palate(*words, "--json")
    assert tested.json == {"pairs": "held-out prompts", "accuracy": taught.json["accuracy"]}
    shown = palate(*words)
    assert shown.code == 0
    assert "800-999" in shown.out
    assert "interval" in shown.out


def test_an_unknown_kind_is_refused(palate, snapshot, tmp_path):
    answer = palate("scorer", "train", "latnt", "--data", snapshot, "--out", tmp_path / "mine")
    assert answer.code == 2
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_is_no_scorer_is_named(palate, snapshot, tmp_path):
    answer = palate("scorer", "test", tmp_path, "--data", snapshot)
    assert answer.code == 4
    assert "palate scorer train" in answer.err


def test_a_checkpoint_is_converted_in_words(palate, tmp_path):
    torch.save({"weight": torch.ones(1, 512), "bias": torch.ones(1)}, tmp_path / "linear.pth")
    clip = tmp_path / "clip"
    config = CLIPConfig(
        vision_config={"image_size": 32, "patch_size": 16, "num_hidden_layers": 1},
        text_config={"num_hidden_layers": 1},
    )
    CLIPModel(config).save_pretrained(clip)
    words = ("scorer", "convert", tmp_path / "linear.pth", tmp_path / "made", "--kind", "aesthetic")
    alone = palate(*words)
    assert alone.code == 2
    assert "Add --base FOLDER" in alone.err
    answer = palate(*words, "--base", clip)
    assert answer.code == 0, answer.err
    assert "Nothing in the file was run" in answer.out
    assert f"--scorer aesthetic:{tmp_path / 'made'}" in answer.out
    again = palate(*words, "--base", clip)
    assert again.code == 5
    assert "which exists" in again.err


def test_a_checkpoint_that_would_run_is_refused_in_words(palate, tmp_path):
    torch.save({"weight": os.getcwd}, tmp_path / "runs.pth")
    words = ("scorer", "convert", tmp_path / "runs.pth", tmp_path / "made", "--kind", "aesthetic")
    answer = palate(*words, "--base", tmp_path)
    assert answer.code == 4
    assert "posix.getcwd, which is no tensor and may run" in answer.err.replace("\n", " ")
    assert not (tmp_path / "made").exists()
