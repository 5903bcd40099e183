"""Labels in doubt: by hand, planted, and calibrated where the truth is known."""

from pathlib import Path

import numpy as np
import pytest

from audit.judged import asked, row, snapshot
from palate.audit.audited import Audited
from palate.audit.calibration import (
    FLIPS,
    PEOPLE,
    RATES,
    SHARPNESS,
    Calibration,
    Noise,
    flip_posterior,
)
from palate.audit.checks.t013_minority import Minority
from palate.audit.crossfit import deal, foretold, picture_numbers
from palate.audit.minority import (
    Doubts,
    PairEvidence,
    RunEvidence,
    against_majority,
    doubts_by_foretelling,
    doubts_by_margins,
    doubts_by_votes,
    likeliest_spread,
)
from palate.core.problems import DataError, SettingError
from palate.core.stats import Estimate
from palate.data.votes import Vote


def vote(number: int, first: float, row: str | None = None, judge: str = "anna") -> Vote:
    """A vote on the pair of a number."""
    pair = (f"prompt {number}", f"a{number}", f"b{number}")
    return Vote(
        pair=pair, judge=judge, source="human", first=first, shown_first=None,
        row=row or f"row {number}",
    )  # fmt: skip


class Planted:
    """Pairs whose better picture is known, and labels of which a known share was turned round."""

    def __init__(self, count: int = 800, rate: float = 0.15, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.differences = draw.normal(size=(count, 4))
        better = self.differences @ np.array([2.0, -1.0, 0.5, 0.0]) > 0
        self.turned = draw.uniform(size=count) < rate
        self.votes = [vote(i, float(b != t)) for i, (b, t) in
                      enumerate(zip(better, self.turned, strict=True))]  # fmt: skip
        self.better = better

    def doubts(self, noise: Noise) -> Doubts:
        """What is found in them."""
        return doubts_by_foretelling(self.votes, self.differences, detector="planted", noise=noise)


def area(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Chance that a wrong one is doubted more than a right one."""
    return float(np.mean(scores[wrong][:, None] > scores[~wrong][None, :]))


def test_the_posterior_of_a_flip_by_hand():
    """With ε = 0.2, from p to q = (p − 0.2)/0.6 to the doubt 0.2 (1 − q)/p.

    0.7: q = 5/6, doubt 1/21. 0.3: q = 1/6, doubt 5/9. Beyond 0.2 and 0.8, q is cut to 0 and 1.
    """
    found = flip_posterior(np.array([0.7, 0.3, 0.1, 0.95]), 0.2)
    assert found.tolist() == pytest.approx([1 / 21, 5 / 9, 1.0, 0.0])


def test_half_of_the_labels_turned_round_leaves_nothing_to_say():
    with pytest.raises(SettingError, match=r"Got a flip rate of 0\.5\. Need a share from 0"):
        flip_posterior(np.array([0.7]), 0.5)


def test_a_known_rate_and_sharpness_give_the_same_posterior():
    """One point of the grid: the doubt of a single vote is the formula of one label."""
    weight = np.zeros((1, len(SHARPNESS), len(RATES)))
    weight[0, 20, 30] = 1
    logits = np.array([-2.0, 0.0, 0.3, 4.0])
    clean = 1 / (1 + np.exp(-SHARPNESS[20] * logits / 1.7))
    recorded = RATES[30] + (1 - 2 * RATES[30]) * clean
    known = Calibration(noise=FLIPS, weight=weight, scale=1.7)
    found, _ = known.doubts(logits, np.ones(4), np.zeros(4))
    np.testing.assert_allclose(found, flip_posterior(recorded, float(RATES[30])), rtol=1e-9)


def test_people_who_disagree_by_hand():
    """Foretold even, gaps normal: of one vote, P(g < 0) = 2 E[σ(g); g < 0], by fine quadrature."""
    noise = Noise(assumes="", spreads=(2.0,))
    weight = np.zeros((1, len(SHARPNESS), len(RATES)))
    weight[0, 0, 0] = 1
    found, _ = Calibration(noise=noise, weight=weight, scale=1.0).doubts(
        np.zeros(1), np.ones(1), np.zeros(1)
    )
    eta = np.linspace(-8, 0, 200_001)
    density = np.exp(-(eta**2) / 2) / np.sqrt(2 * np.pi)
    honest = RATES[0] + (1 - 2 * RATES[0]) / (1 + np.exp(-2 * eta))
    assert found[0] == pytest.approx(2 * np.trapezoid(honest * density, eta), abs=0.01)


def test_votes_by_hand():
    """Flat prior, one vote against two: θ ~ Beta(2, 3), and P(θ < 1/2) = 11/16."""
    assert against_majority(1, 2, 1.0) == pytest.approx(11 / 16)
    assert against_majority(2, 1, 1.0) == pytest.approx(5 / 16)


def test_judges_of_one_mind_have_a_narrower_prior_than_judges_who_toss_coins():
    agree, toss = np.array([3.0, 0.0, 3.0, 0.0]), np.array([2.0, 1.0, 2.0, 1.0])
    assert likeliest_spread(agree, 3 - agree) < likeliest_spread(toss, 3 - toss)


def test_the_outvoted_are_doubted_and_ties_are_not_judged():
    votes = [vote(0, 1.0, "x"), vote(0, 1.0, "y"), vote(0, 0.0, "z"), vote(0, 0.5, "tie")]
    found = doubts_by_votes([*votes, vote(1, 1.0, "p"), vote(1, 1.0, "q")])
    assert found is not None
    assert set(found.doubt) == {"x", "y", "z", "p", "q"}
    assert found.ranked()[0][0] == "z"
    assert found.doubt["z"] > 0.5 > found.doubt["x"] == found.doubt["y"] > found.doubt["p"]


def test_single_votes_have_nothing_to_be_held_against():
    assert doubts_by_votes([vote(0, 1.0), vote(1, 0.0)]) is None


def test_planted_flips_are_found_and_their_share_is_told():
    planted = Planted()
    found = doubts_by_foretelling(
        planted.votes, planted.differences, detector="planted", noise=FLIPS
    )
    doubt = np.array([found.doubt[f"row {i}"] for i in range(len(planted.turned))])
    assert area(doubt, planted.turned) > 0.95
    assert found.rate.low <= planted.turned.mean() <= found.rate.high
    first = np.argsort(-doubt)[:80]
    assert planted.turned[first].mean() > 0.8


def test_doubts_are_probabilities_that_come_true():
    """In every fifth of the labels the mean doubt is near the share that was turned round."""
    planted = Planted(count=2000, rate=0.25, seed=3)
    found = doubts_by_foretelling(
        planted.votes, planted.differences, detector="planted", noise=FLIPS
    )
    doubt = np.array([found.doubt[f"row {i}"] for i in range(2000)])
    for part in np.array_split(np.argsort(doubt), 5):
        assert doubt[part].mean() == pytest.approx(planted.turned[part].mean(), abs=0.06)


class People:
    """Bradley-Terry people: most of them disagree on close calls only."""

    def __init__(self, pairs: int, votes: int) -> None:
        draw = np.random.default_rng(4)
        seen = draw.normal(size=(pairs, 4))
        gap = seen @ np.array([1.5, -1.0, 0.5, 0.0]) + draw.normal(size=pairs)
        said = draw.uniform(size=(votes, pairs)) < 1 / (1 + np.exp(-gap))
        self.wrong = (said != (gap > 0)).ravel()
        self.seen = np.concatenate([seen] * votes)
        self.votes = [
            vote(i, float(said[n, i]), f"{n} {i}") for n in range(votes) for i in range(pairs)
        ]

    def doubts(self, noise: Noise) -> tuple[np.ndarray, Estimate]:
        """The doubt of each vote, and the share."""
        found = doubts_by_foretelling(self.votes, self.seen, detector="people", noise=noise)
        return np.array([found.doubt[each.row] for each in self.votes]), found.rate


def test_several_votes_tell_how_people_disagree_and_doubts_come_true():
    people = People(pairs=250, votes=5)
    doubt, share = people.doubts(PEOPLE)
    for part in np.array_split(np.argsort(doubt), 5):
        assert doubt[part].mean() == pytest.approx(people.wrong[part].mean(), abs=0.06)
    assert share.low <= people.wrong.mean() <= share.high


def test_single_votes_leave_open_how_many_are_a_minority_s():
    """And who assumes flips where people disagree on close calls believes in too few."""
    people = People(pairs=1000, votes=1)
    _, share = people.doubts(PEOPLE)
    assert share.low <= people.wrong.mean() <= share.high
    assert people.doubts(FLIPS)[1].high < people.wrong.mean()


def test_labels_without_any_rule_are_doubted_little_by_little():
    """Planted the other way: where nothing can be foretold, no label stands out."""
    draw = np.random.default_rng(5)
    votes = [vote(i, float(draw.integers(2))) for i in range(400)]
    found = doubts_by_foretelling(votes, draw.normal(size=(400, 4)), detector="noise", noise=FLIPS)
    assert found.rate.high - found.rate.low > 0.3
    assert max(found.doubt.values()) < 0.9


def test_other_votes_on_a_pair_count_too():
    """Two more people on each pair: whoever they agree with is believed."""
    planted = Planted(count=300, rate=0.2)
    draw = np.random.default_rng(9)
    more = [
        vote(i, float(b != (draw.uniform() < 0.2)), f"more {n} {i}")
        for n in range(2)
        for i, b in enumerate(planted.better)
    ]
    table = np.concatenate([planted.differences] * 3)
    alone = doubts_by_foretelling(planted.votes, planted.differences, detector="alone", noise=FLIPS)
    together = doubts_by_foretelling(
        [*planted.votes, *more], table, detector="together", noise=FLIPS
    )
    names = [f"row {i}" for i in range(300)]
    areas = [
        area(np.array([found.doubt[name] for name in names]), planted.turned)
        for found in (alone, together)
    ]
    assert areas[1] > areas[0]
    assert together.rate.high - together.rate.low < alone.rate.high - alone.rate.low


def test_no_label_helps_to_judge_itself():
    planted = Planted(count=200)
    first = np.array([each.first for each in planted.votes])
    prompts = [each.pair[0] for each in planted.votes]
    before = foretold(planted.differences, first, prompts)
    first[7] = 1 - first[7]
    after = foretold(planted.differences, first, prompts)
    assert after[7] == before[7]
    assert (after != before).any()


def test_a_pair_turned_round_is_foretold_the_opposite():
    planted = Planted(count=200)
    first = np.array([each.first for each in planted.votes])
    prompts = [each.pair[0] for each in planted.votes]
    turned = np.where(np.arange(200) % 3 == 0, -1.0, 1.0)
    there = foretold(planted.differences, first, prompts)
    back = foretold(
        planted.differences * turned[:, None], np.where(turned < 0, 1 - first, first), prompts
    )
    np.testing.assert_allclose(back, there * turned, atol=1e-4)


def test_prompts_that_differ_in_case_or_spacing_are_dealt_together():
    parts = deal(["a fox", "A  fox", "a hare", "an owl", "a crow"], folds=2)
    assert parts[0] == parts[1]
    assert set(parts) == {0, 1}


def test_too_few_labels_are_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"Got 10 strict labels on 10 prompts\. Need at least 50"):
        foretold(np.ones((10, 1)), np.ones(10), [f"p {i}" for i in range(10)])


def test_margins_of_a_run_that_learned_from_the_pairs_are_refused():
    pairs = {"x": PairEvidence(margin=1e-3, spread=1e-3, held_out=False)}
    with pytest.raises(DataError, match="1 of them learned from"):
        doubts_by_margins(RunEvidence(run="r", draws=8, pairs=pairs))


def test_held_out_margins_become_doubts():
    draw = np.random.default_rng(0)
    turned = draw.uniform(size=600) < 0.2
    margins = np.where(turned, -1.0, 1.0) * np.abs(draw.normal(size=600)) * 1e-4
    pairs = {
        f"{i}": PairEvidence(margin=float(m), spread=0.0, held_out=True)
        for i, m in enumerate(margins)
    }
    found = doubts_by_margins(RunEvidence(run="r", draws=8, pairs=pairs), FLIPS)
    doubt = np.array([found.doubt[f"{i}"] for i in range(600)])
    assert area(doubt, turned) > 0.99
    assert found.rate.low <= turned.mean() <= found.rate.high


def test_numbers_of_a_grey_picture_by_hand():
    numbers = picture_numbers(np.full((6, 9, 3), 51, dtype=np.uint8))
    assert numbers["light"] == pytest.approx(0.2)
    assert (numbers["width"], numbers["height"]) == (9.0, 6.0)
    assert numbers["contrast"] == pytest.approx(0, abs=1e-12)
    assert numbers["saturation"] == numbers["edges down"] == 0


@pytest.mark.parametrize("shape", [(1, 1), (2, 700), (600, 5)])
def test_pictures_of_any_shape_have_the_same_numbers(shape):
    numbers = picture_numbers(np.zeros((*shape, 3), dtype=np.uint8))
    assert set(numbers) == set(picture_numbers(np.zeros((8, 8, 3), dtype=np.uint8)))
    assert np.isfinite(list(numbers.values())).all()


def flat(shade: int) -> np.ndarray:
    """A picture of one grey."""
    return np.full((8, 8, 3), shade, dtype=np.uint8)


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred pairs of greys; the brighter is preferred, but for every tenth label."""
    rows, pictures = [], {}
    for i in range(100):
        dark, light = (7 * i) % 100 + 1, (7 * i) % 100 + 40 + i % 50
        pictures |= {2 * i: picture_of(i, dark), 2 * i + 1: picture_of(i, light)}
        rows.append(row(2 * i, 2 * i + 1, float(i % 10 == 0), prompt=f"a thing {i}"))
    return snapshot(tmp_path_factory.mktemp("bright"), rows, pictures)


def picture_of(number: int, shade: int) -> np.ndarray:
    """A grey with one pixel of its own, so that no two pictures are the same."""
    made = flat(shade)
    made[0, 0] = number, 255 - number, 7
    return made


def test_turned_labels_come_first_with_the_so_called_winner_first(bright):
    found = asked(Minority(), bright)
    data = Audited(bright)
    turned = {each.id for each in data.rows if int(each.prompt.split()[-1]) % 10 == 0}
    assert found.outcome == "issue"
    assert {each.ids[0] for each in found.rows[:10]} == turned
    first = data.by_id[found.rows[0].ids[0]]
    assert found.rows[0].pictures == (first.images[0].sha256, first.images[1].sha256)
    assert found.rows[0].doubt is not None
    assert found.rows[0].doubt > 0.5
    assert found.figures["labels"] == 100
    assert "plain numbers of the pictures" in found.sentence


def test_what_a_run_says_stands_beside_the_doubt(bright):
    pairs = {
        each.id: PairEvidence(margin=-1e-4, spread=1e-5, held_out=False, minority=0.3, visits=2)
        for each in Audited(bright).rows
    }
    found = asked(Minority(), bright, run=RunEvidence(run="r", draws=8, pairs=pairs))
    assert "margin is -1.0e-04, its minority metric 0.30" in found.rows[0].note
    assert found.figures["minority_metric"] == {"pairs": 100, "mean": pytest.approx(0.3)}
    assert "held-out margins" not in found.sentence


def test_scores_and_held_out_margins_are_used_where_they_are_given(bright):
    data = Audited(bright)
    scores = {(each.prompt, image.sha256): 0.5 for each in data.rows for image in each.images}
    pairs = {each.id: PairEvidence(margin=1e-4, spread=0, held_out=True) for each in data.rows}
    run = RunEvidence(run="r", draws=8, pairs=pairs, scores={"errors": scores})
    found = asked(Minority(), bright, run=run, scores={"clip": {}})
    assert "the base model's errors + held-out margins + clip" in found.sentence


def test_few_labels_are_not_asked_about_unless_there_are_several_votes(tmp_path):
    few = [row(0, 1), row(2, 3, prompt="a hare")]
    found = asked(Minority(), snapshot(tmp_path / "few", few))
    assert found.outcome == "not asked"
    assert "three votes or more" in found.sentence
    several = [*few, row(0, 1, judge="ben"), row(0, 1, 0.0, judge="carl")]
    found = asked(Minority(), snapshot(tmp_path / "several", several))
    assert found.outcome == "issue"
    assert found.rows[0].note.startswith("carl ")


def test_ties_alone_cannot_be_doubted(tmp_path):
    assert asked(Minority(), snapshot(tmp_path, [row(0, 1, 0.5)])).outcome == "not applicable"
