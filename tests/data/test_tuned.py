"""A labeler tuned on people's labels never answers for the labels it was tuned on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core.problems import DataError
from palate.data.tuned import answers, fold_of, tune, weights_of


def planted(pairs: int, scorers: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """People follow the first score (logit 2 for a unit of it); the others say nothing."""
    random = np.random.default_rng(seed)
    opinions = random.normal(size=(pairs, scorers))
    people = random.random(pairs) < 1 / (1 + np.exp(-2 * opinions[:, 0]))
    return opinions, people.astype(float)


def names(count: int, each: int = 1) -> list[str]:
    return [f"p{index // each}" for index in range(count)]


def debiased(machine: np.ndarray, people: np.ndarray, asked: np.ndarray, h: np.ndarray) -> float:
    """DeDPO's estimate of the mean of (z - 1/2) h from the labels that were asked for."""
    correction = ((people - machine) * h)[asked].mean()
    return float(((machine - 0.5) * h).mean() + correction)


def test_one_opinion_and_ten_labels_by_hand():
    """Opinion always +1, people agree in 8 of 10: logit w with 10 s(w) - 8 + w / C = 0, C = 1."""
    people = np.array([1.0] * 8 + [0.0] * 2)
    (weight,) = weights_of(np.ones((10, 1)), people)
    assert 10 / (1 + np.exp(-weight)) - 8 + weight == pytest.approx(0, abs=1e-3)
    soft = weights_of(np.ones((10, 1)), np.full(10, 0.8))
    assert soft[0] == pytest.approx(weight, abs=1e-3)


def test_an_answer_does_not_depend_on_any_label_of_its_fold():
    """Planted: every label of a fold is turned round; only the other folds' answers change."""
    opinions, people = planted(60, 3, 0)
    prompts = names(60, each=2)
    before = tune(opinions, people, prompts, seed=0)
    for fold in range(5):
        mine = before.fold == fold
        after = tune(opinions, np.where(mine, 1 - people, people), prompts, seed=0)
        assert np.array_equal(after.agreement[mine], before.agreement[mine])
        assert not np.allclose(after.agreement[~mine], before.agreement[~mine])


def test_an_unlabelled_pair_is_answered_as_if_it_had_been_labelled():
    """The answer to a pair is the same whether or not people judged it, and its prompt's others."""
    opinions, people = planted(60, 3, 1)
    prompts = names(60, each=3)
    whole = tune(opinions, people, prompts, seed=0)
    hidden = np.where(whole.fold == 2, np.nan, people)
    part = tune(opinions, hidden, prompts, seed=0)
    assert np.array_equal(part.agreement[whole.fold == 2], whole.agreement[whole.fold == 2])
    assert np.isfinite(part.agreement).all()


def test_in_sample_tuning_biases_the_estimate_and_cross_fitting_does_not():
    """Simulation, 60 draws of 40 labels of 200, 20 scorers of which one says something.

    The answer by all people is about 0.32. Tuned in-sample, the correction is fitted away: the
    mean of 60 estimates is more than 5 standard errors too low. Cross-fitted, it is within 3.
    The same labels seem to take away most of the variance in-sample (squared error over a coin's
    near 0.2) and do not (near 0.8).
    """
    opinions, people = planted(200, 20, 3)
    h = opinions[:, 0]
    truth = ((people - 0.5) * h).mean()
    scaled = opinions / np.sqrt(np.square(opinions).mean(0))
    found: dict[str, list[float]] = {"in-sample": [], "crossed": []}
    ratio: dict[str, list[float]] = {"in-sample": [], "crossed": []}
    for draw in range(60):
        asked = np.zeros(200, bool)
        asked[np.random.default_rng(draw).permutation(200)[:40]] = True
        labels = np.where(asked, people, np.nan)
        machines = {
            "in-sample": answers(scaled, weights_of(scaled[asked], people[asked])),
            "crossed": tune(opinions, labels, names(200), seed=draw).agreement,
        }
        for name, machine in machines.items():
            found[name].append(debiased(machine, people, asked, h) - truth)
            ratio[name].append(np.square(people - machine)[asked].mean() / 0.25)
    means = {name: np.mean(each) for name, each in found.items()}
    errors = {name: np.std(each) / np.sqrt(60) for name, each in found.items()}
    assert means["in-sample"] < -5 * errors["in-sample"]
    assert abs(means["crossed"]) < 3 * errors["crossed"]
    assert np.mean(ratio["in-sample"]) < 0.35
    assert np.mean(ratio["crossed"]) > 0.7


def test_prompts_stay_together_and_folds_are_of_one_size_whatever_the_order():
    prompts = [*names(40, each=2), "  P0 ", "p1"]
    fold = fold_of(prompts, seed=0)
    assert fold[40] == fold[0] == fold[1]
    assert fold[41] == fold[2]
    assert np.bincount(fold_of(names(40), seed=0)).tolist() == [8] * 5
    assert fold_of(prompts[::-1], seed=0).tolist() == fold.tolist()[::-1]
    assert fold_of(prompts, seed=1).tolist() != fold.tolist()


def test_a_pair_with_a_missing_opinion_gets_no_answer_and_is_not_tuned_on():
    opinions, people = planted(40, 2, 4)
    opinions[7, 1] = np.nan
    tuned = tune(opinions, people, names(40), seed=0)
    assert np.flatnonzero(np.isnan(tuned.agreement)).tolist() == [7]
    assert tuned.labelled.sum() == 39
    assert tuned.asdict()["cross_fitted"] is True


def test_labels_in_one_fold_are_too_few():
    opinions, people = planted(20, 2, 5)
    people[1:] = np.nan
    with pytest.raises(DataError, match="at least two folds"):
        tune(opinions, people, names(20), seed=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100), swapped=st.lists(st.booleans(), min_size=24, max_size=24))
def test_swapping_the_sides_of_a_pair_turns_its_answer_round(seed, swapped):
    opinions, people = planted(24, 2, seed)
    side = np.where(swapped, -1.0, 1.0)
    plain = tune(opinions, people, names(24), seed=0).agreement
    turned = tune(opinions * side[:, None], 0.5 + side * (people - 0.5), names(24), seed=0)
    assert turned.agreement == pytest.approx(0.5 + side * (plain - 0.5), abs=1e-6)
