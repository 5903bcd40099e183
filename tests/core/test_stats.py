"""Intervals that cover what they claim, shown by simulated studies with a known truth."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from palate.core.problems import SettingError
from palate.core.stats import (
    Estimate,
    cluster_mean,
    cluster_means,
    cluster_share,
    comparisons_needed,
    outcomes,
    wilson,
    win_rate,
)

# Prompts, pictures per prompt, and how alike pictures of one prompt are: small numbers make
# prompts differ more (the win probability of a prompt is Beta distributed around 0.55).
DESIGNS = {
    "100 prompts, 10 pictures, prompts differ": (100, 10, 2.0),
    "100 prompts, 1 picture": (100, 1, 2.0),
    "200 prompts, 4 pictures, prompts alike": (200, 4, 20.0),
    "50 prompts, 20 pictures, prompts differ a lot": (50, 20, 1.0),
    "300 prompts, 2 pictures": (300, 2, 2.0),
}
TRUTH = 0.55


def study(
    design: tuple[int, int, float], seed: int, truth: float = TRUTH
) -> tuple[np.ndarray, list[int]]:
    """One study: 1 where the new model wins, and the prompt of each picture."""
    prompts, pictures, concentration = design
    generator = np.random.default_rng([seed, prompts, pictures])
    chance = generator.beta(concentration * truth, concentration * (1 - truth), prompts)
    wins = generator.random((prompts, pictures)) < chance[:, None]
    return wins.astype(np.float64).ravel(), [p for p in range(prompts) for _ in range(pictures)]


def coverage(
    design: tuple[int, int, float], studies: int, draws: int | None, truth: float = TRUTH
) -> float:
    """The share of studies whose 95 % interval holds the truth; as a share without draws."""
    held = 0
    for seed in range(studies):
        values, prompts = study(design, seed, truth)
        if draws is None:
            estimate = cluster_share(values, prompts)
        else:
            estimate = cluster_mean(values, prompts, draws=draws, seed=seed)
        held += estimate.low <= truth <= estimate.high
    return held / studies


def test_clustered_intervals_cover_and_pooled_ones_do_not():
    """100 prompts with 10 pictures each: pooling them as if independent covers about 63 %."""
    design, studies = DESIGNS["100 prompts, 10 pictures, prompts differ"], 300
    pooled = 0
    for seed in range(studies):
        values, _ = study(design, seed)
        estimate = wilson(values.sum(), len(values))
        pooled += estimate.low <= TRUTH <= estimate.high
    assert 0.55 <= pooled / studies <= 0.72
    # 300 studies see 95 % as 91.2 to 98.8 (three standard errors).
    assert 0.912 <= coverage(design, studies, 400) <= 0.988
    assert 0.912 <= coverage(design, studies, None) <= 0.988


@pytest.mark.slow
@pytest.mark.parametrize("draws", [2000, None], ids=["mean", "share"])
@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_coverage_of_a_thousand_studies_is_93_to_97_percent(design, draws):
    assert 0.93 <= coverage(design, 1000, draws) <= 0.97


# Prompts, pictures per prompt, likeness, and a win rate near 1 or prompts that are few: where a
# bootstrap covers 50 to 88 %.
EDGES = {
    "10 prompts at 90 %": (10, 1, 2.0, 0.9),
    "50 prompts at 97 %": (50, 1, 2.0, 0.97),
    "64 prompts at 99 %": (64, 1, 2.0, 0.99),
    "250 prompts at 98.5 %": (250, 1, 2.0, 0.985),
    "3 prompts at 60 %": (3, 1, 2.0, 0.6),
    "20 prompts, 10 pictures, at 90 %": (20, 10, 2.0, 0.9),
    "50 prompts, 20 pictures, at 97 %": (50, 20, 1.0, 0.97),
    "30 prompts, 4 pictures, at 97 %": (30, 4, 5.0, 0.97),
}


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_near_the_ends_and_with_few_prompts_intervals_still_cover(edge):
    """200 studies see 95 % as at least 90.4 (three standard errors)."""
    *design, truth = edge
    assert coverage(tuple(design), 200, None, truth) >= 0.904


@pytest.mark.slow
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_a_thousand_studies_near_the_ends_cover_93_percent_or_more(edge):
    *design, truth = edge
    assert coverage(tuple(design), 1000, None, truth) >= 0.93


@pytest.mark.parametrize(
    ("win", "loss", "prompts"), [(0.05, 0.0, 100), (0.05, 0.02, 200), (0.3, 0.2, 100)]
)
def test_ties_of_one_half_leave_the_interval_honest(win, loss, prompts):
    generator, held = np.random.default_rng(5), 0
    for _ in range(300):
        votes = generator.choice([1.0, 0.0, 0.5], prompts, p=[win, loss, 1 - win - loss])
        estimate = cluster_share(votes, range(prompts))
        held += estimate.low <= 0.5 + (win - loss) / 2 <= estimate.high
    assert held / 300 >= 0.912


def test_twelve_wins_of_twelve_are_not_certainty():
    """By hand: the exact lower end is 0.025 ** (1 / 12) = 0.735; Wilson's is 0.757."""
    estimate = cluster_share([1.0] * 12, range(12))
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(0.025 ** (1 / 12), abs=1e-9)
    assert estimate.method == "wider of Wilson and exact, n = clusters"


def test_one_vote_of_each_of_many_prompts_is_wilson():
    wins = [1.0] * 60 + [0.0] * 40
    estimate, expected = cluster_share(wins, range(100)), wilson(60, 100)
    assert (estimate.low, estimate.high) == (expected.low, expected.high)
    assert estimate.method == "Wilson, effective n"


def test_one_prompt_says_little_of_a_share_and_nothing_of_a_mean():
    share, mean = cluster_share([1.0, 1.0], ["a", "a"]), cluster_mean([3.0, 4.0], ["a", "a"])
    assert share.high - share.low > 0.9
    assert (mean.value, mean.low, mean.high) == (3.5, -np.inf, np.inf)
    assert str(mean) == "3.5 (no interval, n = 1)"
    written = json.loads(json.dumps(mean.asdict(), allow_nan=False))
    assert written["low"] is None
    assert Estimate.from_json(written) == mean
    assert Estimate.from_json(share.asdict()) == share


def test_pictures_are_averaged_within_a_prompt_first():
    """Prompt a wins 2 of 2, prompt b 0 of 1: the mean over prompts is ½, over pictures ⅔."""
    estimate = cluster_mean([1, 1, 0], ["a", "a", "b"])
    assert estimate.value == 0.5
    assert (estimate.n, estimate.measurements) == (2, 3)
    assert cluster_means([1, 1, 0], ["a", "a", "b"]).tolist() == [1.0, 0.0]


def test_more_pictures_of_the_same_prompts_do_not_fake_precision():
    values = np.array([0.0, 1.0] * 20)
    once = cluster_mean(values, range(40))
    copied = cluster_mean(np.repeat(values, 10), np.repeat(np.arange(40), 10).tolist())
    assert (copied.low, copied.high) == (once.low, once.high)
    assert copied.measurements == 400


def test_a_bootstrap_agrees_with_the_textbook_where_both_apply():
    """400 normal means: percentile bootstrap and ± 1.96 standard errors differ by little."""
    values = np.random.default_rng(1).normal(0.3, 1.0, 400)
    estimate = cluster_mean(values, range(400))
    error = values.std(ddof=1) / 20
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_the_same():
    values = np.random.default_rng(2).random(100)
    first, again = (cluster_mean(values, range(100), seed=3) for _ in range(2))
    other = cluster_mean(values, range(100), seed=4)
    assert first == again
    assert first.low != other.low
    assert abs(first.low - other.low) < 0.1 * (first.value - first.low)


def test_ties_count_half_and_a_broken_picture_loses():
    """Higher, lower, equal, broken after, broken before, both broken."""
    nan = float("nan")
    after, before = [2, 1, 1, nan, 1, nan], [1, 2, 1, 1, nan, nan]
    assert outcomes(after, before).tolist() == [1.0, 0.0, 0.5, 0.0, 1.0, 0.5]
    assert win_rate(after, before, list("abcdef")).value == 0.5


def test_twelve_ties_are_a_coin_flip_and_do_not_prove_equality():
    scores = np.arange(12.0)
    estimate = win_rate(scores, scores, range(12))
    assert estimate.value == 0.5
    assert estimate.low < 0.3
    assert estimate.high == pytest.approx(1 - estimate.low)


@given(
    scores=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    prompts=st.integers(1, 5),
)
def test_swapping_the_models_mirrors_the_win_rate(scores, prompts):
    after, before = zip(*scores, strict=True)
    names = [i % prompts for i in range(len(scores))]
    one, other = win_rate(after, before, names), win_rate(before, after, names)
    assert one.value == pytest.approx(1 - other.value)
    assert one.low == pytest.approx(1 - other.high)
    assert 0 <= one.low <= one.value + 1e-12
    assert one.value - 1e-12 <= one.high <= 1


@pytest.mark.parametrize(("wins", "trials"), [(0, 5), (5, 5), (3, 10), (137, 240), (1, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_scipy(wins, trials, confidence):
    expected = scipy_stats.binomtest(wins, trials).proportion_ci(confidence, "wilson")
    found = wilson(wins, trials, confidence=confidence)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize(("rate", "printed"), [(0.52, 4903), (0.55, 783), (0.60, 194), (0.65, 85)])
def test_the_comparisons_a_claim_needs(rate, printed):
    """For 80 % power, as printed in our protocol; one comparison of rounding is allowed."""
    assert abs(comparisons_needed(rate) - printed) <= 1


def test_the_planned_number_really_has_the_power():
    """4,000 studies of 194 comparisons at 60 %: four in five see it."""
    wins = np.random.default_rng(0).binomial(194, 0.6, 4000)
    seen = np.mean([(w / 194 - 0.5) / (0.25 / 194) ** 0.5 > 1.96 for w in wins])
    assert 0.77 <= seen <= 0.83


def test_an_estimate_prints_its_interval_and_its_n():
    text = str(wilson(58, 100))
    assert text == "0.58 (95 % interval 0.482 to 0.672, n = 100)"
    assert wilson(58, 100).asdict()["method"] == "Wilson"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: cluster_mean([1.0], []),
        lambda: cluster_mean([], []),
        lambda: cluster_share([1.5], ["a"]),
        lambda: wilson(3, 0),
        lambda: wilson(4, 3),
        lambda: comparisons_needed(0.5),
        lambda: comparisons_needed(1.0),
    ],
)
def test_impossible_questions_are_refused_in_three_parts(wrong):
    with pytest.raises(SettingError, match=r"^Got .+ Need .+\."):
        wrong()
