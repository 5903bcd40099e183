"""A rubric is a page that anyone may copy and edit, and that is read strictly."""

import pytest

from palate.core.problems import DataError
from palate.label.rubric import open_rubric, read_rubric, shipped_text

TEXT = shipped_text("general")


@pytest.mark.parametrize("name", ["general", "faithful"])
def test_shipped_rubrics_are_read(name):
    rubric = open_rubric(name)
    assert (rubric.name, rubric.version) == (name, 1)
    assert rubric.answers == ("A", "B", "tie")
    assert "caption" in rubric.instruction
    assert rubric.question != rubric.reversed_question


def test_an_edited_copy_is_another_rubric_whatever_version_it_claims(tmp_path):
    path = tmp_path / "mine.md"
    path.write_text(TEXT.replace("pleasing", "funny"))
    mine = open_rubric(path)
    assert mine.version == open_rubric().version
    assert mine.digest != open_rubric().digest
    path.write_text("\ufeff" + TEXT.replace("\n", "\r\n"))
    assert open_rubric(str(path)).digest == open_rubric().digest


def test_a_rubric_may_do_without_ties():
    rubric = read_rubric(TEXT.replace("tie: tie\n", ""))
    assert (rubric.tie, rubric.answers) == (None, ("A", "B"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# general, version 1", "# General", "whose first line is '# General'"),
        ("# general, version 1", "# general, version one", "a title such as"),
        ("## Question", "## Qestion", r"'## Qestion' \(line 13 of .*Did you mean `## Question`"),
        ("## Question", "### Question", "line 13"),
        ("## Question\n\nWhich picture is better for this caption?\n", "", "without a section"),
        ("Which picture is better for this caption?", "", "an empty Question"),
        ("## Answers", "## Question", r"the section Question twice \(line 21"),
        ("## Instruction", "Hello.\n\n## Instruction", r"'Hello.' before the first section"),
        ("second: B", "", "Need answers for first and second"),
        ("second: B", "third: B", "'third: B' among the answers"),
        ("second: B", "second: a", "different short words"),
        ("second: B", "second: AB", "none the beginning of another"),
        ("second: B", "second: B B", "plain letters"),
        ("second: B", "second: <b>", "plain letters"),
    ],
)
def test_what_is_wrong_is_named(old, new, message):
    assert old in TEXT
    with pytest.raises(DataError, match=message):
        read_rubric(TEXT.replace(old, new), "a.md")


def test_a_missing_or_endless_rubric_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"Did you mean general\?"):
        open_rubric("genral")
    with pytest.raises(DataError, match="more than 20000 characters"):
        read_rubric(TEXT + "x" * 20_000)
    with pytest.raises(DataError, match="one of general, faithful"):
        shipped_text("other")
    path = tmp_path / "bytes.md"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"bytes\.md"):
        open_rubric(path)
