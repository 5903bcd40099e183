"""People as embeddings, by the command: made, kept in a file, and asked who they are."""

from pathlib import Path

import numpy as np
import pytest

from palate.core.problems import DataError
from palate.data.comparison import compare
from palate.data.pairs import PreferencePairs
from palate.data.store import Store
from palate.evaluate.sides import two_sides
from palate.train.embedding import UserEmbedding
from palate.train.users import open_user_encoder


def people(folder: Path, *counts: int) -> Path:
    """A snapshot of so many pairs of each user, two on each prompt; each likes one colour."""
    store, rows = Store(folder / "store"), []
    with store.writing():
        for user, count in enumerate(counts):
            for at in range(count):
                draw = np.random.default_rng(1000 * user + at)
                base = draw.integers(80, 120, (8, 8, 3)).astype(np.uint8)
                liked = base.copy()
                liked[..., user % 3] += np.uint8(60) if user < 3 else np.uint8(196)
                images = [store.put(liked), store.put(base)]
                rows.append(
                    compare(prompt=f"thing {at // 2} of {user}", images=images, agreement=1.0,
                            judge=f"pickapic/{user}", source="human")
                )  # fmt: skip
        store.add(rows)
    return store.freeze(folder / "snapshot").path


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("crowd"), *[10] * 6)


def test_an_embedding_is_written_with_whose_it_is_and_what_it_was_made_of(palate, crowd, tmp_path):
    out = tmp_path / "three.safetensors"
    answer = palate("users", "embed", crowd, "--user", "3", "--by", "looks", "--out", out)
    assert answer.code == 0, answer.err
    assert "pickapic/3 by 4 pairs, looks" in answer.out
    assert "4 of 10 pairs" in answer.err
    made = UserEmbedding.read(out)
    assert (made.user, len(made.examples)) == ("pickapic/3", 4)
    assert made.identity == open_user_encoder("looks").identity


def test_the_file_says_the_same_as_json(palate, crowd, tmp_path):
    words = ("users", "embed", crowd, "--user", "0", "--by", "looks", "--pooling", "pairs")
    facts = palate(*words, "--out", tmp_path / "zero.safetensors", "--json").json
    assert facts["shape"][0] == 4
    assert facts["examples"] == list(UserEmbedding.read(tmp_path / "zero.safetensors").examples)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--user", "3"), 2, "neither --weights nor --by"),
        (("--by", "looks"), 2, "6 users"),
        (("--by", "looks", "--user", "9"), 2, "user='9'"),
        (("--by", "lookz", "--user", "3"), 2, "Did you mean looks?"),
        (("--by", "learned", "--user", "3"), 2, "--by learned"),
        (("--by", "vision:none", "--user", "3", "--layer", "top"), 2, "--layer top"),
        (("--by", "looks", "--weights", "runs/none", "--user", "3"), 2, "--weights and --by"),
        (("--weights", "runs/none", "--user", "3"), 5, "runs/none"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(palate, crowd, tmp_path, words, code, message):
    answer = palate("users", "embed", crowd, "--out", tmp_path / "x.safetensors", *words)
    assert (answer.code, message in answer.err) == (code, True), answer.err
    assert not (tmp_path / "x.safetensors").exists()


def test_people_with_tastes_of_their_own_are_told_apart_far_above_chance(palate, crowd):
    answer = palate("users", "identify", crowd, "--by", "looks", "--k", "1,3", "--json")
    assert answer.code == 0, answer.err
    facts = answer.json
    assert (facts["users"], facts["left_out"]) == (6, 0)
    for found in facts["found"]:
        assert found["chance"]["1"] == pytest.approx(1 / 6)
        assert found["found"]["1"]["value"] > 0.9
    assert "by chance" in palate("users", "identify", crowd, "--by", "looks", "--subsets", 1).out


def test_too_few_pairs_for_two_sides_are_named(palate, crowd):
    answer = palate("users", "identify", crowd, "--by", "looks", "--examples", 8)
    assert answer.code == DataError.exit_code
    assert "0 users with 8 pairs" in answer.err
    assert palate("users", "identify", crowd, "--by", "looks", "--k", "0").code == 2


def test_places_that_everybody_fits_into_are_dropped_aloud_or_refused(palate, crowd):
    words = ("users", "identify", crowd, "--by", "looks", "--subsets", 1)
    some = palate(*words, "--k", "1,6,50")
    assert some.code == 0, some.err
    assert "Among the first 6, 50 everybody of 6 users is found: left out." in some.err
    none = palate(*words, "--k", 50)
    assert none.code == 2
    assert "--k 50 with 6 users" in none.err


def test_two_sides_share_neither_prompt_nor_picture(crowd):
    seen: list[tuple[set[str], set[bytes]]] = []
    looks = open_user_encoder("looks")

    class Watching:
        name, identity, about = looks.name, looks.identity, looks.about
        tokens, width = looks.tokens, looks.width

        def embed(self, people):
            shown = [example for mine in people for example in mine]
            pictures = {each.tobytes() for one in shown for each in (one.chosen, one.rejected)}
            seen.append(({one.prompt for one in shown}, pictures))
            return looks.embed(people)

    sides = two_sides(Watching(), PreferencePairs.open(crowd), examples=4, subsets=3)
    assert sides.first.shape == sides.second.shape == (6, 3, looks.tokens, looks.width)
    assert len(seen) == 12
    for (prompts, pictures), (others, further) in zip(seen[::2], seen[1::2], strict=True):
        assert not prompts & others
        assert not pictures & further


def test_users_with_too_little_are_left_out_and_counted(tmp_path):
    uneven = PreferencePairs.open(people(tmp_path, 10, 4, 12, 8))
    sides = two_sides(open_user_encoder("looks"), uneven, examples=4, subsets=1)
    assert set(sides.users) == {"pickapic/0", "pickapic/2", "pickapic/3"}
    assert sides.left_out == 1
