"""Drawing for somebody, by the command: a person, a mixture, a slide, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from palate.backbones import Personal, load
from palate.core.streams import Streams
from palate.train.embedding import embedding_of
from palate.train.users import Users, open_user_encoder, write_users

ENCODER = open_user_encoder("looks", pooling="pairs")
NAMES = ("pickapic/0", "pickapic/1")


@pytest.fixture(scope="module")
def personal(micro: Path, snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training would export: attention to users with a loud voice, and two people."""
    about = {"users": "looks", "identity": ENCODER.identity, "examples": 4, "pooling": "pairs"}
    settings = Personal(user_width=ENCODER.width, tokens=ENCODER.tokens, width=8, about=about)
    model = load(micro, personal=settings, train=True)
    with torch.no_grad():
        for name, weight in model.trainable().items():
            weight.add_(2 * Streams(0)("loud", name).normal(tuple(weight.shape)))
    folder = tmp_path_factory.mktemp("personal") / "export"
    model.export(folder)
    made = [embedding_of(ENCODER, snapshot, user=n, count=4).embedding for n in NAMES]
    write_users(folder, Users(names=NAMES, tensor=torch.stack(made), about=about))
    return folder


@pytest.fixture
def draw(palate, micro: Path, personal: Path, tmp_path: Path):
    """Draw into a new folder; its digests and its facts."""

    def drawn(name: str, *more: object, weights: Path | None = personal):
        on = () if weights is None else ("--weights", weights)
        answer = palate("sample", "a red circle", "--model", micro, *on, "--steps", 1, "--size", 32,
                        "--out", tmp_path / name, *more)  # fmt: skip
        assert answer.code == 0, answer.err
        facts = json.loads((tmp_path / name / "pictures.json").read_text())
        return [row["sha256_rgb"] for row in facts["pictures"]], facts, answer

    return drawn


def test_nobody_gets_the_base_to_the_bit_and_is_told_so(draw):
    base, _, quiet = draw("base", weights=None)
    nobody, facts, answer = draw("nobody")
    assert nobody == base
    assert facts["user"] is None
    assert "Drawn for nobody" in answer.err
    assert "nobody" not in quiet.err


def test_a_person_is_the_same_by_name_by_pairs_and_by_file(draw, palate, snapshot, tmp_path):
    name, facts, _ = draw("name", "--user", "pickapic/0")
    pairs, of_pairs, _ = draw("pairs", "--user", f"{snapshot}@pickapic/0")
    embedding_of(ENCODER, snapshot, user="0", count=4).save(tmp_path / "zero.safetensors")
    file, of_file, _ = draw("file", "--user", tmp_path / "zero.safetensors")
    assert name == pairs == file
    assert name != draw("base", weights=None)[0]
    assert facts["user"]["encoder"] == ENCODER.identity
    assert facts["user"]["strength"] == 1.0
    assert of_pairs["user"]["people"][0]["examples"] == of_file["user"]["people"][0]["examples"]
    assert len(of_pairs["user"]["people"][0]["examples"]) == 4


def test_a_mixture_is_neither_of_its_people(draw):
    mixed, facts, _ = draw("mixed", "--user", "pickapic/0:0.4,pickapic/1:0.6")
    assert mixed != draw("one", "--user", "pickapic/0")[0]
    assert mixed != draw("two", "--user", "pickapic/1")[0]
    assert [part["share"] for part in facts["user"]["people"]] == [0.4, 0.6]


def test_user_guidance_of_zero_is_the_base_and_of_guidance_is_the_usual(draw):
    usual = draw("usual", "--user", "pickapic/0")[0]
    same, facts, _ = draw("same", "--user", "pickapic/0", "--user-guidance", 3)
    assert same == usual
    assert facts["user"]["user_guidance"] == 3
    none = draw("none", "--user", "pickapic/0", "--user-guidance", 0)[0]
    assert none == draw("base", weights=None)[0]
    more, facts, _ = draw("more", "--user", "pickapic/0", "--user-guidance", 7.5)
    assert more not in (usual, none)
    assert facts["user"]["strength"] == 2.5


def test_a_slide_begins_and_ends_with_the_two_people_and_draws_a_strip(draw, tmp_path):
    words = ("--user", "pickapic/0", "--slide-to", "pickapic/1", "--slide", 3, "--each", 2)
    slid, facts, _ = draw("slide", *words)
    assert [row["share"] for row in facts["pictures"]] == [0.0, 0.5, 1.0] * 2
    assert [row["index"] for row in facts["pictures"]] == [0, 0, 0, 1, 1, 1]
    assert slid[::3] == draw("zero", "--user", "pickapic/0", "--each", 2)[0]
    assert slid[2::3] == draw("one", "--user", "pickapic/1", "--each", 2)[0]
    assert facts["slide_to"]["who"] == "pickapic/1"
    with Image.open(tmp_path / "slide" / "strip.png") as strip:
        assert np.asarray(strip).shape == (2 * 214 + 30, 3 * 200 + 8, 3)
    assert not (tmp_path / "slide" / "grid.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--user", "pickapic/7"), 2, "nobody the run knows"),
        (("--user", "pickapic/0:0.5,pickapic/1:0.6"), 2, "sum to 1.1"),
        (("--user-guidance", 3), 2, "--user-guidance 3 without --user"),
        (("--user", "pickapic/0", "--user-guidance", -1), 2, "--user-guidance -1"),
        (("--user", "pickapic/0", "--user-guidance", 1, "--guidance", 0), 2, "guidance 0.0"),
        (("--user", "pickapic/0", "--user-guidance", 90, "--guidance", 0.5), 2, "guidance 0.5"),
        (("--slide-to", "pickapic/0"), 2, "--slide-to without --user"),
        (("--user", "pickapic/0", "--slide", 3), 2, "--slide 3 without --slide-to"),
        (("--user", "pickapic/0", "--slide-to", "pickapic/1", "--slide", 1), 2, "--slide 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    palate, micro, personal, tmp_path, words, code, message
):
    answer = palate("sample", "x", "--model", micro, "--weights", personal, "--out",
                    tmp_path / "out", *words)  # fmt: skip
    assert answer.code == code
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_a_user_for_a_model_that_knows_none_is_refused(palate, micro, tmp_path):
    answer = palate("sample", "x", "--model", micro, "--user", "anna", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "without user attention" in answer.err
    assert "--method ppd" in answer.err


def test_an_evaluation_is_for_somebody_and_says_for_whom(palate, micro, personal, tmp_path):
    words = (
        *("evaluate", "--before", micro, "--after", personal, "--user", "pickapic/0"),
        *("--prompts", "world:held-out:2", "--scorer", "world", "--steps", 1),
        *("--variety-prompts", 0),
    )
    answer = palate(*words, "--out", tmp_path / "asked", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["win_rate"] != 0.5
    facts = json.loads((tmp_path / "asked-user.json").read_text())
    assert facts == answer.json["user"]
    assert facts["people"][0]["user"] == "pickapic/0"
