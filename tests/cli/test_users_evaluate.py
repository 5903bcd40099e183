"""Does a model follow people? Asked of pairs, and of pictures where tastes are known."""

from pathlib import Path

import pytest

from cli.test_users_embed import people
from palate.core.files import write_json
from palate.evaluate.following import Following

TASTES = ("--people", "people.json", "--prompts", "world:held-out:2")


@pytest.fixture(scope="module")
def run(palate, micro: Path, snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two steps on four people."""
    out = tmp_path_factory.mktemp("runs") / "ppd"
    answer = palate(
        *("train", "--model", micro, "--data", snapshot, "--out", out, "--method", "ppd"),
        *("--steps", 2, "--batch", 4, "--learning-rate", "1e-2", "--held-out", 0.3),
        *("--tensorboard", "off", "--health.stop", "false", "--personal.width", 8, "--json"),
    )
    assert answer.code == 0, answer.err
    return out


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people with ten pairs each."""
    return people(tmp_path_factory.mktemp("crowd"), *[10] * 6)


@pytest.fixture(scope="module")
def tastes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three of them like."""
    path = tmp_path_factory.mktemp("people") / "people.json"
    told = {
        f"pickapic/{user}": {"fidelity": 1.0, "vividness": user - 1.0, "tidiness": 0.0}
        for user in range(3)
    }
    write_json(path, {"seed": 0, "strength": 1.0, "tastes": told})
    return path


def test_pairs_and_pictures_are_judged_for_everyone_who_is_known(
    palate, run, snapshot, tastes, tmp_path
):
    words = (
        *("users", "evaluate", run, "--data", snapshot, "--people", tastes, "--steps", 1),
        *("--prompts", "world:held-out:2", "--out", tmp_path / "found"),
    )
    answer = palate(*words, "--json")
    assert answer.code == 0, answer.err
    facts = answer.json
    assert facts["ordering"]["nobody"] == 0.5
    assert facts["ordering"]["own"]["n"] == facts["facts"]["users"] == 4
    assert facts["verdicts"]["seen"]["own_over_base"]["n"] == 3
    assert "own_over_pooled" not in facts["verdicts"]["seen"]
    assert facts["facts"]["pairs in the training data"] == facts["facts"]["pairs asked about"] > 0
    assert "in the training data" in answer.err
    assert facts["facts"]["encoder learned from these pairs"] is False
    assert "learned from these very pairs" not in answer.err
    kept = Following.load(tmp_path / "found")
    assert kept.groups["seen"][0].users == tuple(f"pickapic/{user}" for user in range(3))
    assert [each.names for each in kept.slides] == [("pickapic/0", "pickapic/2")]
    assert (
        kept.verdicts["seen"]["own_over_base"].asdict()
        == facts["verdicts"]["seen"]["own_over_base"]
    )
    assert (tmp_path / "found" / "report.html").is_file()
    assert set(facts) >= {"limits", "two_way", "curve", "identified", "ordering"}
    assert facts["curve"]["shares"] == [0, 0.25, 0.5, 0.75, 1]
    assert facts["two_way"]["seen"].keys() <= facts["verdicts"]["seen"].keys()
    # Three people prove nothing.
    assert facts["verdicts"]["seen"]["own_minus_shuffled"]["low"] is None
    again = palate(*words)
    assert again.code == 5
    assert "which exists" in again.err


@pytest.mark.slow
def test_pairs_that_the_encoder_itself_was_learned_from_prove_nothing(
    palate, micro, snapshot, tmp_path
):
    made = palate("users", "fit", snapshot, "--dimensions", 2, "--out", tmp_path / "tastes")
    assert made.code == 0, made.err
    trained = palate(
        *("train", "--model", micro, "--data", snapshot, "--out", tmp_path / "ppd"),
        *("--method", "ppd", "--personal.users", f"taste:{tmp_path / 'tastes'}", "--steps", 1),
        *("--batch", 4, "--held-out", 0.3, "--tensorboard", "off", "--health.stop", "false"),
        *("--personal.width", 8, "--json"),
    )
    assert trained.code == 0, trained.err
    answer = palate("users", "evaluate", tmp_path / "ppd", "--data", snapshot, "--json")
    assert answer.code == 0, answer.err
    assert "learned from these very pairs" in answer.err
    assert answer.json["facts"]["encoder learned from these pairs"] is True


@pytest.mark.slow
def test_people_of_the_training_are_not_called_unseen_for_their_examples(
    palate, run, snapshot, tastes, tmp_path
):
    """Examples of everybody, of whom the run knows all: their group is `seen`."""
    answer = palate(
        *("users", "evaluate", run, "--data", snapshot, "--examples", snapshot, "--json"),
        *("--people", tastes, "--prompts", "world:held-out:1", "--steps", 1, "--slides", 0),
    )
    assert answer.code == 0, answer.err
    assert list(answer.json["verdicts"]) == ["seen"]
    facts = answer.json["facts"]
    assert facts["users of the training"] == facts["users"] == 3


@pytest.mark.slow
def test_with_examples_the_encoder_is_asked_whether_it_knows_people_again(
    palate, run, crowd, tmp_path
):
    """Six people, ten pairs each: four or six on either side, four in an embedding."""
    answer = palate("users", "evaluate", run, "--data", crowd, "--examples", crowd, "--json")
    assert answer.code == 0, answer.err
    (found,) = answer.json["identified"]
    assert found["users"] == 6
    assert set(found["found"]) == {"1", "5"}


@pytest.mark.slow
def test_examples_are_not_asked_about_themselves(palate, run, snapshot):
    answer = palate("users", "evaluate", run, "--data", snapshot, "--examples", snapshot)
    assert answer.code == 0, answer.err
    # Of one of the four, all pairs are examples.
    assert "ordered with nobody's: 50 % (exactly, n = 3 users)" in answer.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--people", "people.json"), 2, "--people without --prompts"),
        (("--prompts", "world:held-out:2"), 2, "--prompts without --people"),
        (("--user-guidance", 3), 2, "--user-guidance 3.0 without --people"),
        (("--size", 32), 2, "--size 32"),
        (("--slides", 2), 2, "--slides 2 without --people"),
        (("--steps", 3, "--seed", 1), 2, "--seed 1, --steps 3 without --people"),
        ((*TASTES, "--user-guidance", 1, "--guidance", 0), 2, "guidance 0.0"),
        ((*TASTES, "--slides", -1), 2, "--slides -1"),
    ],
)
def test_what_would_not_be_read_is_refused(palate, snapshot, words, code, message):
    answer = palate("users", "evaluate", snapshot, "--data", snapshot, *words)
    assert (answer.code, message in answer.err) == (code, True), answer.err


def test_a_model_that_follows_nobody_has_nobody_to_ask_about(palate, micro, snapshot, tmp_path):
    answer = palate("users", "evaluate", micro, "--data", snapshot)
    assert answer.code == 2
    assert "a whole model" in answer.err
    assert palate("users", "evaluate", tmp_path / "none", "--data", snapshot).code == 5


@pytest.mark.slow
def test_the_weights_of_a_training_name_their_encoder(palate, run, snapshot, tmp_path):
    out = tmp_path / "one.safetensors"
    answer = palate("users", "embed", snapshot, "--user", "1", "--weights", run, "--out", out)
    assert answer.code == 0, answer.err
    drawn = palate("sample", "a red circle", "--weights", run, "--user", out, "--steps", 1,
                   "--size", 32, "--out", tmp_path / "one")  # fmt: skip
    assert drawn.code == 0, drawn.err
    other = palate("users", "embed", snapshot, "--user", "1", "--by", "looks", "--pooling", "pairs",
                   "--out", tmp_path / "other.safetensors")  # fmt: skip
    assert other.code == 0, other.err
    refused = palate("sample", "x", "--weights", run, "--user", tmp_path / "other.safetensors",
                     "--out", tmp_path / "two")  # fmt: skip
    assert refused.code == 4
    assert "the encoder looks" in refused.err
