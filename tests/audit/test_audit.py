"""Every question is asked once; what breaks is an answer too."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from audit.judged import row, snapshot
from palate.audit.audited import Audited
from palate.audit.check import Check, Finding, answer
from palate.audit.checks import CHECKS
from palate.audit.run import audit, named
from palate.core.problems import DataError, MissingExtra, SettingError


@dataclass(frozen=True)
class Content:
    """Always content."""

    code: ClassVar[str] = "T901"
    name: ClassVar[str] = "content"
    question: ClassVar[str] = "Is all well?"

    def ask(self, data: Audited) -> Finding:
        return answer(self, "passed", f"All {len(data.rows)} are well.")


@dataclass(frozen=True)
class Breaks:
    """Always breaks."""

    error: Exception

    code: ClassVar[str] = "T900"
    name: ClassVar[str] = "breaks"
    question: ClassVar[str] = "Does it break?"

    def ask(self, data: Audited) -> Finding:
        raise self.error


@pytest.fixture
def data(tmp_path: Path) -> Audited:
    return Audited(snapshot(tmp_path, [row(0, 1), row(2, 3), row(4, 5, 0.5)]))


def test_every_check_answers_in_the_order_of_the_codes(data):
    found = audit(data)
    assert [each.code for each in found.findings] == sorted(check.code for check in CHECKS)
    assert not [each.sentence for each in found.findings if each.outcome == "failed"]
    assert (found.comparisons, found.pairs, found.pictures) == (3, 3, 6)


def test_a_check_that_breaks_is_an_answer_and_the_others_go_on(data):
    found = audit(data, (Content(), Breaks(ValueError("no such thing"))))
    assert [each.outcome for each in found.findings] == ["failed", "passed"]
    assert "ValueError: no such thing" in found.findings[0].sentence
    assert found.outcomes["failed"] == 1


def test_a_missing_package_is_a_question_not_asked(data):
    missing = MissingExtra(got="no sklearn", need="it", fix="Install it")
    found = audit(data, (Breaks(missing),))
    assert found.findings[0].outcome == "not asked"
    assert "Install it." in found.findings[0].sentence


def test_what_stops_the_program_is_not_swallowed(data):
    with pytest.raises(KeyboardInterrupt):
        audit(data, (Breaks(KeyboardInterrupt()),))


@pytest.mark.parametrize("word", ["T900", "t900", "breaks"])
def test_a_silenced_check_is_not_asked(data, word):
    found = audit(data, (Content(), Breaks(ValueError("asked"))), [word])
    assert [each.outcome for each in found.findings] == ["silenced", "passed"]


def test_an_unknown_check_is_refused_with_the_nearest_one(data):
    with pytest.raises(SettingError, match="Did you mean content"):
        audit(data, (Content(),), ["contnet"])


def test_who_waits_is_told_what_comes(data):
    heard: list[tuple[int, int, str]] = []
    audit(data, (Content(),), told=lambda *each: heard.append(each))
    assert heard == [(0, 1, "content"), (1, 1, "")]


def test_a_finding_is_found_by_code_and_by_name(data):
    found = audit(data, (Content(),))
    assert found.finding("t901") is found.finding("content") is found.findings[0]
    with pytest.raises(SettingError, match="T901"):
        found.finding("T999")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_has_a_page_a_question_and_a_code_of_its_own(check: Check):
    page = type(check).__doc__ or ""
    heads = ("What is asked.", "Why it matters.", "What to do.", "What it cannot see.")
    assert [head for head in heads if head not in page] == []
    assert check.question.endswith("?")
    assert check.code.startswith("T")
    assert len(check.code) == 4
    assert named(check.code) is named(check.name) is check
    codes = [each.code for each in CHECKS]
    assert codes == sorted(set(codes))


def test_a_folder_that_is_no_snapshot_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"snapshot\.json"):
        Audited(tmp_path)
