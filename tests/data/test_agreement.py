"""Agreement of judges: numbers a person can check, invariances, and intervals that hold."""

import sys

import krippendorff
import numpy as np
import pytest

from palate.core.problems import MissingExtra, SettingError
from palate.core.streams import Streams
from palate.data import alpha as alphas
from palate.data.agreement import (
    Ballot,
    alpha,
    ballots,
    contradictory,
    expected_flips,
    pairwise_agreement,
    position,
)
from palate.data.alpha import krippendorff_alpha
from palate.data.comparison import ImageRef, compare
from palate.data.shares import pooled_share
from palate.data.votes import Vote, votes_of

A, B = (ImageRef(sha256=letter * 64, width=8, height=8) for letter in "ab")


def ballot(prompt: str, *said: float) -> Ballot:
    """Judges 0, 1, 2, … said this of the first picture."""
    judges = {f"judge {number}": side for number, side in enumerate(said)}
    return Ballot(pair=(prompt, "a", "b"), said=judges)


def vote(prompt: str, judge: str, first: float, shown_first: bool | None = None) -> Vote:
    return Vote(
        pair=(prompt, "a", "b"), judge=judge, source="human", first=first,
        shown_first=shown_first, row=f"{prompt} {judge} {first}",
    )  # fmt: skip


def studies(truth_error: float, prompts: int, judges: int, seed: int) -> list[Ballot]:
    """One pair per prompt with one truth, and votes flipped independently."""
    draw = Streams(seed)("study").numpy().random((prompts, judges)) < truth_error
    return [ballot(f"p{number}", *map(float, row)) for number, row in enumerate(draw)]


def test_shares_are_counted_by_hand():
    """Two of three agree in the first pair (1 of 3 couples), both in the second, a tie is apart."""
    judged = [ballot("p", 1, 1, 0), ballot("q", 0, 0, 0.5), ballot("r", 1, 0.5)]
    same = pairwise_agreement(judged)
    assert same is not None
    assert same.value == pytest.approx((1 / 3 + 1) / 2)
    opposite = contradictory(judged)
    assert opposite is not None
    assert (opposite.value, opposite.measurements, opposite.n) == (0.5, 2, 2)


def test_flips_follow_from_disagreement():
    """D = 0.32 = 2 · 0.2 · 0.8; 68 pairs agree, 32 do not. Half or more disagreement is a coin."""
    judged = [ballot(f"p{number}", 1, float(number < 68)) for number in range(100)]
    flips = expected_flips(judged)
    assert flips is not None
    assert flips.value == pytest.approx(0.2)
    assert flips.low < 0.2 < flips.high
    coin = expected_flips([ballot(f"p{number}", 1, 0) for number in range(20)])
    assert coin is not None
    assert coin.value == 0.5


def test_nothing_is_said_where_nobody_shares_a_pair():
    alone = [ballot("p", 1), ballot("q", 0), ballot("r", 0.5)]
    assert [f(alone) for f in (alpha, pairwise_agreement, contradictory, expected_flips)] == [
        None
    ] * 4
    assert alpha([ballot("p", 0.5, 0.5), ballot("q", 0.5, 0.5)]) is None


def test_a_judge_counts_once_and_a_nameless_one_not_at_all():
    """Judge one changes their mind, which is a tie; two nameless votes are nobody's."""
    votes = [
        vote("p", "one", 1.0),
        vote("p", "one", 0.0),
        vote("p", "two", 0.8),
        vote("p", "pickapic/unknown", 0.0),
        vote("p", "unknown", 1.0),
    ]
    (only,) = ballots(votes)
    assert only.said == {"one": 0.5, "two": 0.8}
    assert only.sides == {"one": 0.5, "two": 1.0}
    assert only.strict == {"two": 1.0}
    (all_,) = ballots(votes, everyone=True)
    assert sorted(all_.said.values()) == [0.0, 0.5, 0.8, 1.0]


def test_alpha_is_the_published_example():
    """Krippendorff's own example (2011): 0.743 nominal, 0.815 ordinal, 0.849 interval."""
    units = [
        [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
        [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [5, 5, 5], [1, 1], [3],
    ]  # fmt: skip
    for level, published in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        found = krippendorff_alpha(units, range(12), level=level)
        assert found.value == pytest.approx(published, abs=5e-4)
        assert found.low < found.value < found.high <= 1
        assert (found.n, found.measurements) == (11, 40)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_of_summed_coincidences_is_the_packages(level):
    """Parity: what every draw of the bootstrap computes."""
    counts = Streams(3)("counts").numpy().integers(0, 4, (30, 3)).astype(float)
    counts = counts[counts.sum(axis=1) > 1]
    domain = np.array([0.0, 0.5, 1.0])
    ours = alphas._alphas(alphas.coincidences(counts).sum(axis=0)[None], domain, level)[0]
    package = krippendorff.alpha(
        value_counts=counts, value_domain=list(domain), level_of_measurement=level
    )
    assert ours == pytest.approx(package, abs=1e-12)


def test_agreement_does_not_depend_on_which_picture_is_first():
    judged = [ballot("p", 1, 1, 0), ballot("q", 0, 0), ballot("r", 1, 0.5), ballot("s", 1, 1)]
    turned = [
        Ballot(pair=each.pair, said={judge: 1 - side for judge, side in each.said.items()})
        if number % 2
        else each
        for number, each in enumerate(judged)
    ]
    for level in ("nominal", "interval"):
        assert alpha(judged, level=level) == alpha(turned, level=level)
    assert pairwise_agreement(judged) == pairwise_agreement(turned)
    assert contradictory(judged) == contradictory(turned)


def test_full_agreement_is_one_and_a_coin_is_nothing():
    full = alpha([ballot(f"p{n}", *[float(n % 2)] * 3) for n in range(20)])
    assert full is not None
    assert (full.value, full.low, full.high) == (1.0, 1.0, 1.0)
    coin = alpha(studies(0.5, 300, 3, 1))
    assert coin is not None
    assert coin.low < 0 < coin.high
    one = alpha([ballot("p", 1, 0), ballot("p", 1, 1)])
    assert one is not None
    assert not one.bounded


def test_values_that_are_all_the_same_have_no_alpha():
    with pytest.raises(SettingError, match="not defined"):
        krippendorff_alpha([[1, 1], [1, 1]], ["p", "q"])


def test_a_missing_package_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(MissingExtra, match=r"palate\[labels\]"):
        alpha([ballot("p", 1, 0), ballot("q", 1, 1)])


def test_intervals_of_disagreement_and_flips_hold_the_truth():
    """200 studies of 60 prompts with flips of 20 %: two votes agree in 68 %."""
    held = np.zeros(2)
    for seed in range(200):
        judged = studies(0.2, 60, 3, seed)
        found = (expected_flips(judged), pairwise_agreement(judged))
        for place, (estimate, truth) in enumerate(zip(found, (0.2, 0.68), strict=True)):
            assert estimate is not None
            held[place] += estimate.low <= truth <= estimate.high
    assert np.all(held / 200 >= 0.92), held / 200


@pytest.mark.slow
def test_alphas_interval_holds_the_truth():
    """200 studies of 60 prompts with flips of 20 %: α is 1 − 0.32 / 0.5 = 0.36."""
    held = 0
    for seed in range(200):
        judged = studies(0.2, 60, 3, seed)
        said = [list(each.said.values()) for each in judged]
        turned = [[1 - side for side in sides] for sides in said]
        prompts = [each.pair[0] for each in judged] * 2
        found = krippendorff_alpha([*said, *turned], prompts, draws=400)
        held += found.low <= 0.36 <= found.high
    assert held / 200 >= 0.92, held / 200


def test_a_pooled_share_counts_measurements_and_doubts_clusters():
    """Thirty prompts whose ten pairs go together are worth thirty answers, not three hundred."""
    values = [float(prompt % 2) for prompt in range(30) for _ in range(10)]
    together = pooled_share(values, [prompt for prompt in range(30) for _ in range(10)])
    apart = pooled_share(values, range(300))
    assert together.value == apart.value == 0.5
    assert together.n == 30
    assert together.high - together.low > 2.5 * (apart.high - apart.low)
    uneven = pooled_share([1, 1, 1, 0], ["p", "p", "p", "q"])
    assert uneven.value == 0.75
    certain = pooled_share([1.0] * 12, range(12))
    assert (certain.value, certain.high) == (1.0, 1.0)
    assert certain.low == pytest.approx(0.735, abs=0.002)


def test_pooled_shares_hold_the_truth_where_pairs_share_a_prompt():
    """300 studies: 40 prompts of 1 to 8 pairs, with a share per prompt that is 0.2 or 0.8."""
    held = 0
    for seed in range(300):
        draw = Streams(seed)("shares").numpy()
        sizes = draw.integers(1, 9, 40)
        shares = np.where(draw.random(40) < 0.5, 0.2, 0.8)
        prompts = np.repeat(np.arange(40), sizes)
        values = draw.random(len(prompts)) < shares[prompts]
        found = pooled_share(values.astype(float), prompts.tolist())
        held += found.low <= 0.5 <= found.high
    assert held / 300 >= 0.92


def test_position_is_read_where_it_was_recorded_and_ties_are_apart():
    """Three of four strict votes prefer the picture shown first; one order is not known."""
    votes = [
        vote("p", "one", 1.0, True),
        vote("q", "one", 0.0, False),
        vote("r", "one", 1.0, True),
        vote("s", "one", 1.0, False),
        vote("t", "one", 0.5, True),
        vote("u", "one", 1.0),
    ]
    found = position(votes)
    assert found is not None
    assert (found.value, found.measurements) == (0.75, 4)
    assert position(votes[-2:]) is None


def test_votes_of_records_become_ballots():
    rows = [
        compare(prompt="p", images=[A, B], ranks=(1, 2), judge="one"),
        compare(prompt="p", images=[B, A], ranks=(1, 2), judge="two"),
    ]
    (only,) = ballots(votes_of(rows))
    assert only.said == {"one": 1.0, "two": 0.0}
