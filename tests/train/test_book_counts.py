"""What a book leaves out is counted and adds up; what it cannot use is refused early, and told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.backbones import load
from palate.core.problems import DataError, HealthStop
from palate.core.streams import Streams
from palate.data.comparison import compare
from palate.data.pairs import PreferencePairs
from palate.data.store import Store
from palate.scorers.users_looks import LooksUsers
from palate.train.batch import Batches
from palate.train.book import Book
from palate.train.cache import Cache
from palate.train.choices import ALONE, CAPPED, NO_PROMPT, NO_VECTOR
from palate.train.embedding import embedding_of
from palate.train.examples import open_book
from palate.train.export import card
from palate.train.groups import Pictures
from palate.train.opening import check_pairs
from palate.train.run import Run
from palate.train.tastes import fit_tastes
from train.conftest import WORDS, picture
from train.people import people

MANY = {"anna": [True] * 10, "ben": [False] * 9, "cleo": [True, False] * 4, "dora": [True],
        "finn": [(True, False)]}  # fmt: skip
BY_JUDGE = {"split.by": "judge", "split.held_out": 0.4, "seed": 9}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("people"), MANY)


def run_of(data: Path, **more: Any) -> Run:
    told = {"model": "m", "data": str(data), "objective.name": "ppd", "split.held_out": 0.25}
    return Run.from_values({**told, **more})


def opened(data: Path, kept: Path, **more: Any) -> tuple[Book, tuple[Any, Any], tuple[Any, Any]]:
    """A book, both sides of the split, and what is used of them."""
    run, pairs = run_of(data, **more), PreferencePairs.open(data)
    book = open_book(run, pairs, kept, device="cpu", tell=lambda _text: None)
    assert book is not None
    sides = pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    return book, sides, (book.trained(sides[0]), book.asked(sides[1]))


@pytest.mark.parametrize(
    "more",
    [{}, {"personal.cap": 3}, BY_JUDGE,
     {"personal.users": "learned", "seed": 5}],
    ids=["as they are", "with a cap", "by judge", "learned vectors"],
)  # fmt: skip
def test_used_pairs_and_those_left_out_are_all_pairs_of_each_side(more, data, tmp_path):
    book, sides, used = opened(data, tmp_path, **more)
    for name, side, kept in zip(("training", "held out"), sides, used, strict=True):
        assert sum(book.left_out[name].values()) + len(kept) == len(side), name
    assert (CAPPED in book.left_out["training"]) == ("personal.cap" in more)
    assert CAPPED not in book.left_out["held out"]
    known = {ALONE, NO_VECTOR} & {why for lost in book.left_out.values() for why in lost}
    assert known <= ({NO_VECTOR} if "personal.users" in more else {ALONE})


def test_unseen_are_those_who_are_asked_about_and_not_trained(data, tmp_path):
    book, _, (train, held_out) = opened(data, tmp_path, **BY_JUDGE)
    strangers = {pair.judge for pair in held_out} - {pair.judge for pair in train}
    assert strangers
    assert book.facts(train, held_out)["unseen"] == len(strangers)
    assert book.facts(train, held_out)["held_out"] == len(held_out)


def test_nobody_to_check_by_is_refused_before_an_embedding_is_made(tmp_path):
    """Held-out people with a single pair each: none of them is known by another one."""
    said = {"anna": [True] * 3, "ben": [False] * 3, **{f"once {i}": [True] for i in range(20)}}
    data = people(tmp_path, said)
    pairs = PreferencePairs.open(data)
    seed = next(
        seed
        for seed in range(100)
        if pairs.split(by="prompt", held_out=0.05, seed=seed)[1][0].judge.startswith("once")
    )
    run = run_of(data, **{"split.held_out": 0.05, "seed": seed})
    with pytest.raises(DataError, match=r"1 held-out pairs, none of anybody.*1 pairs with no other"
                                        r".*larger split\.held_out"):  # fmt: skip
        open_book(run, pairs, tmp_path / "cache", device="cpu", tell=lambda _text: None)
    assert not (tmp_path / "cache" / "users").exists()


def test_the_other_split_is_named_only_where_it_has_two_sides(tmp_path):
    alone = people(tmp_path / "one", {"anna": [True]})
    with pytest.raises(DataError, match="they all have one judge too") as refused:
        check_pairs(run_of(alone), PreferencePairs.open(alone))
    assert "split.by" not in str(refused.value)
    several = people(tmp_path / "many", {"anna": [True, True]})
    with pytest.raises(DataError, match=r"or use split\.by=prompt"):
        check_pairs(run_of(several, **{"split.by": "judge"}), PreferencePairs.open(several))


def test_too_few_people_are_told_with_how_many_there_were(tmp_path):
    data = people(tmp_path, {"anna": [True] * 8, "ben": [False] * 8})
    with pytest.raises(DataError, match=r"1 of 2 people .* 0\.5 was held out by judge"):
        opened(data, tmp_path, **{"split.by": "judge", "split.held_out": 0.5})


def without_prompts(folder: Path) -> Path:
    """Two people, each with pairs of a prompt and one of the empty prompt."""
    store, rows, place = Store(folder / "store"), [], 0
    with store.writing():
        for user, likes in (("anna", 1.0), ("ben", 0.0)):
            for turn in range(7):
                images = [store.put(picture(2 * place, 120)), store.put(picture(2 * place + 1, 0))]
                rows.append(
                    compare(prompt=f"a {WORDS[place % len(WORDS)]} thing {place}" if turn else "",
                            images=images, agreement=likes, judge=user, source="human",
                            origin=str(place))
                )  # fmt: skip
                place += 1
        store.add(rows)
    return store.freeze(folder / "snapshot").path


def test_a_pair_without_a_prompt_is_nobodys_and_left_out(model, cache, tmp_path):
    """A picture for the empty prompt is drawn for nobody: nothing is learned of it."""
    data = without_prompts(tmp_path)
    book, sides, (train, held_out) = opened(data, tmp_path, **{"personal.dropout": 0.0})
    lost = [book.left_out[side].get(NO_PROMPT, 0) for side in ("training", "held out")]
    assert sum(lost) == 2
    assert all(pair.prompt for pair in (*train, *held_out))
    pairs, backbone = PreferencePairs.open(data), load(model)
    kept = Cache(cache, backbone, backbone.resolution)
    kept.fill(backbone, pairs, Pictures(), pairs.image, lambda _text: None)
    batches = Batches(cache=kept, pictures=Pictures(), streams=Streams(0), book=book)
    mine = [pair for side in sides for pair in side if book.away(pair)]
    user = batches(mine, [0] * len(mine)).conditions[0].user
    assert user is not None
    assert user.flatten(1).any(1).tolist() == [bool(pair.prompt) for pair in mine]
    assert not all(pair.prompt for pair in mine)


def test_a_broken_embedding_of_a_person_is_called_so(model, cache, data, tmp_path):
    book, _, (train, _) = opened(data, tmp_path, **{"personal.dropout": 0.0})
    backbone = load(model)
    kept = Cache(cache, backbone, backbone.resolution)
    kept.fill(backbone, train, Pictures(), train.image, lambda _text: None)
    batch = Batches(cache=kept, pictures=Pictures(), streams=Streams(0), book=book)(
        [train[0], train[1]], [0, 0]
    )
    user = batch.conditions[0].user
    assert user is not None
    assert batch.broken() == {}
    user[1] = torch.nan
    assert batch.broken() == {train[1].id: "user embedding is not finite"}


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the plain encoder's first embeddings not finite, so many of each call."""

    def broken(many: int) -> None:
        sound, left = LooksUsers.embed, [many]

        def embed(self: LooksUsers, people: Any) -> torch.Tensor:
            found = sound(self, people)
            found[: left[0]] = torch.nan
            left[0] = 0
            return found

        monkeypatch.setattr(LooksUsers, "embed", embed)

    return broken


def test_a_few_broken_embeddings_are_shown_to_nobody(breaking, data, tmp_path):
    breaking(2)
    book, sides, used = opened(data, tmp_path, **{"personal.dropout": 0.0})
    assert book.broken == 2
    assert any("2 embeddings of people were not finite" in note for note in book.notes)
    for side, kept, name in zip(sides, used, ("training", "held out"), strict=True):
        assert sum(book.left_out[name].values()) + len(kept) == len(side)
        for pair in kept:
            assert all(book.read(pair.judge, c).isfinite().all() for c in book.away(pair))
    assert book.users().tensor.isfinite().all()


def test_many_broken_embeddings_stop_a_run(breaking, data, tmp_path):
    breaking(3)
    with pytest.raises(HealthStop, match=r"3 of .* embeddings of people that are not finite"):
        opened(data, tmp_path)


def test_tastes_learned_from_the_very_pairs_are_told_in_the_event_and_on_the_card(data, tmp_path):
    space, other = tmp_path / "space", people(tmp_path, {"anna": [True] * 9, "ben": [False] * 9})
    fit_tastes(PreferencePairs.open(data), "looks", space, dimensions=1)
    same, _, (train, held_out) = opened(data, tmp_path, **{"personal.users": f"taste:{space}"})
    assert any("has seen their answers, held-out ones included" in each for each in same.notes)
    facts = same.facts(train, held_out)
    record = {"run": run_of(data).values(), "beta_convention": "", "personal": facts}
    assert f"- Note: {same.notes[0]}" in card(record, {})
    apart, _, _ = opened(other, tmp_path, **{"personal.users": f"taste:{space}"})
    assert apart.notes == ()
    more, _, _ = opened(other, tmp_path, **{"personal.users": f"taste:{space}",
                                            "personal.examples": 2})  # fmt: skip
    assert len(more.notes) == 1
    assert "known by 4 pairs, and personal.examples is 2" in more.notes[0]


def test_one_person_of_whom_nothing_can_be_told_is_told_so_by_name(tmp_path):
    data = people(tmp_path, {"finn": [(True, False)]})
    with pytest.raises(DataError, match=r"finn in .* with 2 contradictory pairs and nothing else"):
        embedding_of(LooksUsers(), data, user=None, count=4)
