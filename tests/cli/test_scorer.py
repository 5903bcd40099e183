"""`palate scorer`: taught, tested, and refused in words."""

import pytest


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
