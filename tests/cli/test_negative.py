"""Drawing away from a negative model, by the command."""

import json
from pathlib import Path

import pytest
import torch

from palate.backbones import Adapter, load


@pytest.fixture(scope="module")
def negative(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training would export: adapters with a loud voice."""
    model = load(micro, adapter=Adapter(rank=2), train=True)
    with torch.no_grad():
        for weight in model.trainable().values():
            weight.add_(0.2)
    folder = tmp_path_factory.mktemp("negative") / "export"
    model.export(folder)
    return folder


def digests(folder: Path) -> list[str]:
    facts = json.loads((folder / "pictures.json").read_text())
    return [row["sha256_rgb"] for row in facts["pictures"]]


def test_the_negative_model_changes_the_pictures_and_is_written_down(
    palate, micro: Path, negative: Path, tmp_path: Path
) -> None:
    usual = ("sample", "a red circle", "--model", micro, "--steps", 2, "--out")
    for name, more in {
        "plain": (),
        "away": ("--negative", negative),
        "nothing": ("--negative", negative, "--negative-share", 0),
    }.items():
        answer = palate(*usual, tmp_path / name, *more)
        assert answer.code == 0, answer.err
    assert digests(tmp_path / "away") != digests(tmp_path / "plain")
    facts = json.loads((tmp_path / "away" / "pictures.json").read_text())
    assert facts["negative"]["negative_share"] == 1.0
    assert facts["negative"]["name"] == str(negative)
    assert json.loads((tmp_path / "plain" / "pictures.json").read_text())["negative"] is None


def test_an_evaluation_away_from_a_negative_model_needs_its_own_folder(
    palate, micro: Path, negative: Path
) -> None:
    answer = palate("evaluate", "--after", micro, "--negative", negative, "--prompts",
                    "world:held-out:2", "--scorer", "world")  # fmt: skip
    assert answer.code != 0
    assert "--negative without --out" in answer.err


def test_a_share_of_a_positive_training_needs_one(
    palate, micro: Path, negative: Path, tmp_path: Path
) -> None:
    answer = palate("sample", "a red circle", "--model", micro, "--negative", negative,
                    "--positive-share", 0.5, "--out", tmp_path / "out")  # fmt: skip
    assert answer.code != 0
    assert "without a positive training" in answer.err
