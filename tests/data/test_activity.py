"""How unevenly people judge, on numbers a person can check."""

from palate.data.activity import activity
from palate.data.pairs import Pair
from palate.data.people import Everybody, UserFacts


def users(counts: dict[str, int], different: dict[str, int] | None = None) -> Everybody:
    pairs = {
        user: tuple(
            Pair(id=f"{user} {n}", prompt=f"p{n}", chosen=f"{user} {n} a", rejected=f"{user} {n} b",
                 agreement=1.0, judge=user, source="human")
            for n in range(count)
        )
        for user, count in counts.items()
    }  # fmt: skip
    facts = tuple(
        UserFacts(user=user, source="human", pairs=count, prompts=count, ties=0, contradictory=0,
                  usable=count, different=(different or counts)[user])
        for user, count in counts.items()
    )  # fmt: skip
    return Everybody(pairs=pairs, facts=facts, machines=0, nameless=0)


def test_a_heavy_tail_shows_in_the_median_and_in_the_busiest_hundredth() -> None:
    """Two users of 150 have 100 pairs each, the others one: 348 pairs, and the median is one."""
    counts = {"first": 100, "second": 100} | {f"user {n}": 1 for n in range(148)}
    found = activity(users(counts))
    assert found is not None
    assert (found.users, found.pairs, found.median, found.busiest) == (150, 348, 1.0, "first")
    assert (found.top_users, found.top_share) == (2, 200 / 348)
    assert (found.busiest_share, found.enough, found.alone) == (100 / 348, 2, 148)


def test_pairs_of_the_same_pictures_are_not_enough_to_know_somebody_by() -> None:
    found = activity(users({"a": 4, "b": 4}, {"a": 4, "b": 3}))
    assert found is not None
    assert (found.enough, found.few) == (1, 4)
    three = activity(users({"a": 4, "b": 4}, {"a": 4, "b": 3}), few=3)
    assert three is not None
    assert three.enough == 2


def test_nobody_has_no_activity() -> None:
    assert activity(users({})) is None
