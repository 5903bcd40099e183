"""A snapshot in Pick-a-Pic's columns, taken apart by user and by prompt within one."""

from pathlib import Path

import numpy as np
import pytest

from data.made import pickapic, plain
from palate.core.files import damage
from palate.core.problems import DataError, SettingError, StateError
from palate.data.comparison import Comparison, compare
from palate.data.examples import examples_for
from palate.data.folds import folded
from palate.data.pairs import Pair, PreferencePairs
from palate.data.part import label_part
from palate.data.people import users_of
from palate.data.seen import People, part_people
from palate.data.snapshot import read_imports, read_rows, verify
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART

PARTS = ("train", "held-out", "examples", "unseen")


def frozen(folder: Path, people: list[tuple[int | None, str, float]], backwards=False) -> Path:
    """Judgements (user, prompt, label) of two pictures of their own each, through the parquet."""
    rows = [
        {"caption": prompt, "jpg_0": plain(2 * n), "jpg_1": plain(2 * n + 1), "label_0": label,
         "user_id": user}
        for n, (user, prompt, label) in enumerate(people)
    ]  # fmt: skip
    store = Store(folder / "store")
    rows = rows[::-1] if backwards else rows
    import_comparisons(store, "pickapic", pickapic(folder / "rows.parquet", rows))
    return store.freeze(folder / "frozen").path


def crowd() -> list[tuple[int | None, str, float]]:
    """Users 0 to 7 judge eight prompts, every third of them twice, and have a tie each.

    Prompts 0 to 2 are everybody's; the others belong to one user. Users 8 and 9 have one and four
    pairs, 10 a tie only, and two judgements are nobody's.
    """
    rows: list[tuple[int | None, str, float]] = []
    for user in range(8):
        for prompt in range(8):
            text = f"Everybody's  {prompt}" if prompt < 3 else f"prompt {prompt} of {user}"
            rows += [(user, text, float(prompt % 2))] * (2 if prompt % 3 == 0 else 1)
        rows.append((user, "a tie", 0.5))
    rows += [(8, "alone", 1.0)] + [(9, f"four {n}", 0.0) for n in range(4)]
    return [*rows, (10, "a tie", 0.5), (None, "nobody's", 1.0), (None, "nobody's too", 0.0)]


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, People, dict[str, list[Pair]]]:
    folder = tmp_path_factory.mktemp("parted")
    snapshot = frozen(folder, crowd())
    made = part_people(snapshot, folder / "out", unseen=0.25, held_out=0.25, seed=0)
    return (
        snapshot,
        made,
        {name: list(PreferencePairs.open(folder / "out" / name)) for name in PARTS},
    )


def prompts(pairs: list[Pair], user: str) -> set[str]:
    return {folded(pair.prompt) for pair in pairs if pair.judge == user}


def test_pick_a_pics_user_id_arrives_as_the_judge(parted) -> None:
    _, made, _ = parted
    assert set(made.seen) | set(made.unseen) == {f"pickapic/{n}" for n in range(10)}


def test_every_part_is_a_whole_snapshot_and_says_what_it_is_part_of(parted) -> None:
    snapshot, made, _ = parted
    for name in PARTS:
        assert made.parts[name].path.name == name
        verify(made.parts[name].path)
        assert {row.id for row in read_rows(made.parts[name].path)} <= {
            row.id for row in read_rows(snapshot)
        }
        *before, note = read_imports(made.parts[name].path)
        assert before == read_imports(snapshot)
        assert note["people"]["part"] == name
        assert (note["people"]["seed"], note["people"]["few"]) == (0, 4)
    assert damage(made.parts["train"].path.parent) is None


def test_a_user_is_seen_or_unseen_and_never_both(parted) -> None:
    _, made, parts = parted
    judges = {name: {pair.judge for pair in pairs} for name, pairs in parts.items()}
    assert judges["train"] == set(made.seen)
    assert judges["held-out"] <= set(made.seen)
    assert judges["examples"] == judges["unseen"] == set(made.unseen)
    assert not set(made.seen) & set(made.unseen)
    # A quarter of the eight who have enough; the two with one and four pairs stay seen.
    assert (len(made.unseen), made.small) == (2, 2)
    assert {"pickapic/8", "pickapic/9"} <= set(made.seen)


def test_within_a_user_no_prompt_is_on_two_sides(parted) -> None:
    _, made, parts = parted
    for user in made.seen:
        assert not prompts(parts["train"], user) & prompts(parts["held-out"], user)
    for user in made.unseen:
        assert not prompts(parts["examples"], user) & prompts(parts["unseen"], user)


def test_four_pairs_of_each_unseen_user_are_examples_and_a_quarter_of_prompts_is_held_out(
    parted,
) -> None:
    """Of eight prompts exactly two are held out, of four one, of a single one none."""
    _, made, parts = parted
    assert {len(mine) for mine in _by_user(parts["examples"]).values()} == {4}
    held = {user: len(prompts(parts["held-out"], user)) for user in made.seen}
    assert held.pop("pickapic/8") == 0
    assert held.pop("pickapic/9") == 1
    assert set(held.values()) == {2}
    assert made.alone == 1


def test_everything_is_in_one_part_or_counted(parted) -> None:
    snapshot, made, parts = parted
    counted = made.ties + made.contradictory + made.nameless + made.machines + made.set_aside
    assert sum(made.pairs.values()) + counted == len(read_rows(snapshot))
    assert made.pairs == {name: len(parts[name]) for name in PARTS}
    assert made.users == {name: len({pair.judge for pair in parts[name]}) for name in PARTS}
    ids = [pair.id for pairs in parts.values() for pair in pairs]
    assert len(set(ids)) == len(ids)
    assert (made.ties, made.nameless, made.nothing, made.contradictory) == (9, 2, 1, 0)


def test_prompts_that_training_knows_from_others_are_counted(parted) -> None:
    _, made, parts = parted
    trained = {folded(pair.prompt) for pair in parts["train"]}
    for name in ("held-out", "unseen"):
        here = {folded(pair.prompt) for pair in parts[name]}
        assert made.prompts[name] == len(here)
        assert made.known[name] == len(here & trained)
        assert all(prompt.startswith("everybody's") for prompt in here & trained)
    assert made.known["unseen"] > 0


def test_the_order_of_rows_changes_nothing_and_the_seed_does(parted, tmp_path) -> None:
    _, made, _ = parted
    other = frozen(tmp_path, crowd(), backwards=True)
    # Pictures have other numbers: only who is unseen and which prompts are held out must agree.
    again = part_people(other, tmp_path / "again", unseen=0.25, held_out=0.25, seed=0)
    assert (again.unseen, again.prompts["held-out"]) == (made.unseen, made.prompts["held-out"])
    third = part_people(other, tmp_path / "third", unseen=0.25, held_out=0.25, seed=1)
    assert third.unseen != made.unseen
    one, other = (PreferencePairs.open(tmp_path / name / "held-out") for name in ("again", "third"))
    both = set(made.seen) & set(third.seen) - {"pickapic/8"}
    assert any(prompts(list(one), user) != prompts(list(other), user) for user in both)


def test_examples_of_an_unseen_user_are_what_training_would_draw_of_them(parted) -> None:
    _, made, parts = parted
    for user in made.unseen:
        mine = [pair for pair in parts["examples"] if pair.judge == user]
        (drawn,) = examples_for(mine, count=4, subsets=1, seed=5, user=user)
        assert set(drawn) == set(mine)


def test_a_part_nobody_asked_for_is_not_written(tmp_path) -> None:
    snapshot = frozen(tmp_path, [(1, f"p{n}", 1.0) for n in range(6)])
    made = part_people(snapshot, tmp_path / "prompts", unseen=0, held_out=0.5, seed=0)
    assert set(made.parts) == {"train", "held-out"}
    assert sorted(path.name for path in (tmp_path / "prompts").iterdir()) == [
        "held-out", "manifest.json", "people.json", "train",
    ]  # fmt: skip
    with pytest.raises(StateError, match="exists"):
        part_people(snapshot, tmp_path / "prompts", unseen=0, held_out=0.5, seed=0)


def test_held_out_prompts_are_as_many_as_asked_in_the_mean_of_people_with_few(tmp_path) -> None:
    """Thirty users with two prompts each: a quarter of sixty is 15, and nobody loses both."""
    rows = [(user, f"{user} {n}", 1.0) for user in range(30) for n in range(2)]
    made = part_people(frozen(tmp_path, rows), tmp_path / "out", unseen=0, held_out=0.25, seed=0)
    assert 8 <= made.pairs["held-out"] <= 22
    assert len(made.seen) == 30


def test_a_prompt_always_stays_to_learn_from_and_one_to_judge_by(tmp_path) -> None:
    """Users with four pairs on one prompt and a fifth on another: the fifth is to judge by."""
    rows = [(user, f"{user}", 1.0) for user in range(8) for _ in range(4)]
    rows += [(user, f"{user} else", 1.0) for user in range(8)]
    made = part_people(frozen(tmp_path, rows), tmp_path / "out", unseen=0.99, held_out=0.9, seed=0)
    assert (made.users["examples"], made.users["unseen"]) == (7, 7)
    assert (made.pairs["examples"], made.pairs["unseen"]) == (28, 7)
    every = part_people(tmp_path / "frozen", tmp_path / "every", unseen=0, held_out=0.9, seed=0)
    assert every.users["train"] == 8
    assert {row.prompt for row in read_rows(tmp_path / "out" / "unseen")} == {
        f"{name.removeprefix('pickapic/')} else" for name in made.unseen
    }


def test_pictures_of_an_example_are_not_judged_by_on_another_prompt_either(tmp_path) -> None:
    """Six pairs of pictures, each judged on two prompts: of the four examples' none comes back."""
    store = Store(tmp_path / "store")
    store.add(
        compare(prompt=f"{user} {n} {word}", judge=user, source="human", agreement=1.0,
                images=[store.put(np.full((8, 8, 3), 2 * n + k, np.uint8)) for k in (0, 1)])
        for user in "ab" for n in range(6) for word in ("once", "again")
    )  # fmt: skip
    store.freeze(tmp_path / "frozen")
    part_people(tmp_path / "frozen", tmp_path / "out", unseen=0.5, held_out=0, seed=0)
    shown, asked = (
        {frozenset((pair.chosen, pair.rejected)) for pair in PreferencePairs.open(tmp_path / path)}
        for path in ("out/examples", "out/unseen")
    )
    assert (len(shown), len(asked)) == (4, 2)
    assert not shown & asked


def _by_user(pairs: list[Pair]) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.judge, []).append(pair)
    return found


@pytest.mark.parametrize(
    ("rows", "settings", "kind", "words"),
    [
        ([(1, f"p{n}", 1.0) for n in range(9)], {}, DataError, "a single user, pickapic/1"),
        ([(u, f"p{n}", 1.0) for u in (1, 2) for n in range(4)], {}, DataError, "4 different pairs"),
        ([(u, "p", 1.0) for u in (1, 2) for _ in range(9)], {}, DataError, "another prompt"),
        ([(1, "p", 0.5), (2, "q", 0.5)], {}, DataError, "2 ties"),
        ([(1, "p", 1.0)], {"unseen": 0}, DataError, "which is none"),
        ([(1, "p", 1.0)], {"unseen": 1.0}, SettingError, "unseen=1"),
        ([(1, "p", 1.0)], {"held_out": -0.1}, SettingError, "held_out=-0.1"),
        ([(1, "p", 1.0)], {"unseen": 0, "held_out": 0}, SettingError, "something to judge by"),
        ([(1, "p", 1.0)], {"few": 0}, SettingError, "few=0"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_apart_says_why_and_leaves_nothing(
    tmp_path, rows, settings, kind, words
) -> None:
    snapshot = frozen(tmp_path, rows)
    with pytest.raises(kind, match=words):
        part_people(
            snapshot, tmp_path / "out", **{"unseen": 0.25, "held_out": 0.1, "seed": 0, **settings}
        )
    assert not list(tmp_path.glob("*out*"))


def test_a_record_of_three_pictures_becomes_pairs_and_machines_stay_out(tmp_path) -> None:
    """Ranks 1, 2, 2: two strict pairs and a tie; the scorer's labels are counted, not kept."""
    store = Store(tmp_path / "store")
    made: list[Comparison] = []
    for user in "ab":
        for n in range(4):
            images = [
                store.put(np.full((8, 8, 3), 30 * n + k + 10 * (user == "b"), np.uint8))
                for k in range(3)
            ]
            facts = {"prompt": f"{user} {n}", "images": images, "ranks": [1, 2, 2]}
            made.append(compare(judge=user, source="human", **facts))
            made.append(compare(judge="clip", source="scorer", **facts))
    store.add(made)
    snapshot = store.freeze(tmp_path / "frozen").path
    found = part_people(snapshot, tmp_path / "out", unseen=0.5, held_out=0, few=3, seed=0)
    assert (found.ties, found.machines, len(found.unseen)) == (8, 24, 1)
    train = users_of(PreferencePairs.open(tmp_path / "out" / "train"))
    assert {user: len(mine) for user, mine in train.items()} == {found.seen[0]: 8}
    assert found.pairs["examples"] == 3
    assert 2 <= found.pairs["unseen"] <= 4


def test_scorers_stand_for_people_where_nobody_else_judged(tmp_path) -> None:
    store = Store(tmp_path / "store")
    rows = [
        compare(prompt=f"{judge} {n}", judge=judge, source="scorer", agreement=1.0,
                images=[store.put(np.full((8, 8, 3), 2 * n + k, np.uint8)) for k in (0, 1)])
        for judge in ("clip", "hps") for n in range(6)
    ]  # fmt: skip
    store.add(rows)
    snapshot = store.freeze(tmp_path / "frozen").path
    found = part_people(snapshot, tmp_path / "out", unseen=0.5, held_out=0, seed=0)
    assert (found.machines_only, found.machines) == (True, 0)
    assert {*found.seen, *found.unseen} == {"clip", "hps"}


def test_a_labelled_part_is_no_random_one_afterwards(tmp_path) -> None:
    rows = [(user, f"{user} {n}", 1.0) for user in range(3) for n in range(8)]
    snapshot = frozen(tmp_path, rows)
    label_part(snapshot, tmp_path / "part", share=1, seed=0)
    made = part_people(tmp_path / "part", tmp_path / "out", unseen=0.5, held_out=0, seed=0)
    *_, note = read_imports(made.parts["train"].path)
    assert note[LABELLED_PART]["at_random"] is False
