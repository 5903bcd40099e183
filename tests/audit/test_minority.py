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
)
from palate.audit.checks.t013_minority import Minority
from palate.audit.crossfit import drawn, foretold, picture_numbers
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
from palate.audit.rankings import rank_correlation
from palate.core.problems import DataError
from palate.core.stats import Estimate
from palate.data.folds import deal
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


def flip_posterior(recorded: np.ndarray, rate: float) -> np.ndarray:
    """The doubt ε (1 − q) / p, restated; q is cut to [0, 1] where p goes beyond what ε allows."""
    clean = np.clip((recorded - rate) / (1 - 2 * rate), 0.0, 1.0)
    return rate * (1 - clean) / (rate + (1 - 2 * rate) * clean)


def area(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Chance that a wrong one is doubted more than a right one."""
    return float(np.mean(scores[wrong][:, None] > scores[~wrong][None, :]))


def test_the_posterior_of_a_flip_by_hand():
    """With ε = 0.2, from p to q = (p − 0.2)/0.6 to the doubt 0.2 (1 − q)/p.

    0.7: q = 5/6, doubt 1/21. 0.3: q = 1/6, doubt 5/9. Beyond 0.2 and 0.8, q is cut to 0 and 1.
    """
    found = flip_posterior(np.array([0.7, 0.3, 0.1, 0.95]), 0.2)
    assert found.tolist() == pytest.approx([1 / 21, 5 / 9, 1.0, 0.0])


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
    assert against_majority(np.array([1, 2]), np.array([2, 1]), 1.0).tolist() == pytest.approx(
        [11 / 16, 5 / 16]
    )


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
    parts = deal(["a fox", "A  fox", "a hare", "an owl", "a crow"], folds=2, seed=0)
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
    found = asked(Minority(share=0.02), bright)
    data = Audited(bright)
    turned = {each.id for each in data.rows if int(each.prompt.split()[-1]) % 10 == 0}
    assert found.outcome == "issue"
    assert asked(Minority(share=0.1), bright).outcome == "passed"
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
    assert "the run's margin is -1.0e-04, its minority metric 0.30" in found.rows[0].note
    assert found.figures["minority_metric"]["pairs"] == 100
    assert found.figures["minority_metric"]["mean"] == pytest.approx(0.3)
    assert found.figures["margins"] is None
    assert "rank correlation with the doubts here: none" in found.sentence
    assert "held-out margins" not in found.sentence


def test_the_order_by_an_adaptive_run_s_metric_is_told_with_its_first_labels(bright):
    data = Audited(bright)
    number = {each.id: int(each.prompt.split()[-1]) for each in data.rows}
    pairs = {
        name: PairEvidence(margin=0, spread=0, held_out=False, minority=(n % 10 == 0) + n / 1e4)
        for name, n in number.items()
    }
    found = asked(Minority(), bright, run=RunEvidence(run="r", draws=8, pairs=pairs))
    told = found.figures["minority_metric"]
    assert [number[each["id"]] for each in told["first"][:10]] == [*range(90, -1, -10)]
    assert len(told["first"]) == 20
    assert told["first"][0]["doubt"] > 0.5
    alike = told["rank_correlation"]
    assert (alike["n"], alike["low"] < alike["value"] < alike["high"]) == (100, True)
    assert f"rank correlation with the doubts here: {alike['value']:.3g} (95 %" in found.sentence


def test_rank_correlation_by_hand():
    """One swap of neighbours among ten: 1 − 6 · 2 / 990."""
    found = rank_correlation(range(10), [1, 0, *range(2, 10)])
    assert found is not None
    assert found.value == pytest.approx(1 - 12 / 990)
    assert found.low < found.value < found.high < 1
    assert rank_correlation(range(9), range(9)) is None
    assert rank_correlation(range(10), [1.0] * 10) is None


def test_scores_are_used_and_held_out_margins_stand_beside(bright):
    """Margins know the very labels that are to be foretold: they change no doubt."""
    data = Audited(bright)
    scores = {(each.prompt, image.sha256): 0.5 for each in data.rows for image in each.images}
    pairs = {
        each.id: PairEvidence(margin=1e-4 + n * 1e-6, spread=0, held_out=True)
        for n, each in enumerate(data.rows)
    }
    bare = RunEvidence(run="r", draws=8, pairs={}, scores={"errors": scores})
    told = RunEvidence(run="r", draws=8, pairs=pairs, scores={"errors": scores})
    alone, found = (asked(Minority(), bright, run=run, scores={"clip": {}}) for run in (bare, told))
    assert "the base model's errors + clip" in found.sentence
    assert found.doubts == alone.doubts
    assert "Held-out margins alone doubt" in found.sentence
    assert "a held-out margin is" in found.rows[0].note
    assert set(found.figures["margins"]) == {"share", "rank_correlation", "first"}
    assert found.figures["margins"]["share"]["n"] == 100


def test_few_labels_are_not_asked_about_unless_there_are_several_votes(tmp_path):
    few = [row(0, 1), row(2, 3, prompt="a hare")]
    found = asked(Minority(), snapshot(tmp_path / "few", few))
    assert found.outcome == "not asked"
    assert "three votes or more" in found.sentence
    several = [*few, row(0, 1, judge="ben"), row(0, 1, 0.0, judge="carl")]
    found = asked(Minority(), snapshot(tmp_path / "several", several))
    assert found.rows[0].note.startswith("carl ")
    assert (found.outcome, found.figures["share"]["n"]) == ("passed", 2)


def test_ties_alone_cannot_be_doubted(tmp_path):
    assert asked(Minority(), snapshot(tmp_path, [row(0, 1, 0.5)])).outcome == "not applicable"


def darker(people: int, pairs: int = 80) -> tuple[list[dict], dict[int, np.ndarray]]:
    """People prefer the brighter picture of the first pairs; a machine the darker one of all."""
    rows, pictures = [], {}
    for i in range(pairs):
        dark, light = (7 * i) % 100 + 1, (7 * i) % 100 + 40 + i % 50
        pictures |= {2 * i: picture_of(i, dark), 2 * i + 1: picture_of(i, light)}
        both = {"prompt": f"a thing {i}"}
        rows += [row(2 * i, 2 * i + 1, 1.0, judge="clip", source="scorer", **both)]
        rows += [row(2 * i, 2 * i + 1, 0.0, **both)] if i < people else []
    return rows, pictures


@pytest.mark.parametrize("people", [20, 60])
def test_machines_labels_are_neither_learned_from_nor_doubted_beside_people_s(tmp_path, people):
    """As DeDPO has them: a scorer's on all pairs, people's on some; foretold, and by votes."""
    rows, pictures = darker(people)
    more = [row(0, 1, 0.0, prompt="a thing 0", judge="ben")]
    folder = snapshot(tmp_path, [*rows, *more], pictures)
    found = asked(Minority(), folder)
    source = {each.id: each.source for each in Audited(folder).rows}
    assert {source[name] for name in found.doubts} == {"human"}
    assert len(found.doubts) == people + 1
    assert found.rows == ()
    assert found.outcome == "passed"
    assert found.figures["left_out"] == {"machine labels": 80}


def test_where_only_machines_judged_theirs_are_in_question_and_it_is_said(tmp_path):
    rows, pictures = darker(people=0)
    found = asked(Minority(), snapshot(tmp_path, rows, pictures))
    assert len(found.doubts) == 80
    assert "labels by clip are doubted" in found.sentence
    assert "No person judged a pair here" in found.sentence
    assert found.figures["in_question"] == ["clip"]


def test_records_of_three_pictures_are_left_out_of_the_votes_of_a_pair(tmp_path):
    ranked = {"images": [0, 1, 2], "ranks": [1, 2, 3], "prompt": "a fox", "source": "human"}
    rows = [{**ranked, "judge": "anna"}, {**ranked, "judge": "ben", "ranks": [1, 3, 2]}]
    rows += [row(4, 5), row(4, 5, 0.0, judge="ben"), row(4, 5, judge="carl")]
    found = asked(Minority(), snapshot(tmp_path, rows))
    assert len(found.doubts) == 3
    assert found.rows[0].note.startswith("ben ")


def test_of_many_labels_some_are_learned_from_and_all_are_foretold(bright):
    found = asked(Minority(most=60), bright)
    assert len(found.doubts) == 100


def test_labels_beyond_those_learned_from_teach_nothing():
    planted = Planted(count=300)
    first = np.array([each.first for each in planted.votes])
    prompts = [each.pair[0] for each in planted.votes]
    learned = drawn(first != 0.5, 100, 0)
    assert learned.sum() == 100
    before = foretold(planted.differences, first, prompts, most=100)
    first[~learned] = 1 - first[~learned]
    assert (foretold(planted.differences, first, prompts, most=100) == before).all()
    first[learned] = 1 - first[learned]
    assert (foretold(planted.differences, first, prompts, most=100) != before).any()
    assert (before != 0).all()


class Together:
    """Prompts of ten pairs; in some prompts nearly every label is wrong, in the others few are."""

    share = 0.3 * 0.9 + 0.7 * 0.02

    def __init__(self, seed: int, prompts: int = 60, per: int = 10) -> None:
        draw = np.random.default_rng(seed)
        self.seen = 3 * draw.normal(size=prompts * per)
        bad = np.repeat(draw.uniform(size=prompts) < 0.3, per)
        wrong = draw.uniform(size=prompts * per) < np.where(bad, 0.9, 0.02)
        self.ahead = ((self.seen > 0) != wrong).astype(float)
        self.prompts = [f"p {i // per}" for i in range(prompts * per)]

    def rate(self, prompts: list[str] | None) -> Estimate:
        """The share of wrong labels, with prompts or pairs as the unit."""
        told = (self.seen, self.ahead, 1 - self.ahead)
        return Calibration.of(*told, FLIPS, prompts=prompts).doubts(*told, prompts)[1]


def test_labels_wrong_together_within_prompts_widen_the_interval_of_their_share():
    """Pairs as the unit miss the truth in many such studies; prompts hold it in most."""
    studies = [Together(seed) for seed in range(20)]
    held = {True: 0, False: 0}
    for study in studies:
        for clustered in held:
            found = study.rate(study.prompts if clustered else None)
            held[clustered] += found.low <= study.share <= found.high
            assert (found.n, found.measurements) == (60 if clustered else 600, 600)
    assert held[True] >= 18
    assert held[False] <= 12


def test_pairs_with_a_prompt_each_have_the_interval_of_pairs():
    study = Together(0)
    alone = study.rate(None)
    assert study.rate([f"{i}" for i in range(600)]) == alone


def test_votes_of_one_prompt_are_one_unit_of_the_share():
    """Ten prompts of five pairs with three votes each; in three of them every pair is divided."""
    votes = [
        Vote(pair=(f"p {p}", f"a{k}", f"b{k}"), judge=f"{j}", source="human", shown_first=None,
             first=float(p >= 3 or j > 0), row=f"{p} {k} {j}")
        for p in range(10) for k in range(5) for j in range(3)
    ]  # fmt: skip
    found = doubts_by_votes(votes)
    assert found is not None
    assert found.rate.n == 10
    assert found.rate.high - found.rate.low > 0.3
