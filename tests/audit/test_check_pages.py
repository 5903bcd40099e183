"""What is written about checks is what the checks say of themselves."""

import re
from dataclasses import fields

import pytest

from palate.audit.checks import CHECKS
from palate.audit.pages import page, pages, paragraphs, settings_of


def test_the_page_of_all_checks_is_made_of_them(repository):
    written = (repository / "docs" / "checks.md").read_text(encoding="utf-8")
    assert written.strip() == pages().strip(), "palate audit --explain all > docs/checks.md"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_page_has_its_four_heads_in_order(check):
    heads = [head for head, _ in paragraphs(check) if head]
    assert heads == ["What is asked", "Why it matters", "What to do", "What it cannot see"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_setting_is_described_and_shown_with_its_value(check):
    described = {name for name, _, meaning in settings_of(check) if meaning}
    names = {each.name for each in fields(check)}
    assert described == names
    for name in names:
        assert f"`{name}` = {getattr(check, name)}" in page(check)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_a_page_that_names_a_check_in_a_command_names_itself(check):
    """`--drop T003` on the page of T004 would be a slip of the pen."""
    options = re.findall(r"--(?:drop|downweight|relabel-queue|silence) (T\d{3})", page(check))
    assert set(options) <= {check.code}
