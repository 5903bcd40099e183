"""Whom pictures are drawn for: the words, the mixtures, the files, and everything refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from palate.backbones import Personal
from palate.core.problems import DataError, SettingError, WeightsError
from palate.data.comparison import compare
from palate.data.pairs import PreferencePairs
from palate.data.store import Store
from palate.train.embedding import UserEmbedding, embedding_of, examples_of
from palate.train.examples import about_of
from palate.train.finder import Finder
from palate.train.personal import PersonalSettings
from palate.train.users import Users, open_user_encoder, write_users
from palate.train.who import Part, Who, shares_of
from scorers.tiny_vision import build

LOOKS = open_user_encoder("looks", pooling="pairs")
ABOUT = {"users": "looks", "identity": LOOKS.identity, "examples": 4, "pooling": "pairs"}
PERSONAL = Personal(user_width=LOOKS.width, tokens=LOOKS.tokens, about=ABOUT)
# Whether the person prefers the bright picture of each pair; None is a tie.
SAID = {
    "pickapic/anna": [True] * 6,
    "pickapic/ben": [False] * 4,
    "pickapic/cleo": [True],
    "pickapic/dora": [None, None],
    "pickapic/eve:2,3": [True, True, False],
}


def shade(seed: int, light: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 120, (4, 4, 3), dtype=np.uint8)
    return (coarse.repeat(4, 0).repeat(4, 1) + light).astype(np.uint8)


def snapshot(folder: Path, said: dict[str, list[bool | None]], twice: str = "") -> Path:
    """A frozen snapshot; whoever is named `twice` says the opposite of everything as well."""
    store, rows = Store(folder / "store"), []
    with store.writing():
        for user, answers in said.items():
            for at, bright in enumerate(answers):
                images = [store.put(shade(hash_of(user, at), light)) for light in (100, 0)]
                for turn in (False, True) if user == twice else (False,):
                    agreement = 0.5 if bright is None else float(bright != turn)
                    rows.append(compare(prompt=f"a thing {at}", images=images, judge=user,
                                        agreement=agreement, source="human"))  # fmt: skip
        store.add(rows)
    return store.freeze(folder / "snapshot").path


def hash_of(user: str, at: int) -> int:
    return sum(map(ord, user)) * 100 + at


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return snapshot(tmp_path_factory.mktemp("people"), SAID)


@pytest.fixture(scope="module")
def run(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of weights that were trained with anna and ben."""
    folder = tmp_path_factory.mktemp("run")
    names = ("pickapic/anna", "pickapic/ben")
    made = [embedding_of(LOOKS, people, user=name, count=4).embedding for name in names]
    write_users(folder, Users(names=names, tensor=torch.stack(made), about=ABOUT))
    return folder


@pytest.fixture
def find(run: Path) -> Finder:
    return Finder(PERSONAL, run)


@pytest.mark.parametrize(
    ("words", "shares"),
    [
        ("anna", {"anna": 1.0}),
        ("a:0.3,b:0.7", {"a": 0.3, "b": 0.7}),
        ("pickapic/12:0.25,x,y:0.75", {"pickapic/12": 0.25, "x,y": 0.75}),
        ("a:b:1e-1,c:0.9", {"a:b": 0.1, "c": 0.9}),
        ("data/mine@anna:0.5,ben.safetensors:0.5", {"data/mine@anna": 0.5, "ben.safetensors": 0.5}),
        ("a:0.333333,b:0.333333,c:0.333334", {"a": 0.333333, "b": 0.333333, "c": 0.333334}),
        ("a:1,b:0", {"a": 1.0, "b": 0.0}),
        ("pickapic:77", {"pickapic:77": 1.0}),
        ("pickapic:1.2.3", {"pickapic:1.2.3": 1.0}),
        ("pickapic:77:0.5,pickapic:88:0.5", {"pickapic:77": 0.5, "pickapic:88": 0.5}),
        ("anna:1", {"anna": 1.0}),
    ],
)
def test_a_mixture_is_read_as_it_is_written(words, shares):
    assert shares_of(words) == shares


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a:0.3,b:0.6", r"shares that sum to 0\.9"),
        ("a:0.3,b:0.70001", r"sum to 1\.00001"),
        ("a:-0.3,b:1.3", r"a share of -0\.3"),
        ("a:0.5,b", "'b' without a share"),
        ("a:0.5,b:0.5,", "'nothing' without a share"),
        ("a:0.5,a:0.5", "somebody twice"),
        ("a:1.2.3,b:0.5", r"a share of 1\.2\.3"),
        ("  ", "an empty user"),
    ],
)
def test_a_mixture_that_cannot_be_meant_is_refused_in_words(words, message):
    with pytest.raises(SettingError, match=message):
        shares_of(words)


def person(*numbers: float) -> Part:
    embedding = torch.tensor(numbers)[None].repeat(2, 1)
    return Part(words="x", share=1.0, person=UserEmbedding(
        embedding=embedding, user="x", identity="i"))  # fmt: skip


def test_a_mixture_is_the_weighted_sum_by_hand():
    one, two = person(1.0, 0.0, -2.0), person(3.0, 4.0, 2.0)
    parts = [Part(words="x", share=s, person=p.person) for s, p in ((0.25, one), (0.75, two))]
    mixed = Who(words="x", parts=tuple(parts)).embedding
    torch.testing.assert_close(mixed, torch.tensor([[2.5, 3.0, 1.0]]).repeat(2, 1))


def test_both_ends_of_a_slide_are_the_two_people_to_the_bit():
    one, two = (Who(words="x", parts=(person(*row),)) for row in ((0.1, 0.7, 3.3), (1.9, 0.3, 2.7)))
    assert torch.equal(one.towards(two, 0.0), one.embedding)
    assert torch.equal(one.towards(two, 1.0), two.embedding)
    torch.testing.assert_close(one.towards(two, 0.5), (one.embedding + two.embedding) / 2)


def test_a_file_gives_back_what_was_made_of_the_pairs(people: Path, tmp_path: Path):
    made = embedding_of(LOOKS, people, user="pickapic/ben", count=4)
    made.save(tmp_path / "ben.safetensors")
    back = UserEmbedding.read(tmp_path / "ben.safetensors")
    assert torch.equal(back.embedding, made.embedding)
    assert (back.user, back.identity, back.examples) == (made.user, made.identity, made.examples)
    assert len(made.examples) == 4
    assert back.encoder == dict(LOOKS.about)


def test_a_person_is_found_by_file_by_snapshot_and_by_name_alike(find, people, tmp_path):
    by_name = find("pickapic/anna").embedding
    assert by_name.abs().sum() > 0
    assert torch.equal(find(f"{people}@pickapic/anna").embedding, by_name)
    assert torch.equal(find(f"{people}@anna").embedding, by_name)
    assert torch.equal(find("anna").embedding, by_name)
    made = embedding_of(LOOKS, people, user="anna", count=4)
    made.save(tmp_path / "someone.safetensors")
    assert torch.equal(find(str(tmp_path / "someone.safetensors")).embedding, by_name)
    assert find("anna").facts()["people"][0]["user"] == "pickapic/anna"


def test_opposite_tastes_have_opposite_embeddings(find):
    anna, ben = find("anna").embedding.mean(0), find("ben").embedding.mean(0)
    assert torch.cosine_similarity(anna, ben, dim=0) < -0.5


def test_people_are_mixed_wherever_they_come_from(find, people):
    mixed = find(f"anna:0.3,{people}@ben:0.7")
    torch.testing.assert_close(
        mixed.embedding, 0.3 * find("anna").embedding + 0.7 * find("ben").embedding
    )
    assert [part["share"] for part in mixed.facts()["people"]] == [0.3, 0.7]


def test_a_name_that_looks_like_a_mixture_is_a_name(people, tmp_path):
    name = "pickapic/eve:2,3"
    made = embedding_of(LOOKS, people, user=name, count=4).embedding
    write_users(tmp_path, Users(names=(name,), tensor=made[None], about=ABOUT))
    assert torch.equal(Finder(PERSONAL, tmp_path)(name).embedding, made)


def test_an_id_after_a_colon_is_no_share(people, tmp_path):
    """The first user of all among them, whose number would be a whole share."""
    made = embedding_of(LOOKS, people, user="ben", count=4).embedding
    names = ("made/pickapic:1", "made/pickapic:77")
    tensor = torch.stack([made, 2 * made])
    write_users(tmp_path, Users(names=names, tensor=tensor, about=ABOUT))
    find = Finder(PERSONAL, tmp_path)
    assert torch.equal(find("pickapic:1").embedding, made)
    assert torch.equal(find("made/pickapic:77").embedding, 2 * made)
    with pytest.raises(SettingError, match=r"Did you mean made/pickapic:77\?"):
        find("pickapic:78")


def test_a_snapshot_of_one_person_needs_no_name(find, tmp_path):
    alone = snapshot(tmp_path, {"anna": [True] * 3})
    assert find(str(alone)).facts()["people"][0]["user"] == "anna"
    assert find(str(alone)).embedding[3].abs().sum() == 0


def test_a_snapshot_of_several_people_wants_one_named(find, people):
    with pytest.raises(SettingError, match=r"4 users: pickapic/anna.*@pickapic/anna"):
        find(str(people))


def test_a_single_pair_will_do_and_is_said(find, people):
    who = find(f"{people}@cleo")
    assert who.embedding.abs().sum() > 0
    assert any("single pair" in sentence for sentence in who.notes)


def test_an_embedding_that_tells_nothing_is_nobodys_and_it_is_said(people):
    class Blind:
        name, identity, tokens, width, about = "blind", "b", 1, 3, {}

        def embed(self, shown):
            return torch.zeros(len(shown), self.tokens, self.width)

    made = embedding_of(Blind(), people, user="anna", count=4)
    assert any("the base model is drawn" in sentence for sentence in made.notes)
    seeing = embedding_of(LOOKS, people, user="anna", count=4)
    assert not any("the base model is drawn" in sentence for sentence in seeing.notes)


def test_pairs_beyond_the_examples_of_training_are_left_and_said(find, people):
    assert any("4 of 6 pairs" in sentence for sentence in find(f"{people}@anna").notes)


def test_ties_alone_say_nothing(find, people):
    with pytest.raises(DataError, match=r"dora in .* with 2 ties"):
        find(f"{people}@dora")


def test_contradictions_alone_say_nothing(find, tmp_path):
    torn = snapshot(tmp_path, {"anna": [True, False], "ben": [True]}, twice="anna")
    with pytest.raises(DataError, match=r"anna in .* with 4 contradictory pairs"):
        find(f"{torn}@anna")
    assert not find(f"{torn}@ben").embedding.isnan().any()


def test_a_snapshot_of_nothing_but_ties_is_refused(find, tmp_path):
    with pytest.raises(DataError, match="2 ties"):
        find(str(snapshot(tmp_path, {"dora": [None, None]})))


def test_an_unknown_name_is_told_the_nearest(find, people):
    with pytest.raises(SettingError, match=r"Did you mean pickapic/anna\?"):
        find("pickapic/ana")
    with pytest.raises(SettingError, match=r"Did you mean pickapic/anna\?"):
        find(f"{people}@pickapic/ana")


def test_a_path_that_is_not_there_is_nobody(find, people, tmp_path):
    with pytest.raises(SettingError, match="no file, no snapshot and nobody"):
        find(str(tmp_path / "missing"))
    made = embedding_of(LOOKS, people, user="anna", count=4)
    made.save(tmp_path / "three.safetensors")
    with pytest.raises(SettingError, match=r"Did you mean .*three\.safetensors\?"):
        find(str(tmp_path / "three.safetensor"))
    with pytest.raises(WeightsError, match=r"missing\.safetensors"):
        find(str(tmp_path / "missing.safetensors"))


def test_a_file_of_another_encoder_is_refused_and_both_are_named(find, people, tmp_path):
    other = open_user_encoder("looks", pooling="mean")
    embedding_of(other, people, user="anna", count=4).save(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError) as caught:
        find(str(tmp_path / "x.safetensors"))
    assert other.identity[:12] in caught.value.got
    assert LOOKS.identity[:12] in caught.value.need


def test_an_encoder_that_changed_since_the_training_is_refused(run, people):
    about = {**ABOUT, "pooling": "mean"}
    changed = Personal(user_width=LOOKS.width, tokens=LOOKS.tokens, about=about)
    with pytest.raises(WeightsError, match="what reads pairs now"):
        Finder(changed, run)(f"{people}@anna")


def test_what_an_encoder_itself_was_learned_from_is_known(run):
    made = {**ABOUT, "encoder": {"encoder": "taste", "made": {"data": "a snapshot"}}}
    personal = Personal(user_width=LOOKS.width, tokens=LOOKS.tokens, about=made)
    assert Finder(personal, run).fitted_on == "a snapshot"
    assert Finder(PERSONAL, run).fitted_on == ""


def test_learned_vectors_have_no_way_to_know_somebody_new(run, people):
    learned = Personal(user_width=2, tokens=1, about={"users": "learned", "identity": "x"})
    with pytest.raises(SettingError, match="a vector for each of their own people"):
        Finder(learned, run)(f"{people}@anna")


def test_a_file_that_is_no_embedding_is_refused(find, tmp_path):
    from palate.core.files import save_weights

    save_weights(tmp_path / "x.safetensors", {"weight": torch.zeros(2, 2)})
    with pytest.raises(WeightsError, match="no user embedding"):
        find(str(tmp_path / "x.safetensors"))


def test_an_embedding_of_another_size_is_refused(run, tmp_path):
    wide = UserEmbedding(embedding=torch.ones(1, 3), user="x", identity=LOOKS.identity)
    wide.save(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="1 tokens of 3 numbers"):
        Finder(PERSONAL, run)(str(tmp_path / "x.safetensors"))


def test_an_encoder_of_another_device_is_reopened_in_the_numbers_of_the_training(
    run, people, tmp_path
):
    """As a graphics card's: trained in bfloat16, and asked on a processor, whose own is float32."""
    words = f"vision:{build('qwen2_5_vl', tmp_path / 'eyes')}"
    settings = PersonalSettings(users=words, layer=1)
    there = open_user_encoder(words, layer=1, dtype="bfloat16")
    about = about_of(settings, there)
    assert about["dtype"] == there.about["dtype"] == "bfloat16"
    personal = Personal(user_width=there.width, tokens=there.tokens, about=about)
    here = Finder(personal, run).encoder()
    assert here.identity == there.identity
    assert open_user_encoder(words, layer=1).identity != there.identity
    pairs = PreferencePairs.open(people)
    mine = [examples_of(pairs, list(pairs)[:2])]
    assert torch.equal(here.embed(mine), there.embed(mine))


def test_numbers_that_are_none_are_refused(tmp_path):
    with pytest.raises(SettingError, match=r"dtype='bfloat61'.*Did you mean bfloat16\?"):
        open_user_encoder(f"vision:{tmp_path}", dtype="bfloat61")
