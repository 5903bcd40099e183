"""Which few pairs stand for a user, and which of them a pair may be learned with."""

from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.core.problems import DataError, SettingError
from palate.data.examples import away_from, examples_for
from palate.data.pairs import Pair


def pair(name: str, chosen: str, rejected: str, prompt: str = "p", judge: str = "u") -> Pair:
    return Pair(
        id=name, prompt=prompt, chosen=chosen, rejected=rejected, agreement=1.0, judge=judge,
        source="human",
    )  # fmt: skip


def plain(count: int) -> list[Pair]:
    """Pairs without a picture in common."""
    return [pair(f"{n:03d}", f"good {n}", f"poor {n}", f"p{n}") for n in range(count)]


@given(
    pairs=st.integers(1, 12),
    count=st.integers(1, 5),
    subsets=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_choices_are_small_sorted_different_and_as_many_as_there_can_be(
    pairs, count, subsets, seed
) -> None:
    mine = plain(pairs)
    found = examples_for(mine, count=count, subsets=subsets, seed=seed, user="u")
    sizes = [len(each) for each in found]
    assert sizes[0] == min(count, pairs)
    every = pairs <= count
    assert set(sizes[1:]) <= {pairs - 1 if every else count}
    possible = 1 + (pairs if pairs > 1 else 0) if every else comb(pairs, count)
    assert len(found) == min(subsets, possible)
    names = [tuple(one.id for one in each) for each in found]
    assert len(set(names)) == len(names)
    assert all(list(each) == sorted(set(each)) for each in names)
    if (pairs > count and subsets * (pairs - count) >= pairs and subsets > 1) or (
        1 < pairs < min(subsets, count + 1)
    ):
        assert all(any(one not in each for each in names) for one in {x for n in names for x in n})
        assert all(away_from(found, one) for one in mine)


def test_choices_do_not_depend_on_order_and_do_on_user_and_seed() -> None:
    mine = plain(30)
    drawn = examples_for(mine, count=4, subsets=5, seed=1, user="u")
    assert drawn == examples_for(mine[::-1], count=4, subsets=5, seed=1, user="u")
    assert drawn[:2] == examples_for(mine, count=4, subsets=2, seed=1, user="u")
    assert drawn != examples_for(mine, count=4, subsets=5, seed=2, user="u")
    assert drawn != examples_for(mine, count=4, subsets=5, seed=1, user="v")


def test_all_choices_can_be_had_and_they_are_the_combinations() -> None:
    mine = plain(6)
    found = examples_for(mine, count=3, subsets=500, seed=0, user="u")
    assert {tuple(one.id for one in each) for each in found} == set(
        combinations([one.id for one in mine], 3)
    )


def test_nobodys_pair_and_impossible_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="no pair of user u"):
        examples_for([], count=4, subsets=1, seed=0, user="u")
    with pytest.raises(SettingError, match="count=0"):
        examples_for(plain(2), count=0, subsets=1, seed=0, user="u")
    with pytest.raises(SettingError, match="subsets=0"):
        examples_for(plain(2), count=4, subsets=0, seed=0, user="u")


def test_the_same_two_pictures_stand_for_somebody_once() -> None:
    mine = [pair("2", "x", "y"), pair("1", "x", "y", "other"), pair("3", "x", "z")]
    (every,) = examples_for(mine, count=4, subsets=1, seed=0, user="u")
    assert [each.id for each in every] == ["1", "3"]


def test_a_pair_is_learned_with_examples_that_do_not_give_it_away() -> None:
    """Of three choices one holds the pair under another name, one shows its chosen picture."""
    asked = pair("0", "x", "y")
    again, shown, clear = pair("1", "y", "x", "q"), pair("2", "x", "z"), pair("3", "v", "w")
    subsets = ((again, clear), (shown, clear), (clear,))
    assert away_from(subsets, asked) == ((clear,),)
    assert away_from(subsets[:2], asked) == ((shown, clear),)
    assert away_from(subsets[:1], asked) == ()
    assert away_from(((asked,),), asked) == ()


def test_what_a_choice_shows_is_found_once_and_goes_on_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many pairs ask: each choice of four is looked at once, and each pair that asks."""
    looked: list[str] = []

    def look(one: Pair) -> frozenset[str]:
        looked.append(one.id)
        return frozenset((one.chosen, one.rejected))

    mine = plain(12)
    found = examples_for(mine, count=4, subsets=3, seed=0, user="u")
    monkeypatch.setattr("palate.data.examples.pictures_of", look)
    allowed = [away_from(found, one) for one in mine for _ in range(5)]
    assert len(looked) == 3 * 4 + 5 * 12
    assert all(any(each is one for one in found) for some in allowed for each in some)
