"""What an order by user promises: even, whole, and a function of the step alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.core.problems import SettingError
from palate.data.loader import ByUser, Order, Visiting

# Whose each pair is: up to six users with very different numbers of pairs, mixed up.
OWNERS = st.lists(st.sampled_from("aaaaaaabbbccdef"), min_size=1, max_size=40)


def row(order: Visiting, draws: int) -> list[tuple[int, int]]:
    """The first draws, one by one: pair and visit."""
    steps = range(-(-draws // order.batch))
    found = [
        both for step in steps for both in zip(order.indices(step), order.visits(step), strict=True)
    ]
    return found[:draws]


@given(owners=OWNERS, batch=st.integers(1, 9), start=st.integers(0, 50), rounds=st.integers(1, 5))
def test_every_user_comes_equally_often_up_to_one_in_any_stretch_of_whole_rounds(
    owners, batch, start, rounds
) -> None:
    users = sorted(set(owners))
    draws = row(ByUser(owners, batch, 3), start + len(users) * rounds)[start:]
    came = Counter(owners[index] for index, _ in draws)
    assert all(abs(came[user] - rounds) <= 1 for user in users)
    if start % len(users) == 0:
        assert set(came.values()) == {rounds}


@given(owners=OWNERS, batch=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_a_user_shows_every_pair_once_per_visit_and_visits_are_counted_by_user(
    owners, batch, seed
) -> None:
    rounds = 3 * max(Counter(owners).values())
    shown: dict[str, list[tuple[int, int]]] = {}
    for index, visit in row(ByUser(owners, batch, seed), len(set(owners)) * rounds):
        shown.setdefault(owners[index], []).append((index, visit))
    for user, came in shown.items():
        mine = [index for index, owner in enumerate(owners) if owner == user]
        assert len(came) == rounds
        for first in range(0, rounds - len(mine) + 1, len(mine)):
            stretch = came[first : first + len(mine)]
            assert sorted(index for index, _ in stretch) == mine
            assert {visit for _, visit in stretch} == {first // len(mine)}


@given(owners=OWNERS, batch=st.integers(1, 9), step=st.integers(0, 10**9))
def test_a_step_is_the_same_whatever_was_asked_before(owners, batch, step) -> None:
    used = ByUser(owners, batch, 7)
    for other in (0, step + 1, 3, step // 2):
        used.indices(other)
        used.visits(other)
    fresh = ByUser(owners, batch, 7)
    assert used.indices(step) == fresh.indices(step)
    assert used.visits(step) == fresh.visits(step)


def test_another_batch_size_walks_the_same_row() -> None:
    owners = list("aaaaabbc")
    assert row(ByUser(owners, 4, 1), 24) == row(ByUser(owners, 6, 1), 24)


def test_seeds_rounds_and_visits_differ() -> None:
    """One user has fifty pairs; twenty have one each."""
    owners = ["much"] * 50 + [f"little {n}" for n in range(20)]
    one = row(ByUser(owners, 21, 1), 21 * 100)
    assert one != row(ByUser(owners, 21, 2), 21 * 100)
    assert [owners[i] for i, _ in one[:21]] != [owners[i] for i, _ in one[21:42]]
    much = [index for index, _ in one if owners[index] == "much"]
    assert much[:50] != much[50:]
    assert sorted(much[:50]) == sorted(much[50:]) == list(range(50))


def test_one_user_alone_is_walked_through_like_any_pairs() -> None:
    """Two orders of one user's six pairs: each epoch holds all, and visits are epochs."""
    mine, every = ByUser(["only"] * 6, 4, 0), Order(6, 4, 0)
    for order in (mine, every):
        drawn = row(order, 12)
        assert sorted(index for index, _ in drawn[:6]) == list(range(6))
        assert [visit for _, visit in drawn] == [0] * 6 + [1] * 6
    assert mine.size == every.size == 6


def test_nothing_to_visit_is_refused() -> None:
    with pytest.raises(SettingError, match="size=0"):
        ByUser([], 4, 0)
    with pytest.raises(SettingError, match="batch=0"):
        ByUser(["a"], 0, 0)
    with pytest.raises(SettingError, match="from 0"):
        ByUser(["a"], 1, 0).indices(-1)
    with pytest.raises(SettingError, match="from 0"):
        ByUser(["a"], 1, 0).visits(-1)
