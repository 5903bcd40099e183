"""T006: ties are counted, by hand, and a judge who sees no difference is named."""

from audit.judged import asked, row, snapshot
from palate.audit.checks.t006_ties import Ties


def test_few_ties_pass_and_are_counted(tmp_path):
    """Two ties in ten judgements, each of a prompt of its own: a share of 0.2."""
    rows = [row(2 * i, 2 * i + 1, 0.5 if i < 2 else 1.0, prompt=f"p{i}") for i in range(10)]
    found = asked(Ties(), snapshot(tmp_path, rows))
    assert found.outcome == "passed"
    assert (found.figures["ties"], found.figures["judgements"]) == (2, 10)
    assert found.figures["share"]["value"] == 0.2
    assert "2 of 10 judgements" in found.sentence
    assert found.rows == ()


def test_planted_many_ties_are_an_issue_with_each_tie_as_evidence(tmp_path):
    rows = [row(2 * i, 2 * i + 1, 0.5 if i < 24 else 1.0, prompt=f"p{i}") for i in range(40)]
    found = asked(Ties(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert len(found.rows) == 24
    assert all(len(each.ids) == 1 and len(each.pictures) == 2 for each in found.rows)


def test_planted_a_judge_who_mostly_sees_no_difference_is_named(tmp_path):
    rows = [row(2 * i, 2 * i + 1, prompt=f"p{i}") for i in range(100)]
    rows += [row(2 * i, 2 * i + 1, 0.5, prompt=f"p{i}", judge="idle") for i in range(20)]
    found = asked(Ties(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    assert found.figures["judges_mostly_tied"] == {"idle": [20, 20]}


def test_without_a_judgement_there_is_nothing_to_ask(tmp_path):
    found = asked(Ties(), snapshot(tmp_path, [row(0, 1, None, judge="nobody")]))
    assert found.outcome == "not applicable"
