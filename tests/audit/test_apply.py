"""Findings are acted on in a new snapshot; the old one stays, and every row is accounted for."""

from dataclasses import replace

import pytest

from audit.judged import row, snapshot
from palate.audit.apply import AUDIT, Wishes, apply
from palate.audit.audited import Audited
from palate.audit.check import Finding, Row
from palate.audit.checks.t003_contradictory_labels import ContradictoryLabels
from palate.audit.run import Audit, audit
from palate.core.files import digest_file
from palate.core.problems import SettingError, StateError
from palate.data.part import label_part
from palate.data.snapshot import read_imports, read_rows, verify
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART, drawn_at_random

FOUR = [row(2 * n, 2 * n + 1, prompt=f"p{n}") for n in range(4)]


def by_prompt(data: Audited) -> dict[str, str]:
    return {each.prompt: each.id for each in data.rows}


def audit_of(data: Audited, **rows: list[tuple[str, float | None]]) -> Audit:
    """An audit whose finding T0nn has the given records, each with its doubt."""
    findings = [
        Finding(
            code=code,
            name=code.lower(),
            outcome="issue",
            sentence="Made by hand.",
            rows=tuple(
                Row(ids=(name,), pictures=(), note="by hand", doubt=doubt) for name, doubt in each
            ),
        )
        for code, each in rows.items()
    ]
    return Audit(
        snapshot=data.snapshot, digest=data.digest, comparisons=len(data.rows),
        pairs=len(data.groups), pictures=len(data.pictures), findings=tuple(findings),
    )  # fmt: skip


def balanced(counts) -> bool:
    """Nothing is lost between the old snapshot and the new one, in records or in pairs."""
    parts = ("kept", "dropped", "downweighted", "unlabelled")
    after = counts["kept"] + counts["downweighted"] + counts["parts"] + counts["queued"]
    return (
        counts["before"] == sum(counts[each] for each in (*parts, "split"))
        and counts["after"] == after - counts["merged"]
        and counts["pairs"]["before"] == sum(counts["pairs"][each] for each in parts)
    )


def test_dropped_records_are_gone_and_the_old_snapshot_is_untouched(tmp_path):
    old = snapshot(tmp_path, FOUR)
    before = {path.name: digest_file(path) for path in old.iterdir()}
    data = Audited(old)
    names = by_prompt(data)
    found = audit_of(data, T001=[(names["p0"], 0.5), (names["p2"], None)])
    made = apply(found, data, tmp_path / "new", Wishes(drop=("T001",)))
    verify(tmp_path / "new")
    assert {each.prompt for each in read_rows(tmp_path / "new")} == {"p1", "p3"}
    assert {path.name: digest_file(path) for path in old.iterdir()} == before
    assert (made.before, made.kept, made.dropped, made.after) == (4, 2, 2, 2)
    assert made.queue is None
    assert balanced(made.asdict())


def test_the_record_says_what_was_asked_and_done(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    name = by_prompt(data)["p0"]
    apply(audit_of(data, T001=[(name, 0.5)]), data, tmp_path / "new", Wishes(drop=("t001",)))
    note = read_imports(tmp_path / "new")[-1][AUDIT]
    assert note["digest"] == data.digest
    assert note["drop"] == {"T001": [name]}
    assert note["outcomes"] == {"T001": "issue"}
    assert (note["counts"]["before"], note["counts"]["after"]) == (4, 3)


@pytest.mark.parametrize(
    ("agreement", "doubt", "expected"),
    [(1.0, 0.2, 0.8), (0.0, 0.2, 0.2), (0.9, 0.25, 0.7), (1.0, 0.5, 0.5), (1.0, 0.9, 0.5)],
)
def test_a_label_moves_as_far_as_its_doubt_says_and_never_past_one_half(
    tmp_path, agreement, doubt, expected
):
    """By hand: 0.75 · 0.9 + 0.25 · 0.1 = 0.7."""
    data = Audited(snapshot(tmp_path, [row(0, 1, agreement), row(2, 3, prompt="p")]))
    name = by_prompt(data)["a fox"]
    found = audit_of(data, T013=[(name, doubt)])
    made = apply(found, data, tmp_path / "new", Wishes(downweight=("T013",)))
    rows = {each.prompt: each for each in read_rows(tmp_path / "new")}
    assert rows["a fox"].agreement == pytest.approx(expected)
    assert rows["a fox"].judge == "anna"
    assert rows["p"].agreement == 1.0
    assert made.downweighted == 1
    assert balanced(made.asdict())


def test_small_doubts_weigh_labels_that_are_not_shown_and_leave_none_out(tmp_path):
    """p0 is shown with doubt 0.6 and becomes a tie; p1 is not shown and goes to 0.9."""
    data = Audited(snapshot(tmp_path, FOUR))
    ids = by_prompt(data)
    shown = audit_of(data, T013=[(ids["p0"], 0.6)])
    finding = replace(shown.findings[0], doubts={ids["p0"]: 0.6, ids["p1"]: 0.1})
    found = replace(shown, findings=(finding,))
    made = apply(found, data, tmp_path / "weighed", Wishes(downweight=("T013",)))
    rows = {each.prompt: each for each in read_rows(tmp_path / "weighed")}
    said = [max(rows[p].agreement, 1 - rows[p].agreement) for p in ("p0", "p1", "p2")]
    assert said == pytest.approx([0.5, 0.9, 1.0])
    assert made.downweighted == 2
    note = read_imports(tmp_path / "weighed")[-1][AUDIT]
    assert note["downweight"] == {"T013": sorted([ids["p0"], ids["p1"]])}
    assert apply(found, data, tmp_path / "left", Wishes(drop=("T013",))).dropped == 1


def test_without_a_doubt_a_label_stays_and_that_is_counted(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    found = audit_of(data, T009=[(by_prompt(data)["p0"], None)])
    made = apply(found, data, tmp_path / "new", Wishes(downweight=("T009",)))
    assert (made.kept, made.undoubted, made.downweighted) == (4, 1, 0)
    assert made.snapshot.digest == data.digest


def test_a_pair_to_ask_again_loses_all_its_labels_and_waits_in_a_store(tmp_path):
    rows = [*FOUR, row(1, 0, prompt="p0", judge="ben"), row(0, 1, prompt="p0", judge="cleo")]
    data = Audited(snapshot(tmp_path, rows))
    name = next(each.id for each in data.rows if each.judge == "ben")
    found = audit_of(data, T003=[(name, 0.7)])
    made = apply(found, data, tmp_path / "new", Wishes(relabel=("T003",)))
    bare = [each for each in read_rows(tmp_path / "new") if each.prompt == "p0"]
    assert [each.labelled for each in bare] == [False]
    assert (made.before, made.unlabelled, made.kept, made.after) == (6, 3, 3, 4)
    assert balanced(made.asdict())
    assert made.queue == tmp_path / "new-queue"
    store = Store(made.queue, create=False)
    queued = list(store.rows())
    assert [each.id for each in queued] == [bare[0].id]
    assert not queued[0].labelled
    for image in queued[0].images:
        assert (store.image(image.sha256) == data.image(image.sha256)).all()
    store.freeze(tmp_path / "frozen-queue")


def test_a_ranking_keeps_what_it_says_of_other_pairs(tmp_path):
    """Three pictures make three pairs; the pair 0 and 1 is asked again through another record."""
    rows = [{**row(0, 1, None), "images": [0, 1, 2], "ranks": [1, 2, 3]}, row(1, 0, judge="ben")]
    data = Audited(snapshot(tmp_path, rows))
    name = next(each.id for each in data.rows if each.judge == "ben")
    made = apply(audit_of(data, T003=[(name, 0.5)]), data, tmp_path / "new",
                 Wishes(relabel=("T003",)))  # fmt: skip
    new = read_rows(tmp_path / "new")
    assert sorted(each.labelled for each in new) == [False, True, True]
    assert made.queued == 1
    assert (made.split, made.parts, made.unlabelled) == (1, 2, 1)
    assert balanced(made.asdict())


def ranking(*pictures: int, **others) -> dict:
    """Pictures from best to worst."""
    facts = {"images": list(pictures), "ranks": list(range(1, len(pictures) + 1))}
    return {**row(0, 1, None), **facts, **others}


@pytest.fixture
def contested(tmp_path) -> Audited:
    """A ranking of four, one vote against it on one of its six pairs, and a pair elsewhere."""
    rows = [ranking(0, 1, 2, 3), row(1, 0, judge="ben"), row(4, 5, prompt="p")]
    return Audited(snapshot(tmp_path, rows))


def test_a_contested_pair_is_dropped_and_the_ranking_keeps_its_other_five(contested, tmp_path):
    found = audit(contested, (ContradictoryLabels(),))
    made = apply(found, contested, tmp_path / "new", Wishes(drop=("T003",)))
    left = Audited(tmp_path / "new")
    (gone,) = set(contested.groups) - set(left.groups)
    assert len(left.groups) == 6
    assert gone in contested.votes_on
    assert len(contested.votes_on[gone]) == 2
    assert {each.agreement is None for each in left.rows} == {False}
    counts = made.asdict()
    assert (counts["kept"], counts["dropped"], counts["split"], counts["parts"]) == (1, 1, 1, 5)
    assert counts["pairs"] == {
        "before": 8, "kept": 6, "dropped": 2, "downweighted": 0, "unlabelled": 0,
    }  # fmt: skip
    assert balanced(counts)
    note = read_imports(tmp_path / "new")[-1][AUDIT]
    (whole,) = (each.id for each in contested.rows if len(each.images) == 4)
    assert note["split"] == {whole: [list(gone[1:])]}


def test_a_contested_pair_of_a_ranking_is_asked_again_and_no_other(contested, tmp_path):
    found = audit(contested, (ContradictoryLabels(),))
    made = apply(found, contested, tmp_path / "new", Wishes(relabel=("T003",)))
    assert (made.queued, made.split, made.unlabelled, made.parts) == (1, 1, 1, 5)
    assert balanced(made.asdict())
    bare = [each for each in read_rows(tmp_path / "new") if not each.labelled]
    assert len(bare) == 1


def test_a_ranking_of_which_every_pair_is_concerned_is_left_out_whole(tmp_path):
    """Two opposite orders of three contest all three pairs: nothing is left to split."""
    rows = [ranking(0, 1, 2), ranking(2, 1, 0, judge="ben"), row(4, 5, prompt="p")]
    data = Audited(snapshot(tmp_path, rows))
    found = audit(data, (ContradictoryLabels(),))
    made = apply(found, data, tmp_path / "new", Wishes(drop=("T003",)))
    assert (made.kept, made.dropped, made.split, made.after) == (1, 2, 0, 1)
    assert made.pairs["dropped"] == 6
    assert balanced(made.asdict())


def test_one_judges_opposite_labels_that_become_one_tie_are_counted_as_merged(tmp_path):
    data = Audited(snapshot(tmp_path, [row(0, 1), row(1, 0), row(2, 3, prompt="p")]))
    found = audit(data, (ContradictoryLabels(),))
    made = apply(found, data, tmp_path / "new", Wishes(downweight=("T003",)))
    assert (made.downweighted, made.merged, made.after) == (2, 1, 2)
    assert balanced(made.asdict())


def test_leaving_out_goes_first_then_asking_again_then_weighing_less(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    names = by_prompt(data)
    found = audit_of(
        data,
        T001=[(names["p0"], 0.5)],
        T002=[(names["p0"], 0.5), (names["p1"], 0.5)],
        T003=[(names["p0"], 0.3), (names["p1"], 0.3), (names["p2"], 0.3)],
    )
    wishes = Wishes(drop=("T001",), relabel=("T002",), downweight=("T003",))
    made = apply(found, data, tmp_path / "new", wishes)
    counts = made.asdict()
    assert (counts["dropped"], counts["unlabelled"], counts["downweighted"]) == (1, 1, 1)
    assert counts["kept"] == 1


def test_where_nothing_was_found_the_same_data_is_written(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    made = apply(audit_of(data, T001=[]), data, tmp_path / "new", Wishes(drop=("T001",)))
    assert made.snapshot.digest == data.digest
    again = apply(audit_of(data, T001=[]), data, tmp_path / "again", Wishes(relabel=("T001",)))
    assert again.queue is None
    assert not (tmp_path / "again-queue").exists()


def test_a_part_that_was_drawn_at_random_is_none_after_labels_were_picked(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    first = tmp_path / "drawn"
    label_part(data.snapshot, first, share=1.0, seed=0)
    assert drawn_at_random(first)
    drawn = Audited(first)
    found = audit_of(drawn, T003=[(drawn.rows[0].id, 0.5)], T001=[])
    apply(found, drawn, tmp_path / "picked", Wishes(drop=("T003",)))
    assert not drawn_at_random(tmp_path / "picked")
    apply(found, drawn, tmp_path / "same", Wishes(drop=("T001",)))
    assert drawn_at_random(tmp_path / "same")
    assert LABELLED_PART in read_imports(tmp_path / "same")[0]


def test_codes_that_were_not_asked_or_do_not_exist_are_refused(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    found = audit_of(data, T001=[])
    with pytest.raises(SettingError, match="Did you mean T001"):
        apply(found, data, tmp_path / "new", Wishes(drop=("T01",)))
    silent = Finding(code="T005", name="position-bias", outcome="silenced", sentence="Not asked.")
    found = Audit(
        snapshot=data.snapshot, digest="", comparisons=4, pairs=4, pictures=8, findings=(silent,)
    )
    with pytest.raises(SettingError, match="a check that was asked"):
        apply(found, data, tmp_path / "new", Wishes(drop=("T005",)))
    assert not (tmp_path / "new").exists()


def test_folders_that_exist_are_refused_before_anything_is_written(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    found = audit_of(data, T001=[(data.rows[0].id, 0.5)])
    (tmp_path / "new-queue").mkdir()
    with pytest.raises(StateError, match="new-queue, which exists"):
        apply(found, data, tmp_path / "new", Wishes(relabel=("T001",)))
    assert not (tmp_path / "new").exists()
    with pytest.raises(StateError, match="which exists"):
        apply(found, data, data.snapshot, Wishes(drop=("T001",)))


def test_what_breaks_half_way_leaves_nothing(tmp_path):
    """The pack is cut after the snapshot was opened: the queue cannot be filled."""
    data = Audited(snapshot(tmp_path, FOUR))
    found = audit_of(data, T001=[(data.rows[0].id, 0.5)])
    pack = data.snapshot / "pictures-00000.pack"
    pack.write_bytes(bytes(pack.stat().st_size))
    with pytest.raises(Exception, match="pictures-00000"):
        apply(found, data, tmp_path / "new", Wishes(relabel=("T001",)))
    assert {path.name for path in tmp_path.iterdir()} == {"store", "snapshot"}


def test_to_drop_everything_is_refused(tmp_path):
    data = Audited(snapshot(tmp_path, FOUR))
    found = audit_of(data, T001=[(each.id, 0.5) for each in data.rows])
    with pytest.raises(StateError, match="no record"):
        apply(found, data, tmp_path / "new", Wishes(drop=("T001",)))
