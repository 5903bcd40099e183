"""`palate data label-part`, from an imported snapshot to one that a training accepts."""

from palate.data.snapshot import read_rows


def test_few_labels_of_people_beside_many_of_a_machine(palate, snapshot, tmp_path):
    """Thirty pairs, ties included; a quarter of them, 7.5, is 8."""
    out = tmp_path / "few"
    words = ("data", "label-part", snapshot, out)
    made = palate(*words, "--scorer", "world:vividness", "--sharpness", "10", "--json")
    assert made.code == 0, made.err
    assert (made.json["pairs"], made.json["people"], made.json["machine"]) == (30, 8, 30)
    shown = palate("data", "show", out, "--json").json
    assert shown["sources"]["scorer"] >= 20
    again = palate(*words)
    assert again.code == 5
    assert "exists" in again.err


def test_a_sharpness_of_nothing_or_an_unknown_scorer_is_refused(palate, snapshot, tmp_path):
    words = ("data", "label-part", snapshot, tmp_path / "out")
    for sharpness in ("-1", "0", "nan"):
        assert palate(*words, "--scorer", "world", "--sharpness", sharpness).code == 2
    wrong = palate(*words, "--scorer", "wurld")
    assert wrong.code == 2
    assert "world" in wrong.err


def test_without_sharpness_a_machines_labels_are_hard(palate, snapshot, tmp_path):
    out = tmp_path / "hard"
    words = ("data", "label-part", snapshot, out, "--scorer", "world:vividness")
    made = palate(*words, "--sharpness", "none", "--json")
    assert made.code == 0, made.err
    said = [row for row in read_rows(out) if row.source == "scorer"]
    assert said
    assert {row.agreement for row in said} <= {0.0, 0.5, 1.0}
    assert all(row.judge.endswith(" hard") for row in said)


def test_several_scorers_are_tuned_into_one_labeler_that_says_what_it_is_worth(
    palate, snapshot, tmp_path
):
    out = tmp_path / "tuned"
    words = ("data", "label-part", snapshot, out, "--share", "0.5", "--sharpness", "fit")
    words += ("--scorer", "world:vividness", "--scorer", "world:tidiness")
    made = palate(*words)
    assert made.code == 0, made.err
    assert "worth" in made.out
    assert "prefers the picture people prefer" in made.out
    said = [row for row in read_rows(out) if row.source == "scorer"]
    assert len(said) == 30
    assert len({row.judge for row in said}) == 1
    assert said[0].judge.startswith("tuned ")
