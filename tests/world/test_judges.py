"""Judges know the truth and answer with noise."""

import numpy as np
import pytest

from palate.core.problems import SettingError
from palate.core.streams import Streams
from palate.world import (
    MAJORITY,
    OPPOSITE,
    PERFECT,
    SPREAD,
    Judge,
    Preference,
    Scene,
    Style,
    Taste,
    diverse,
    likeness,
    population,
    render,
    varied,
)

CAPTION = "a large green triangle on the left of a white background"
STREAMS = Streams(0)


def picture(vividness):
    style = PERFECT if vividness == 1 else Style(vividness=vividness)
    return render(Scene.parse(CAPTION), style, STREAMS("accidents"))


def test_a_gap_of_log_three_wins_three_times_in_four():
    """σ(ln 3) = 3/4; with one answer in ten turned round, 0.75 × 0.9 + 0.25 × 0.1 = 0.7."""
    assert Judge(id="j").chance(np.log(3)) == pytest.approx(0.75)
    assert Judge(id="j", flip_rate=0.1).chance(np.log(3)) == pytest.approx(0.7)
    assert Judge(id="j", temperature=2.0).chance(2 * np.log(3)) == pytest.approx(0.75)


def test_answers_come_as_often_as_their_chance():
    judge = Judge(id="j", flip_rate=0.1)
    answers = [judge.prefer_by(np.log(3), STREAMS("answer", k)) for k in range(2000)]
    share = np.mean([answer is Preference.A for answer in answers])
    assert abs(share - 0.7) < 0.035


def test_a_cold_judge_prefers_the_vivid_picture_and_the_opposite_taste_the_pale_one():
    vivid, pale = picture(1.0), picture(0.4)
    stream = STREAMS("answer")
    assert Judge(id="j", temperature=0).prefer(vivid, pale, CAPTION, stream) is Preference.A
    assert Judge(id="j", temperature=0).prefer(pale, vivid, CAPTION, stream) is Preference.B
    dissenter = Judge(id="d", taste=OPPOSITE, temperature=0)
    assert dissenter.prefer(vivid, pale, CAPTION, stream) is Preference.B


def test_an_indifferent_judge_calls_near_equals_a_tie():
    judge = Judge(id="j", indifference=0.3)
    assert judge.prefer_by(0.2, STREAMS("answer")) is Preference.TIE
    assert judge.prefer_by(0.4, STREAMS("answer")) is not Preference.TIE


def test_the_same_stream_gives_the_same_answer():
    judge = Judge(id="j")
    answers = {judge.prefer_by(0.1, STREAMS("answer", 7)) for _ in range(5)}
    assert len(answers) == 1


def test_a_fifth_of_the_population_has_the_opposite_taste():
    judges = population(30, seed=1, minority=0.2, flip_rate=0.1, temperature=0.5)
    assert sum(judge.taste == OPPOSITE for judge in judges) == 6
    assert sum(judge.taste == MAJORITY for judge in judges) == 24
    assert len({judge.id for judge in judges}) == 30
    assert judges == population(30, seed=1, minority=0.2, flip_rate=0.1, temperature=0.5)
    assert judges != population(30, seed=2, minority=0.2, flip_rate=0.1, temperature=0.5)


def test_varied_judges_all_want_fidelity_and_differ_otherwise():
    judges = varied(32, seed=0)
    assert {judge.taste.fidelity for judge in judges} == {MAJORITY.fidelity}
    assert len({judge.taste.vividness for judge in judges}) == 32
    assert varied(8, seed=0) == judges[:8]


def test_a_share_of_two_hundred_percent_is_refused():
    with pytest.raises(SettingError, match=r"Got minority=2\. Need a share between 0 and 1"):
        population(5, seed=0, minority=2)
    with pytest.raises(SettingError, match=r"Got flip_rate=1\.5"):
        Judge(id="j", flip_rate=1.5)
    with pytest.raises(SettingError, match=r"Got temperature=-1"):
        Judge(id="j", temperature=-1)
    with pytest.raises(SettingError, match=r"Got n=0 judges"):
        varied(0, seed=0)


def test_a_direction_of_strength_three_weighs_each_part_by_its_spread():
    """Weights × 18 × spreads are the direction times 3: their length is 3 for every judge."""
    for judge in diverse(5, seed=0):
        taste = judge.taste
        logits = [
            18 * taste.vividness * SPREAD["vividness"],
            18 * taste.tidiness * SPREAD["tidiness"],
            18 * taste.composition * SPREAD["composition"],
        ]
        assert np.linalg.norm(logits) == pytest.approx(3.0)
        assert taste.fidelity == MAJORITY.fidelity


def test_diverse_judges_are_alike_or_opposed_in_equal_shares():
    """Cosines of even directions in three dimensions are even between −1 and 1."""
    tastes = [judge.taste for judge in diverse(60, seed=3)]
    cosines = [
        likeness(one, other) for row, one in enumerate(tastes) for other in tastes[row + 1 :]
    ]
    assert abs(np.mean(cosines)) < 0.1
    assert abs(np.std(cosines) - 1 / np.sqrt(3)) < 0.05
    assert min(cosines) < -0.9
    assert max(cosines) > 0.9
    assert diverse(8, seed=3) == diverse(60, seed=3)[:8]
    assert diverse(8, seed=4) != diverse(8, seed=3)


def test_a_taste_is_like_itself_unlike_its_opposite_and_neither_to_no_taste():
    """Vividness 0.5, tidiness 0.2, composition 0.1 and their negatives: cosines 1 and −1."""
    assert likeness(MAJORITY, MAJORITY) == pytest.approx(1.0)
    assert likeness(MAJORITY, OPPOSITE) == pytest.approx(-1.0)
    assert likeness(MAJORITY, Taste()) == 0.0


def test_a_negative_strength_is_refused():
    with pytest.raises(SettingError, match=r"Got strength=-1"):
        diverse(3, seed=0, strength=-1)
