"""T005, T007, T008 and T012: planted judges are named, and honest ones are left in peace.

The same two pictures serve every prompt: each prompt makes a pair of its own.
"""

import csv
from pathlib import Path

import pytest

from audit.judged import asked, row, snapshot
from palate.audit.checks.t005_position_bias import PositionBias
from palate.audit.checks.t007_one_judge_dominates import OneJudgeDominates
from palate.audit.checks.t008_judges_disagree import JudgesDisagree
from palate.audit.checks.t012_expected_flips import KNOWN_AREAS, KNOWN_MEANS, ExpectedFlips
from palate.audit.minority import PairEvidence, RunEvidence
from palate.core.streams import Streams
from palate.data.snapshot import read_rows


def coin(*keys: int | str) -> bool:
    return Streams(5)("coin", *keys).uniform() < 0.5


def shown(i: int, judge: str, chooses_first: bool) -> dict:
    """Pictures of pair i in either order; the vote follows the place, not the picture."""
    turned = coin("order", judge, i)
    agreement = float(chooses_first != turned)
    order = (1, 0) if turned else (0, 1)
    return row(0, 1, agreement, prompt=f"p{i}", judge=judge, shown=order)


def votes(pairs: int, flips: dict[str, float], truth: float = 1.0) -> list[dict]:
    """Each judge on each pair, turned round at their own rate."""
    return [
        row(
            0, 1, prompt=f"p{i}", judge=judge,
            agreement=truth if Streams(7)("flip", judge, i).uniform() >= rate else 1 - truth,
        )
        for i in range(pairs)
        for judge, rate in flips.items()
    ]  # fmt: skip


# T005


def test_judges_who_look_at_both_sides_pass(tmp_path):
    rows = [shown(i, "anna", coin("anna", i)) for i in range(60)]
    rows += [row(0, 1, 0.5, prompt=f"p{i}", judge="tie", shown=(0, 1)) for i in (1, 2)]
    found = asked(PositionBias(), snapshot(tmp_path, rows))
    assert found.outcome == "passed"
    assert found.rows == ()
    assert (found.figures["votes_with_order"], found.figures["ties_with_order"]) == (60, 2)


def test_planted_a_judge_who_presses_the_left_button_is_named_with_their_votes(tmp_path):
    """Left in nine of ten votes: doubt of a left vote is (1.8 − 1) / 1.8 = 0.444."""
    rows = [shown(i, "left", i % 10 != 0) for i in range(60)]
    rows += [shown(i, "anna", coin("anna", i)) for i in range(60)]
    found = asked(PositionBias(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert found.figures["biased"] == ["left"]
    assert len(found.rows) == 54
    assert [each.doubt for each in found.rows] == pytest.approx([0.8 / 1.8] * 54)
    assert all("left preferred the picture shown first" in each.note for each in found.rows)
    assert "left: 0.9" in found.sentence


def test_planted_a_machine_that_names_the_first_in_both_orders_is_seen_in_its_signature(tmp_path):
    """0.9 for the first when a stands first, 0.7 when b does: 0.8 on the mean."""
    rows = [
        row(
            0, 1, 0.6, prompt=f"p{i}", judge="vlm", source="vlm",
            signature={"asked": [{"step": "forth", "first": 0.9}, {"step": "back", "first": 0.7}]},
        )
        for i in range(40)
    ]  # fmt: skip
    found = asked(PositionBias(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert found.figures["by_judge"]["vlm"]["value"] == pytest.approx(0.8)


def test_without_recorded_orders_position_is_not_applicable(tmp_path):
    rows = [row(0, 1, prompt=f"p{i}") for i in range(40)]
    found = asked(PositionBias(), snapshot(tmp_path, rows))
    assert found.outcome == "not applicable"
    assert "shown" in found.sentence


# T007


def test_three_equal_judges_pass(tmp_path):
    found = asked(OneJudgeDominates(), snapshot(tmp_path, votes(10, dict.fromkeys("abc", 0.0))))
    assert found.outcome == "passed"
    assert found.figures["equal_judges"] == pytest.approx(3)
    assert found.rows == ()


def test_planted_one_judge_with_most_of_the_votes_is_named(tmp_path):
    """Thirty votes against five and five: 75 %, worth 1600 / 950 = 1.7 judges."""
    rows = votes(30, {"busy": 0.0}) + votes(5, {"b": 0.0, "c": 0.0})
    found = asked(OneJudgeDominates(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert (found.figures["judge"], found.figures["share"]) == ("busy", 0.75)
    assert found.figures["equal_judges"] == pytest.approx(1600 / 950)
    assert len(found.rows) == 30
    assert "Agreement with the majority of the others: 1 " in found.sentence


@pytest.mark.parametrize(
    "facts",
    [
        {"judge": "pickapic/unknown"},
        {"judge": "clip", "source": "scorer"},
        {"judge": "votes:mean 0", "signature": {"aggregated": {"by": "votes"}}},
    ],
)
def test_machines_nameless_judges_and_labels_of_several_votes_dominate_nothing(tmp_path, facts):
    rows = [row(0, 1, prompt=f"p{i}", **facts) for i in range(10)]
    assert asked(OneJudgeDominates(), snapshot(tmp_path, rows)).outcome == "not applicable"


# T008


def test_judges_who_agree_pass(tmp_path):
    found = asked(JudgesDisagree(), snapshot(tmp_path, votes(60, dict.fromkeys("abc", 0.03))))
    assert found.outcome == "passed"
    assert found.figures["alpha"]["value"] > 0.8
    assert found.rows == ()


def test_planted_divided_judges_are_an_issue_of_all(tmp_path):
    found = asked(JudgesDisagree(), snapshot(tmp_path, votes(60, dict.fromkeys("abcd", 0.25))))
    assert found.outcome == "issue"
    assert found.figures["divided"]
    assert found.figures["odd_judges"] == []
    assert "alpha is" in found.sentence


def test_planted_a_judge_against_all_others_is_named_with_the_votes_against(tmp_path):
    rows = votes(60, {"a": 0.02, "b": 0.02, "c": 0.02, "d": 0.02, "contrary": 0.9})
    found = asked(JudgesDisagree(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert [each["judge"] for each in found.figures["odd_judges"]] == ["contrary"]
    assert 45 <= len(found.rows) <= 60
    assert all(each.note.startswith("contrary") for each in found.rows)


def test_pairs_that_were_judged_once_say_nothing_of_agreement(tmp_path):
    found = asked(JudgesDisagree(), snapshot(tmp_path, votes(40, {"a": 0.0})))
    assert found.outcome == "not applicable"


# T012


def test_few_flips_pass_with_a_rate(tmp_path):
    found = asked(ExpectedFlips(), snapshot(tmp_path, votes(100, dict.fromkeys("abc", 0.03))))
    assert found.outcome == "passed"
    assert found.figures["epsilon"]["low"] <= 0.03 <= found.figures["epsilon"]["high"]
    assert found.figures["from"] == "agreement"


def test_planted_flips_are_estimated_and_outvoted_votes_are_doubted(tmp_path):
    """Three judges at 25 %: whoever is one vote behind is in doubt by 1 / (1 + ε / (1 − ε))."""
    found = asked(ExpectedFlips(), snapshot(tmp_path, votes(150, dict.fromkeys("abc", 0.25))))
    epsilon = found.figures["epsilon"]
    assert found.outcome == "issue"
    assert epsilon["low"] <= 0.25 <= epsilon["high"]
    assert found.rows
    behind = 1 - epsilon["value"]
    assert [each.doubt for each in found.rows] == pytest.approx([behind] * len(found.rows))


def test_a_run_that_never_saw_the_pairs_answers_where_nobody_voted_twice(tmp_path):
    """Margins that go with the label, but for every fifth: about 20 %."""
    folder = snapshot(tmp_path, votes(100, {"a": 0.0}))
    bare = asked(ExpectedFlips(), folder)
    assert bare.outcome == "not asked"
    assert "--run" in bare.sentence
    ids = [each.id for each in read_rows(folder)]
    margins = {
        name: PairEvidence(margin=-1.0 if n % 5 == 0 else 1.0, spread=0.1, held_out=True)
        for n, name in enumerate(ids)
    }
    found = asked(ExpectedFlips(), folder, run=RunEvidence(run="r", draws=4, pairs=margins))
    assert found.figures["from"] == "margins"
    assert found.figures["epsilon"]["low"] <= 0.2 <= found.figures["epsilon"]["high"]


def test_only_people_s_labels_are_asked_about_by_margins(tmp_path):
    """A machine's labels all go against the margins; people's all go with them."""
    rows = votes(60, {"a": 0.0})
    rows += [row(0, 1, 0.0, prompt=f"p{i}", judge="clip", source="scorer") for i in range(60)]
    folder = snapshot(tmp_path, rows)
    margins = {
        each.id: PairEvidence(
            margin=1.0 if each.source == "human" else -1.0,
            spread=0.1,
            held_out=each.source == "human",
        )
        for each in read_rows(folder)
    }
    found = asked(ExpectedFlips(), folder, run=RunEvidence(run="r", draws=4, pairs=margins))
    assert found.figures["from"] == "margins"
    assert found.figures["epsilon"]["measurements"] == found.figures["epsilon"]["n"] == 60
    assert found.figures["epsilon"]["high"] < 0.2


def test_an_adaptive_run_s_metric_is_told_and_makes_no_rate(tmp_path):
    folder = snapshot(tmp_path, votes(40, {"a": 0.0}))
    pairs = {
        each.id: PairEvidence(margin=0, spread=0, held_out=False, minority=0.2 + n % 2 / 10)
        for n, each in enumerate(read_rows(folder))
    }
    found = asked(ExpectedFlips(), folder, run=RunEvidence(run="r", draws=4, pairs=pairs))
    assert found.outcome == "not asked"
    assert "minority metric u is 0.25 (n = 40); that is no rate" in found.sentence
    assert found.figures["minority_metric"]["mean"] == pytest.approx(0.25)
    assert "epsilon" not in found.figures


def test_what_is_said_of_the_metric_is_what_was_measured():
    """Least and most of the mean of u, and of its AUC, in the rows of lab/minority."""
    lab = Path(__file__).parents[2] / "lab" / "minority"
    with (lab / "reliability.csv").open(newline="") as file:
        bins = [each for each in csv.DictReader(file) if _flipped_u(each)]
    runs = {(each["condition"], each["seed"]) for each in bins}
    means = []
    for run in runs:
        mine = [each for each in bins if (each["condition"], each["seed"]) == run]
        total = sum(int(each["pairs"]) for each in mine)
        means.append(sum(float(each["doubt"]) * int(each["pairs"]) for each in mine) / total)
    with (lab / "detectors.csv").open(newline="") as file:
        areas = [float(each["auc"]) for each in csv.DictReader(file) if _flipped_u(each)]
    assert len(runs) == len(areas) == 15
    assert (round(min(means), 2), round(max(means), 2)) == KNOWN_MEANS
    assert (round(min(areas), 2), round(max(areas), 2)) == KNOWN_AREAS


def _flipped_u(each: dict[str, str]) -> bool:
    return each["detector"] == "adaptive: product u" and each["condition"].startswith("flip")


def test_without_preferences_there_is_nothing_to_flip(tmp_path):
    rows = [row(0, 1, None, judge="nobody", source="unknown")]
    assert asked(ExpectedFlips(), snapshot(tmp_path, rows)).outcome == "not applicable"
