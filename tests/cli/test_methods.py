"""The table of methods, their pages, and β from anyone's convention."""

from palate.objectives import OBJECTIVES
from palate.objectives.pages import HEADINGS, evidence, needs, page


def test_the_table_names_every_method_with_its_paper_and_year(palate):
    text = palate("methods").out
    for objective in OBJECTIVES:
        assert f"{objective.title}" in text
        assert objective.paper in text
        assert str(objective.year) in text


def test_json_is_a_list_of_objects_with_name_paper_needs_and_evidence(palate):
    rows = palate("methods", "--json").json
    assert [row["name"] for row in rows] == [objective.name for objective in OBJECTIVES]
    assert all(row["paper"] and row["evidence"] and row["needs"]["labels"] for row in rows)
    assert rows[1]["needs"]["reference"] is True
    assert rows[0]["needs"]["reference"] is False


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
