"""The table of methods, their pages, and β from anyone's convention."""

import sys

from palate.cli import console
from palate.objectives import OBJECTIVES
from palate.objectives.cost import in_words, relative
from palate.objectives.pages import HEADINGS, evidence, needs, needs_briefly, page


def test_the_table_names_every_method_with_its_paper_year_and_cost(palate):
    text = palate("methods").out
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for objective in OBJECTIVES:
        # Where the paper is no number, its kind stands on a line of its own.
        where, _, name = objective.paper.partition(":")
        assert (objective.paper if where == "arXiv" else where) in lines[objective.name]
        assert name in text
        assert f" {objective.year} " in lines[objective.name]
        assert f" {relative(objective):.3g}× " in lines[objective.name]


def test_the_table_fits_a_terminal_of_80_columns_without_breaking_a_word(monkeypatch, palate):
    monkeypatch.setattr(console, "_PLAIN_WIDTH", 80)
    text = palate("methods").out
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    words = set(text.split())
    for objective in OBJECTIVES:
        assert objective.name in words
        assert objective.paper.removeprefix("github:") in words
        assert set(needs_briefly(objective).split()) <= words
        assert set(evidence(objective).split()) <= words


def test_json_is_a_list_of_objects_with_name_paper_needs_cost_and_evidence(palate):
    rows = palate("methods", "--json").json
    assert [row["name"] for row in rows] == [objective.name for objective in OBJECTIVES]
    assert all(row["paper"] and row["evidence"] and row["needs"]["labels"] for row in rows)
    assert all(row["title"] and row["year"] and row["needs_in_words"] for row in rows)
    assert rows[1]["needs"]["reference"] is True
    assert rows[0]["needs"]["reference"] is False
    # Two pictures: policy forward and back, reference forward. 2 + 2 · 2 + 2 = 8; alone 1 + 2 = 3.
    assert rows[1]["cost"] == {
        "learned": 2, "backward": 2, "asked": 2, "once": 0, "relative": 1.0, "relative_once": 0.0
    }  # fmt: skip
    assert rows[0]["cost"]["relative"] == 3 / 8


def test_every_method_has_a_published_run_and_its_page_names_it(palate):
    table = palate("methods", "--recipes")
    rows = palate("methods", "--recipes", "--json").json
    assert {row["method"] for row in rows} == set(OBJECTIVES.names)
    for row in rows:
        assert row["name"] in table.out
        assert f"`{row['name']}`" in palate("methods", row["method"]).out
        assert row["settings"]["objective.name"] == row["method"]


def test_every_page_has_the_six_headings_in_order_and_reads_its_facts_from_the_class(palate):
    for objective in OBJECTIVES:
        text = palate("methods", objective.name).out
        found = [line[3:] for line in text.splitlines() if line.startswith("## ")]
        assert tuple(found) == HEADINGS
        assert needs(objective) in text
        assert evidence(objective).rstrip(".") in " ".join(text.split())
        assert "{" not in text


def test_the_page_of_dpo_says_what_its_loss_starts_at():
    assert "starts at 0.693147" in page(OBJECTIVES[1])


def test_the_pages_in_docs_are_what_the_command_prints(palate, repository):
    for objective in OBJECTIVES:
        path = repository / "docs" / "methods" / f"{objective.name}.md"
        fix = f"palate methods {objective.name} > docs/methods/{objective.name}.md"
        assert path.read_text() == palate("methods", objective.name).out, fix


def test_beta_is_converted_by_hand(palate):
    """The SD 1.5 script of diffusers has no half: 2500 there is 5000 here, multiplier 2500."""
    text = palate("methods", "--beta-from", "HF-SD1.5", "2500").out
    assert text.startswith("diffusers-sd15 2500  =  --beta 5000 here\n")
    assert "margin: 2500\n" in text
    assert "batch 1 only" in text


def test_beta_as_json_leaves_open_what_needs_elements(palate):
    facts = palate("methods", "--beta-from", "longcat", "2000", "--json").json
    assert facts["beta"] == 4000.0
    assert facts["effective_multiplier"] == 2000.0
    assert facts["conventions"]["simpletuner"] is None


def test_a_sum_is_converted_with_the_number_of_elements(palate):
    """0.01 · 262144 = 2621.44: the half is in both."""
    words = ("methods", "--beta-from", "simpletuner", "0.01", "--elements", "262144", "--json")
    assert palate(*words).json["beta"] == 0.01 * 262144


def test_the_index_of_methods_has_a_line_for_each_with_its_idea_and_cost(repository):
    """The idea is the first line of the method's own file."""
    lines = (repository / "docs" / "methods.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| [")]
    assert len(rows) == len(OBJECTIVES)
    for objective, row in zip(OBJECTIVES, rows, strict=True):
        first = (sys.modules[objective.__module__].__doc__ or "").splitlines()[0]
        idea = first.partition(": ")[2].rstrip(".")
        cost = in_words(objective)
        link = f"[{objective.title}](methods/{objective.name}.md)"
        assert row == f"| {link} | `{objective.name}` | {idea} | {cost} |"
