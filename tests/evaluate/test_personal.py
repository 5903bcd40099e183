"""What is concluded of a personal model, by hand and where the truth is planted."""

from dataclasses import replace

import numpy as np
import pytest

from evaluate.planted_users import planted
from palate.core.problems import DataError, SettingError
from palate.core.stats import cluster_mean, cluster_share, outcomes
from palate.core.streams import Streams
from palate.evaluate.crossed import Crossed
from palate.evaluate.personal import (
    alike,
    by_training,
    differences,
    of_each_training,
    shares,
    verdicts,
)
from palate.evaluate.shares import share_with
from palate.evaluate.two_way import two_way, variance


def two_users() -> Crossed:
    """Two users, two pictures. The base is worth 0 to both.

    User a gives their own pictures 1 and 1, those for b 1 and -1. User b gives their own 1 and 0,
    those for a -1 and -1.
    """
    return Crossed(
        users=("a", "b"),
        prompts=("p", "q"),
        personal=np.array([[[1.0, 1.0], [1.0, -1.0]], [[-1.0, -1.0], [1.0, 0.0]]]),
        base=np.zeros((2, 2)),
    )


def test_two_users_by_hand():
    """Own over base: a wins 2 of 2, b wins one and ties one: (1 + ¾) / 2.

    Shuffled over base: a sees b's pictures, 1 of 2; b sees a's, 0 of 2. So ¼, and the difference
    is 5/8. Own over shuffled: a ties one and wins one, b wins both: (¾ + 1) / 2.
    """
    found = verdicts(two_users())
    assert found["own_over_base"].value == pytest.approx(7 / 8)
    assert found["shuffled_over_base"].value == pytest.approx(1 / 4)
    assert found["own_minus_shuffled"].value == pytest.approx(5 / 8)
    assert found["own_over_shuffled"].value == pytest.approx(7 / 8)
    assert found["own_gain"].value == pytest.approx(3 / 4)
    assert found["shuffled_gain"].value == pytest.approx(-1 / 2)
    assert {each.n for each in found.values()} == {2}
    assert not any("pooled" in name or "nearest" in name for name in found)


def test_shuffled_is_the_mean_over_everybody_else():
    """Counted user by user and picture by picture, without the module's own arithmetic."""
    found = planted(5, 4, follows=0.5, seed=3)
    won = [
        found.personal[user, other] > found.base[user]
        for user in range(5)
        for other in range(5)
        if other != user
    ]
    told = shares(found)["shuffled_over_base"]
    np.testing.assert_allclose(told.mean(axis=0), np.mean(won, axis=0))


def test_a_users_part_in_shuffled_is_what_leaving_them_out_would_change():
    """Pseudo-values: 5 times the mean of all five minus 4 times the mean of the other four."""
    found = planted(5, 4, follows=0.5, seed=3)
    whole = shares(found)["shuffled_over_base"]
    for user in range(5):
        rest = found.only([name for at, name in enumerate(found.users) if at != user])
        without = shares(rest)["shuffled_over_base"].mean(axis=0)
        np.testing.assert_allclose(whole[user], 5 * whole.mean(axis=0) - 4 * without)


def test_a_model_that_ignores_users_is_exactly_as_good_for_others():
    """Everybody is shown the same pictures: there is nothing that shuffling could change."""
    found = planted(better=1.0)
    found = replace(found, personal=np.repeat(found.personal[:, :1], 20, axis=1))
    told = verdicts(found)
    assert told["own_over_base"].low > 0.5
    one = told["own_minus_shuffled"]
    assert (one.value, one.low, one.high) == (0, 0, 0)
    assert told["own_over_shuffled"].value == 0.5


def test_a_model_that_only_became_better_does_not_pass_for_personal():
    told = verdicts(planted(32, 16, better=1.5))
    assert told["own_over_base"].low > 0.7
    assert told["own_minus_shuffled"].low < 0 < told["own_minus_shuffled"].high
    assert told["own_over_shuffled"].low < 0.5 < told["own_over_shuffled"].high


def test_a_model_that_follows_people_is_told_from_one_that_does_not():
    told = verdicts(planted(32, 16, follows=1.5))
    assert told["own_minus_shuffled"].low > 0.2
    assert told["own_over_shuffled"].low > 0.6
    assert told["own_minus_farthest"].value > told["own_minus_shuffled"].value
    assert told["own_minus_nearest"].value < told["own_minus_shuffled"].value


def test_nearest_and_farthest_are_whose_tastes_are_most_and_least_alike():
    """Rewards of the base's pictures: b rates as a does, c the other way round, d apart."""
    base = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.1], [3.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    crossed = Crossed(
        users=("a", "b", "c", "d"), prompts=("p", "q", "r"), personal=np.zeros((4, 4, 3)), base=base
    )
    near, far = alike(crossed)
    assert (near[0], far[0], near[1], far[2]) == (1, 2, 0, 0)


def test_a_broken_picture_loses_and_is_left_out_of_gains():
    broken = two_users()
    broken.personal[:, 0, 0] = np.nan
    told = verdicts(broken)
    assert told["own_over_base"].value == pytest.approx((1 / 2 + 3 / 4) / 2)
    # Of the second picture alone, for both users and for shuffled too: a gives 1 to their own and
    # -1 to b's, b 0 to their own and -1 to a's.
    assert told["own_gain"].value == pytest.approx((1 + 0) / 2)
    assert told["shuffled_gain"].value == pytest.approx((-1 + -1) / 2)
    assert told["own_gain"].measurements == told["shuffled_gain"].measurements == 2
    assert broken.whole.tolist() == [False, True]
    assert broken.without_reward == {"personal": 1, "base": 0}


def test_users_are_the_unit_however_many_pictures_each_has():
    """Forty pictures of each of twelve users are twelve answers, not 480."""
    found = planted(12, 40, follows=0.4)
    told = verdicts(found)["own_minus_shuffled"]
    table = differences(found)["own_minus_shuffled"]
    assert (told.n, told.measurements) == (12, 480)
    by_hand = cluster_mean(table.mean(axis=1), range(12))
    assert (told.low, told.high) == pytest.approx((by_hand.low, by_hand.high))


def test_users_of_several_trainings_are_different_users():
    trainings = [planted(8, 6, follows=1.0, seed=seed) for seed in range(3)]
    together = verdicts(trainings)
    alone = [verdicts(one) for one in trainings]
    for name, estimate in together.items():
        if name != "own_minus_shuffled_by_training":
            assert estimate.n == 24
            assert estimate.value == pytest.approx(np.mean([each[name].value for each in alone]))
    assert together["own_minus_shuffled"].low > 0


def test_by_training_is_students_t_over_the_trainings_own_means():
    """Means m of three trainings: m ± 4.303 s / √3."""
    trainings = [planted(8, 6, follows=1.0, seed=seed) for seed in range(3)]
    means = of_each_training(trainings)
    assert means == pytest.approx([verdicts(one)["own_minus_shuffled"].value for one in trainings])
    told = verdicts(trainings)["own_minus_shuffled_by_training"]
    half = 4.302653 * np.std(means, ddof=1) / np.sqrt(3)
    assert (told.n, told.value) == (3, pytest.approx(np.mean(means)))
    assert (told.low, told.high) == pytest.approx((told.value - half, told.value + half))
    assert not by_training(trainings[0]).bounded
    assert "own_minus_shuffled_by_training" not in verdicts(trainings[0])
    with pytest.raises(DataError, match="single user"):
        of_each_training(planted(1, 4))


def test_a_lucky_training_widens_what_is_said_of_other_trainings():
    """Two trainings follow and two do not: 48 users are sure, four trainings are not."""
    trainings = [planted(12, 8, follows=2.0 * (at % 2), seed=at) for at in range(4)]
    told = verdicts(trainings)
    users, alone = told["own_minus_shuffled"], told["own_minus_shuffled_by_training"]
    assert users.low > 0 > alone.low
    assert alone.high - alone.low > 2 * (users.high - users.low)


@pytest.mark.parametrize("users", [2, 3, 4])
def test_few_users_never_pass_for_a_proof(users):
    """Nothing is followed: the bootstrap of two users would say so in a quarter of 30 worlds."""
    for seed in range(30):
        found = planted(users, 8, better=1.0, seed=seed)
        for told in (verdicts(found), two_way(found)):
            assert not told["own_minus_shuffled"].bounded
            assert not told["own_minus_shuffled_over_pooled"].bounded
            assert told["shuffled_over_base"].bounded == (users > 2)
            assert told["own_over_base"].bounded
        assert not verdicts(found)["shuffled_gain"].bounded


def test_pairs_of_users_do_not_add_up_to_an_interval():
    """Six trainings of two users: twelve units, of which every two are one."""
    trainings = [planted(2, 8, better=1.0, seed=seed) for seed in range(6)]
    told = verdicts(trainings)
    assert told["own_gain"].bounded
    assert not any(one.bounded for name, one in told.items()
                   if "shuffled" in name and "training" not in name)  # fmt: skip
    assert told["own_minus_shuffled_by_training"].bounded


@pytest.mark.slow
def test_a_dozen_users_cover_the_truth_as_often_as_they_say():
    """Of 200 worlds where nothing is followed, few are said to be on one side of 0."""
    low = high = 0
    for seed in range(200):
        told = verdicts(planted(12, 6, better=1.0, seed=seed))["own_minus_shuffled"]
        low, high = low + (told.low > 0), high + (told.high < 0)
    assert low <= 12
    assert high <= 12


def test_what_a_pooled_model_loses_to_is_held_against_strangers_too():
    """By hand from the shares: own over pooled minus shuffled over pooled, user by user."""
    found = planted(6, 5, follows=1.0, better=0.5)
    table, apart = shares(found), differences(found)["own_minus_shuffled_over_pooled"]
    np.testing.assert_allclose(apart, table["own_over_pooled"] - table["shuffled_over_pooled"])
    ignoring = replace(found, personal=np.repeat(found.personal[:, :1], 6, axis=1))
    assert not differences(ignoring)["own_minus_shuffled_over_pooled"].mean()
    assert "own_minus_shuffled_over_pooled" not in differences(replace(found, pooled=None))


def test_the_unseen_are_shuffled_among_themselves():
    found = planted(8, 4, follows=1.0)
    few = found.only(["user 6", "user 2"])
    assert few.users == ("user 6", "user 2")
    np.testing.assert_array_equal(few.personal[0, 1], found.personal[6, 2])
    np.testing.assert_array_equal(few.own[1], found.personal[2, 2])
    with pytest.raises(SettingError, match=r"Did you mean user 6\?"):
        found.only(["uzer 6"])


def test_a_single_user_can_be_compared_with_the_base_only():
    told = verdicts(planted(1, 8, better=1.0))
    assert set(told) == {
        "own_over_base", "own_over_pooled", "pooled_over_base", "own_gain", "pooled_gain",
    }  # fmt: skip


def test_trainings_of_which_different_things_can_be_said_are_refused():
    one = planted(4, 4)
    with pytest.raises(DataError, match="different things"):
        verdicts([one, replace(one, pooled=None)])
    with pytest.raises(DataError, match="0 trainings"):
        verdicts([])


def test_shapes_that_do_not_belong_together_are_refused():
    one = planted(4, 4)
    with pytest.raises(DataError, match="pooled"):
        replace(one, pooled=np.zeros((4, 5)))


def test_measurements_survive_the_way_through_json():
    found = two_users()
    found.personal[0, 0, 0] = np.nan
    back = Crossed.from_json(found.to_json())
    np.testing.assert_array_equal(back.personal, found.personal)
    assert (back.users, back.prompts, back.pooled) == (found.users, found.prompts, None)
    with pytest.raises(DataError, match="cannot be read"):
        Crossed.from_json({"users": ["a"]})


def test_intervals_of_a_model_that_ignores_users_cover_zero_as_often_as_they_say():
    """200 worlds of 16 users and 6 prompts: 95 % of intervals should hold 0, give or take 3 %."""
    held = 0
    for seed in range(200):
        table = differences(planted(16, 6, better=1.0, seed=seed))["own_minus_shuffled"]
        found = cluster_mean(table.mean(axis=1), range(16), draws=1000)
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 200 <= 0.99


def test_intervals_of_shuffled_know_that_others_are_the_same_for_everybody():
    """Some embeddings are better for all who judge: by rows alone, 16 users would seem to agree.

    Each of 80 worlds has users of its own; the truth is the mean over worlds.
    """
    worlds = []
    for seed in range(80):
        one = planted(16, 8, follows=0.5, seed=seed)
        lucky = Streams(seed)("lucky").numpy().normal(size=(16, 1))
        worlds.append(replace(one, personal=one.personal + lucky, pooled=None))
    tables = [outcomes(one.personal, one.base[:, None]).mean(axis=2) for one in worlds]
    off = ~np.eye(16, dtype=bool)
    truth = np.mean([table[off].mean() for table in tables])
    rows = [np.where(off, table, 0).sum(axis=1) / 15 for table in tables]
    by_row = [cluster_share(row, range(16)) for row in rows]
    both = [
        share_with(float(row.mean()), float(row.var(ddof=1)) / 16, 16, 128, apart=16)
        for one in worlds
        for row in (shares(one)["shuffled_over_base"].mean(axis=1),)
    ]
    assert np.mean([each.low <= truth <= each.high for each in by_row]) < 0.6
    assert np.mean([each.low <= truth <= each.high for each in both]) >= 0.9
    assert verdicts(worlds[0])["shuffled_over_base"] == replace(both[0], n=16)


@pytest.mark.slow
def test_with_other_prompts_in_mind_the_interval_by_user_is_too_narrow():
    """Prompts differ in how much better they got; each world has prompts and users of its own.

    The truth is the mean over worlds. The interval by user speaks of its own prompts and misses
    it often; the one for both does not.
    """
    worlds = [planted(24, 12, better=0.7, luck=0.5, by_prompt=1.0, seed=s) for s in range(60)]
    truth = np.mean([shares(one)["own_over_base"].mean() for one in worlds])
    rows = [shares(one)["own_over_base"].mean(axis=1) for one in worlds]
    by_user = [cluster_share(row, range(24)) for row in rows]
    both = [two_way(one)["own_over_base"] for one in worlds]
    held_by_user = np.mean([each.low <= truth <= each.high for each in by_user])
    held = np.mean([each.low <= truth <= each.high for each in both])
    assert held_by_user < 0.75
    assert held >= 0.9


def test_the_two_way_variance_by_hand():
    """Rows 0 and 1, columns alike: only users vary. s² of rows is ½, over 2 users ¼; no rest.

    A checkerboard has rows and columns alike and everything in the rest: then neither side shows
    anything, and the rest is not taken off below 0.
    """
    assert variance(np.array([[0.0, 0.0], [1.0, 1.0]])) == pytest.approx(1 / 4)
    assert variance(np.array([[0.0, 0.0], [1.0, 1.0]]).T) == pytest.approx(1 / 4)
    assert variance(np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.0


def test_two_way_gives_the_same_numbers_and_wider_intervals():
    found = planted(16, 8, follows=1.0, better=0.5)
    narrow, wide = verdicts(found), two_way(found)
    for name, estimate in wide.items():
        assert estimate.value == pytest.approx(narrow[name].value)
        assert estimate.n == 8
    for name in ("own_over_base", "own_minus_shuffled"):
        assert wide[name].high - wide[name].low > narrow[name].high - narrow[name].low


def test_several_pictures_of_one_prompt_are_one_prompt_to_two_way():
    found = planted(16, 8, follows=1.0)
    twice = replace(
        found,
        prompts=tuple(np.repeat(found.prompts, 2).tolist()),
        personal=np.repeat(found.personal, 2, axis=2),
        base=np.repeat(found.base, 2, axis=1),
        pooled=None,
    )
    one, other = two_way(replace(found, pooled=None)), two_way(twice)
    for name, estimate in one.items():
        assert (estimate.low, estimate.high) == pytest.approx((other[name].low, other[name].high))
    with pytest.raises(DataError, match="prompts of their own"):
        two_way([replace(found, pooled=None), twice])
