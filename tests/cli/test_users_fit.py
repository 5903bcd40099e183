"""`palate users fit`: people's tastes become an encoder, which other commands open by folder."""

from pathlib import Path

import pytest

from cli.test_users_embed import people
from palate.train.embedding import UserEmbedding


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, ten pairs each; every one likes one of six shifts of colour."""
    return people(tmp_path_factory.mktemp("crowd"), *[10] * 6)


@pytest.fixture(scope="module")
def tastes(palate, crowd, tmp_path_factory) -> Path:
    """A folder of two directions, made by the command."""
    out = tmp_path_factory.mktemp("tastes") / "tastes"
    made = palate("users", "fit", crowd, "--dimensions", 2, "--out", out)
    assert made.code == 0, made.err
    assert "2 directions from 60 choices of 6 people" in made.out
    assert f"--personal.users taste:{out}" in made.out
    return out


def test_people_who_like_different_things_are_foretold_by_their_own_places(palate, crowd, tmp_path):
    """Each of six likes another colour: their own places foretell, what all share hardly does."""
    told = palate(
        "users", "fit", crowd, "--dimensions", 3, "--out", tmp_path / "three", "--json"
    ).json["left_out_choices"]
    assert told["own_accuracy"] > 0.9
    assert told["own_loss"] < told["shared_loss"]


def test_the_folder_is_an_encoder_wherever_one_is_named(palate, crowd, tastes, tmp_path):
    words = f"taste:{tastes}"
    out = tmp_path / "three.safetensors"
    made = palate("users", "embed", crowd, "--user", "3", "--by", words, "--out", out)
    assert made.code == 0, made.err
    assert UserEmbedding.read(out).embedding.shape == (1, 3)
    found = palate("users", "identify", crowd, "--by", words, "--k", "1,2", "--json")
    assert found.code == 0, found.err
    planned = palate("train", "--model", "shipped", "--data", crowd, "--method", "ppd",
                     "--personal.users", words, "--dry-run")  # fmt: skip
    assert planned.code == 0, planned.err
    assert words in planned.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--by", "learned"), 2, "looks or clip:FOLDER, which give a row"),
        (("--by", "clip:./nowhere"), 2, "a folder that is not there"),
        (("--dimensions", "6"), 3, "more than 6 people"),
        (("--dimensions", "0"), 2, "dimensions above 0"),
        (("--ridge", "-1"), 2, "ridge above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused_and_leaves_nothing(
    palate, crowd, tmp_path, words, code, message
):
    out = tmp_path / "tastes"
    answer = palate("users", "fit", crowd, "--out", out, *words)
    assert (answer.code, out.exists()) == (code, False), answer.err
    assert message in answer.err


def test_a_folder_that_is_there_stays_as_it_is(palate, crowd, tastes):
    before = {path: path.read_bytes() for path in tastes.iterdir()}
    assert palate("users", "fit", crowd, "--out", tastes).code == 5
    assert {path: path.read_bytes() for path in tastes.iterdir()} == before


def test_a_folder_without_tastes_is_refused_by_its_name(palate, crowd, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = palate("users", "identify", crowd, "--by", f"taste:{tmp_path / 'empty'}")
    assert answer.code == 4
    assert "without taste.safetensors" in answer.err
