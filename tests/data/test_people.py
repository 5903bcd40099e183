"""Who a user is, and which of their pairs say anything."""

from pathlib import Path

import numpy as np
import pytest

from palate.core.problems import DataError, SettingError
from palate.data.comparison import compare
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import (
    capped,
    different,
    named_user,
    survey,
    usable,
    users_of,
    without_contradictions,
)
from palate.data.store import Store


def pair(name: str, chosen: str, rejected: str, prompt: str = "p", judge: str = "u") -> Pair:
    return Pair(
        id=name, prompt=prompt, chosen=chosen, rejected=rejected, agreement=1.0, judge=judge,
        source="human",
    )  # fmt: skip


def opened(folder: Path, rows: list[dict]) -> PreferencePairs:
    """Rows whose `images` are numbers that name plain pictures; people, unless said otherwise."""
    store = Store(folder / "store")
    made = []
    for facts in rows:
        images = [store.put(np.full((8, 8, 3), n, np.uint8)) for n in facts["images"]]
        others = {name: value for name, value in facts.items() if name != "images"}
        made.append(compare(images=images, **{"prompt": "p", "source": "human", **others}))
    store.add(made)
    store.freeze(folder / "frozen")
    return PreferencePairs.open(folder / "frozen")


def said(judge: str, first: int, agreement: float = 1.0, **others) -> dict:
    """A judgement of the pictures n and n + 1."""
    return {"images": [first, first + 1], "agreement": agreement, "judge": judge, **others}


def test_users_come_busiest_first_with_their_strict_pairs_in_order(tmp_path: Path) -> None:
    rows = [said("b", 0), said("a", 0), said("a", 2), said("a", 4, 0.5), said("c", 0, 0.1)]
    pairs = opened(tmp_path, rows)
    found = users_of(pairs)
    assert {user: len(mine) for user, mine in found.items()} == {"a": 2, "b": 1, "c": 1}
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == [each for each in pairs if each.judge == "a"]


def test_what_is_left_out_is_counted_by_user(tmp_path: Path) -> None:
    """Anna: a tie, and one pair both ways, in other letters too; ben: one pair, twice the same."""
    rows = [
        said("anna", 0, prompt="A  Fox"), said("anna", 0, 0.0, prompt="a fox"), said("anna", 2),
        said("anna", 4, 0.5), said("anna", 0, prompt="a hare"),
        said("ben", 0), said("ben", 0, judged_at="later"), said("ben", 0, 0.5, prompt="q"),
    ]  # fmt: skip
    found = usable(opened(tmp_path, rows))
    anna, ben = sorted(found.facts, key=lambda each: each.user)
    assert (anna.pairs, anna.prompts, anna.ties, anna.contradictory) == (4, 3, 1, 2)
    assert (anna.usable, anna.different) == (2, 2)
    assert (ben.pairs, ben.ties, ben.usable, ben.different) == (2, 1, 2, 1)
    assert (found.ties, found.contradictory, found.people) == (2, 2, True)
    assert {user: len(mine) for user, mine in found.pairs.items()} == {"anna": 2, "ben": 2}


def test_two_people_may_disagree_without_contradicting_themselves(tmp_path: Path) -> None:
    found = usable(opened(tmp_path, [said("a", 0), said("b", 0, 0.0)]))
    assert (found.contradictory, set(found.pairs)) == (0, {"a", "b"})


def test_machines_are_no_users_where_there_are_people_and_are_where_there_are_none(
    tmp_path: Path,
) -> None:
    machine = [said("clip", n, source="scorer") for n in (0, 2)]
    both = survey(opened(tmp_path / "both", [*machine, said("a", 0)]))
    assert (set(both.pairs), both.machines, both.people) == ({"a"}, 2, True)
    alone = survey(opened(tmp_path / "alone", machine))
    assert (set(alone.pairs), alone.machines, alone.people) == ({"clip"}, 0, False)


@pytest.mark.parametrize(
    ("rows", "why", "fix"),
    [
        ([said("a", 0, 0.5), said("a", 2, 0.5)], "2 ties", "choose between some more"),
        ([said("a", 0), said("a", 0, 0.0)], "2 contradictory pairs", "palate users list"),
        (
            [said("unknown", 0), said("pickapic/unknown", 2)],
            "2 judgements without a name",
            "with names, which are taken from user_id or judge",
        ),
        (
            [said("clip", 0, source="vlm"), said("a", 2, 0.5)],
            "1 ties, 1 judgements of machines",
            "choose between some more",
        ),
        ([said("nobody", 0, agreement=None)], "nobody judged a pair", "palate data show"),
    ],
)
def test_where_nothing_is_left_the_refusal_says_what_there_was(tmp_path, rows, why, fix) -> None:
    with pytest.raises(DataError, match=why) as refused:
        usable(opened(tmp_path, rows))
    assert fix in refused.value.fix


def test_a_pair_said_three_times_both_ways_is_left_out_altogether() -> None:
    mine = [pair("1", "x", "y"), pair("2", "y", "x"), pair("3", "x", "y"), pair("4", "x", "z")]
    assert [each.id for each in without_contradictions(mine)] == ["4"]


def test_the_same_two_pictures_count_once() -> None:
    mine = [pair("2", "x", "y"), pair("1", "x", "y", "other"), pair("3", "x", "z")]
    assert {each.id for each in different(mine)} == {"1", "3"}


def test_a_cap_keeps_as_many_of_each_and_a_larger_one_holds_a_smaller_ones(tmp_path) -> None:
    rows = [said("much", n) for n in range(0, 40, 2)] + [said("little", n) for n in (0, 2)]
    rows += [said("unknown", n) for n in range(0, 20, 2)] + [said("much", 0, 0.5, prompt="q")]
    pairs = opened(tmp_path, rows)
    five, nine = capped(pairs, 5, 0), capped(pairs, 9, 0)
    assert {u: len(mine) for u, mine in users_of(five).items()} == {"much": 5, "little": 2}
    assert {each.id for each in five} < {each.id for each in nine}
    assert sum(each.judge == "unknown" for each in five) == 10
    assert len(five.ties) == 1
    assert {each.id for each in five} != {each.id for each in capped(pairs, 5, 1)}
    with pytest.raises(SettingError, match="a cap of 0"):
        capped(pairs, 0, 0)


def test_a_user_is_found_by_name_or_by_its_end_and_the_nearest_is_named() -> None:
    users = {"pickapic/12": 0, "pickapic/345": 0, "mine/7": 0, "yours/7": 0}
    assert named_user("pickapic/12", users) == "pickapic/12"
    assert named_user("345", users) == "pickapic/345"
    with pytest.raises(SettingError, match=r"2 users are called.*Did you mean mine/7"):
        named_user("7", users)
    with pytest.raises(SettingError, match=r"4 users.*Did you mean pickapic/345"):
        named_user("pickapick/345", users)
    with pytest.raises(SettingError, match=r"Did you mean pickapic/345"):
        named_user("3456", users)
    with pytest.raises(SettingError, match="palate users list"):
        named_user("zzzzzz", users)
    many = [f"user {n}" for n in range(5000)]
    with pytest.raises(SettingError) as refused:
        named_user("usr 17", many)
    assert len(str(refused.value)) < 300
