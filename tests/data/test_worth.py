"""What a machine's labels are worth is counted right, and said plainly where it is nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core.streams import Streams
from palate.data.worth import worth_of


def names(count: int, each: int = 1) -> list[str]:
    return [f"p{index // each}" for index in range(count)]


def labels(pairs: int, asked: int, right: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Hard labels that agree with people's in a share of the pairs; people's on some of them."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, pairs).astype(float)
    machine = np.where(np.arange(pairs) % 100 < 100 * right, truth, 1 - truth)
    people = np.where(random.permutation(pairs) < asked, truth, np.nan)
    return machine, people


def test_four_pairs_by_hand():
    """People 1 0 1 ½, machine 1 1 .8 .6 of six pairs that it labelled.

    It is right, wrong, right: 2/3. Squared errors 0 1 .04 .01, of a coin .25 .25 .25 0: ratio
    1.05/.75 = 1.4. Its preferred picture's label less what it says: 0 -1 .2 -.1, mean -.225.
    """
    machine = [1.0, 1.0, 0.8, 0.6, 0.3, 0.3]
    people = [1.0, 0.0, 1.0, 0.5, np.nan, np.nan]
    worth = worth_of("m", machine, people, names(6))
    assert (worth.pairs, worth.labelled) == (6, 4)
    assert worth.accuracy.value == pytest.approx(2 / 3)
    assert worth.accuracy.measurements == 3
    assert worth.ratio.value == pytest.approx(1.4)
    assert worth.surplus.value == worth.canonical.value == pytest.approx(-0.225)
    assert worth.brier.value == pytest.approx(1.05 / 4)
    assert worth.coin == pytest.approx(0.75 / 4)
    assert worth.equivalent.value == pytest.approx(1 / (1 / 6 + (1 / 4 - 1 / 6) * 1.4))
    assert not worth.equivalent.bounded
    assert [(each.pairs, each.said) for each in worth.reliability] == [
        (1, pytest.approx(0.6)), (1, pytest.approx(0.8)), (2, pytest.approx(1.0)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "soft", "ratio"),
    [(1.0, 1.0, 0.0), (0.9, 1.0, 0.4), (0.75, 1.0, 1.0), (0.5, 1.0, 2.0), (0.65, 0.65, 0.91)],
)
def test_hard_labels_help_above_three_quarters_and_soft_ones_that_know_themselves_always(
    right, soft, ratio
):
    """Hard: 4 (1 - a). Saying a where right in a: 4 a (1 - a)."""
    machine, people = labels(400, 400, right)
    said = 0.5 + (machine - 0.5) * (2 * soft - 1)
    assert worth_of("m", said, people, names(400)).ratio.value == pytest.approx(ratio)


def test_the_variance_of_dedpos_estimate_is_as_derived():
    """Simulation: 4,000 draws of 100 of 400 labels, the population drawn anew each time.

    Machine right in 90 %: ratio 0.4, equivalent 1 / (1/400 + (1/100 - 1/400) 0.4) = 181.8.
    The variance over draws, compared with that of people's labels alone, must say the same
    within 3 standard errors (of a ratio of variances, sqrt(4/4000) = 3.2 %).
    """
    random = np.random.default_rng(0)
    side = random.choice((-1.0, 1.0), (4_000, 400))
    people = 0.5 * random.choice((-1.0, 1.0), (4_000, 400))
    machine = np.where(random.random((4_000, 400)) < 0.9, people, -people)
    alone = (side * people)[:, :100].mean(1)
    debiased = (side * machine).mean(1) + (side * (people - machine))[:, :100].mean(1)
    equivalent = 100 * alone.var() / debiased.var()
    assert equivalent == pytest.approx(181.8, rel=0.1)


@pytest.mark.slow
def test_the_interval_of_the_ratio_holds_the_truth_about_as_often_as_it_says():
    """200 studies of 60 prompts x 2 pairs, right in 80 %: 95 % of intervals, 88 % at the least."""
    hits = 0
    for study in range(200):
        random = Streams(study)("study").numpy()
        people = random.integers(0, 2, 120).astype(float)
        machine = np.where(random.random(120) < 0.8, people, 1 - people)
        ratio = worth_of("m", machine, people, names(120, each=2)).ratio
        hits += ratio.low <= 0.8 <= ratio.high
    assert 176 <= hits <= 199


def test_the_verdict_is_plain():
    good = worth_of("m", *labels(400, 100, 0.95), names(400))
    assert good.verdict.startswith("worth about ")
    assert "it may be nothing" not in good.verdict
    bad = worth_of("m", *labels(400, 100, 0.6), names(400))
    assert bad.ratio.value > 1
    assert bad.verdict.startswith("worth nothing to DeDPO: they add ")
    unsure = worth_of("m", *labels(400, 100, 0.8), names(400))
    assert "it may be nothing" in unsure.verdict
    everything = worth_of("m", *labels(400, 400, 0.95), names(400))
    assert everything.verdict == "worth nothing to DeDPO here: people judged every pair"
    ties = worth_of("m", [0.6, 0.7], [0.5, np.nan], names(2))
    assert (ties.accuracy, ties.ratio, ties.equivalent) == (None, None, None)
    assert "unknown" in ties.verdict
    assert worth_of("m", [0.6, np.nan], [np.nan, 1.0], names(2)) is None


def test_a_leaning_is_found_with_its_sign():
    """The machine prefers the brighter picture always; people toss a coin: 1/2 - 1."""
    random = np.random.default_rng(1)
    brighter = random.normal(size=200)
    people = random.integers(0, 2, 200).astype(float)
    worth = worth_of(
        "m", brighter > 0, people, names(200), {"brighter": brighter, "larger": np.zeros(200)}
    )
    assert set(worth.leanings) == {"brighter"}
    assert worth.leanings["brighter"].value == pytest.approx(-0.5, abs=0.08)
    assert worth.leanings["brighter"].high < -0.3
    assert abs(worth.canonical.value) < 0.12


def test_it_is_plain_values_for_the_record():
    import json

    few = worth_of("m", [1.0, 0.4], [1.0, np.nan], names(2))
    value = json.loads(json.dumps(few.asdict(), allow_nan=False))
    assert value["verdict"] == few.verdict
    assert value["ratio"]["high"] is None


@settings(max_examples=30, deadline=None)
@given(
    machine=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    people=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=6, max_size=6),
    swapped=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_which_picture_is_called_the_first_does_not_matter(machine, people, swapped):
    """Except for the mean in canonical order, which says nothing."""
    turn = np.array(swapped)
    g, z = np.array(machine), np.array(people)
    other = worth_of("m", np.where(turn, 1 - g, g), np.where(turn, 1 - z, z), names(6))
    plain = worth_of("m", g, z, names(6))
    assert other.brier.value == pytest.approx(plain.brier.value)
    if plain.ratio is not None:
        assert other.ratio.value == pytest.approx(plain.ratio.value)
    if plain.accuracy is not None:
        assert other.accuracy.value == pytest.approx(plain.accuracy.value)
