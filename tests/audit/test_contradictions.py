"""T003 and T004: the same pair both ways, and preferences that run in circles."""

import pytest

from audit.judged import asked, row, snapshot
from palate.audit.audited import Audited
from palate.audit.check import Finding
from palate.audit.checks.t003_contradictory_labels import ContradictoryLabels
from palate.audit.checks.t004_cycles import Cycles


def judges_of(data: Audited, finding: Finding) -> list[set[str]]:
    return [{data.by_id[name].judge for name in each.ids} for each in finding.rows]


def test_planted_one_judge_against_three_is_the_evidence_and_its_doubt_is_by_hand(tmp_path):
    """One against three: P(more than half are with the three) = P(Beta(2, 4) < 1/2) = 26/32."""
    rows = [row(0, 1, judge=name) for name in ("anna", "ben", "cleo")] + [row(1, 0, judge="dan")]
    rows += [row(2, 3), row(2, 3, judge="ben"), row(4, 5)]
    path = snapshot(tmp_path, rows)
    found = asked(ContradictoryLabels(), path)
    assert found.outcome == "issue"
    assert judges_of(Audited(path), found) == [{"dan"}]
    assert found.rows[0].doubt == pytest.approx(26 / 32)
    assert found.rows[0].note == "1 against 3"
    assert (found.figures["both_ways"], found.figures["judged_again"]) == (1, 2)


def test_planted_a_draw_shows_both_sides_and_who_said_both(tmp_path):
    path = snapshot(tmp_path, [row(0, 1), row(1, 0, judged_at="later"), row(2, 3)])
    found = asked(ContradictoryLabels(), path)
    assert len(found.rows) == 2
    assert {each.doubt for each in found.rows} == {0.5}
    assert found.rows[0].pictures == found.rows[1].pictures[::-1]
    assert "anna said both" in found.rows[0].note
    assert found.figures["by_one_judge"] == 1
    assert found.figures["judges_who_said_both"] == {"anna": 1}


def test_the_side_a_picture_stood_on_makes_no_contradiction(tmp_path):
    rows = [row(0, 1, 1.0), row(1, 0, 0.0, judge="ben"), row(0, 1, 0.5, judge="cleo")]
    found = asked(ContradictoryLabels(), snapshot(tmp_path, rows))
    assert (found.outcome, found.rows) == ("passed", ())


def test_people_against_machines_are_counted_and_are_no_issue(tmp_path):
    machine = {"judge": "clip", "source": "scorer"}
    rows = [row(0, 1), row(0, 1, judge="ben"), row(1, 0, **machine)]
    found = asked(ContradictoryLabels(), snapshot(tmp_path, rows))
    assert found.outcome == "passed"
    assert found.figures["people_against_machines"] == 1


def test_two_machines_are_two_opinions_and_one_machine_is_one(tmp_path):
    clip = {"judge": "clip", "source": "scorer"}
    rows = [row(0, 1, **clip), row(1, 0, **{**clip, "judge": "hps"}), row(2, 3)]
    assert asked(ContradictoryLabels(), snapshot(tmp_path / "a", rows)).outcome == "not applicable"
    rows = [row(0, 1, **clip), row(1, 0, **clip, judged_at="later")]
    assert asked(ContradictoryLabels(), snapshot(tmp_path / "b", rows)).outcome == "issue"


def test_pairs_judged_once_cannot_contradict(tmp_path):
    found = asked(ContradictoryLabels(), snapshot(tmp_path, [row(0, 1), row(2, 3)]))
    assert found.outcome == "not applicable"


def test_planted_a_circle_of_three_is_found_with_its_rows_in_order(tmp_path):
    """One of two full triads is a circle; each prompt has one triad: a share of one half."""
    circle = [row(0, 1), row(1, 2), row(2, 0)]
    order = [row(3, 4, prompt="p"), row(4, 5, prompt="p"), row(3, 5, prompt="p")]
    path = snapshot(tmp_path, [*circle, *order])
    found = asked(Cycles(), path)
    assert found.outcome == "issue"
    over_all, alone = found.rows
    data = Audited(path)
    assert {data.by_id[name].prompt for name in over_all.ids} == {"a fox"}
    assert len(over_all.ids) == 3
    assert over_all.doubt == pytest.approx(1 / 3)
    assert "by anna alone" in alone.note
    assert found.figures["circular_triads"]["value"] == 0.5
    steps = zip(over_all.pictures, (*over_all.pictures[1:], over_all.pictures[0]), strict=True)
    beaten = {
        tuple(image.sha256 for image in each.images) for each in data.rows if each.prompt == "a fox"
    }
    assert set(steps) == beaten


def test_planted_a_divided_public_runs_in_a_circle_though_no_judge_does(tmp_path):
    """Condorcet: three judges, each with an order, and every majority is two to one."""
    rows = []
    for judge, order in (("anna", (0, 1, 2)), ("ben", (1, 2, 0)), ("cleo", (2, 0, 1))):
        for at in range(3):
            for later in range(at + 1, 3):
                rows.append(row(order[at], order[later], judge=judge))
    found = asked(Cycles(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert found.figures["circles"] == 1
    assert found.figures["circles_within_a_judge"] == 0


def test_the_shortest_circle_of_a_knot_is_shown(tmp_path):
    """Five in a ring, and a shortcut that closes a circle of three: 0 1 2 3 4, and 2 → 0."""
    rows = [row(n, (n + 1) % 5) for n in range(5)] + [row(2, 0)]
    found = asked(Cycles(), snapshot(tmp_path, rows))
    assert len(found.rows[0].pictures) == 3
    assert found.figures["circles"] == 1


def test_a_long_ring_without_triads_is_a_circle(tmp_path):
    found = asked(Cycles(), snapshot(tmp_path, [row(n, (n + 1) % 6) for n in range(6)]))
    assert found.outcome == "issue"
    assert len(found.rows[0].pictures) == 6
    assert found.figures["circular_triads"] is None


def test_one_ranking_of_four_pictures_has_no_circle(tmp_path):
    rows = [{**row(0, 1, None), "images": [0, 1, 2, 3], "ranks": [2, 1, 2, 3]}]
    found = asked(Cycles(), snapshot(tmp_path, rows))
    assert (found.outcome, found.rows) == ("passed", ())


def test_ties_and_drawn_pairs_close_no_circle(tmp_path):
    rows = [row(0, 1), row(1, 2), row(2, 0, 0.5), row(0, 2, judge="ben"), row(2, 0, judge="cleo")]
    found = asked(Cycles(), snapshot(tmp_path, rows))
    assert found.outcome in ("passed", "not applicable")


def test_one_picture_under_two_prompts_closes_no_circle(tmp_path):
    rows = [row(0, 1), row(1, 2), row(0, 2), row(2, 0, prompt="p"), row(2, 3, prompt="p")]
    assert asked(Cycles(), snapshot(tmp_path, rows)).outcome == "passed"


def test_pairs_of_two_pictures_have_no_circles_to_look_for(tmp_path):
    path = snapshot(tmp_path, [row(0, 1), row(1, 0, judge="ben"), row(2, 3, prompt="p")])
    assert asked(Cycles(), path).outcome == "not applicable"


def test_machines_do_not_outvote_people_in_a_circle(tmp_path):
    """People order 0 over 1 over 2; two machines close a circle only by outvoting them."""
    rows = [row(0, 1), row(1, 2), row(0, 2)]
    rows += [row(2, 0, judge=name, source="scorer") for name in ("clip", "hps")]
    found = asked(Cycles(), snapshot(tmp_path, rows))
    assert (found.outcome, found.rows) == ("passed", ())


def test_planted_one_machine_that_runs_in_a_circle_is_named_without_any_people(tmp_path):
    clip = {"judge": "clip", "source": "scorer"}
    rows = [row(0, 1, **clip), row(1, 2, **clip), row(2, 0, **clip)]
    found = asked(Cycles(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert "by clip alone" in found.rows[0].note
    assert found.figures["circles"] == 0


def test_people_say_who_won_where_they_judged_and_machines_elsewhere(tmp_path):
    machines = [row(1, 0, judge=name, source="scorer") for name in ("clip", "hps")]
    both = Audited(snapshot(tmp_path / "both", [row(0, 1), *machines]))
    alone = Audited(snapshot(tmp_path / "alone", machines))
    (pair,) = both.groups
    assert both.winner_first(pair) == alone.winner_first(pair)[::-1]
    assert both.lead(pair) == -alone.lead(pair)


def test_evidence_about_one_pair_of_a_ranking_names_that_pair_alone(tmp_path):
    """Two of three orders make a circle of the pairs, and each ranking of four is about six."""
    rows = [
        {**row(0, 1, None), "images": [*order, 3], "ranks": [1, 2, 3, 4], "judge": judge}
        for judge, order in (("anna", (0, 1, 2)), ("ben", (1, 2, 0)), ("cleo", (2, 0, 1)))
    ]
    path = snapshot(tmp_path, rows)
    data = Audited(path)
    circle = asked(Cycles(), path).rows[0]
    assert len(circle.pairs) == 3
    assert {name for pair in circle.pairs for name in pair[1:]} == set(circle.pictures)
    for each in asked(ContradictoryLabels(), path).rows:
        (pair,) = each.pairs
        assert set(pair[1:]) == set(each.pictures)
        assert pair in data.groups
