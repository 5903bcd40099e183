"""A check's page, made of the check itself: what is written in its docstring, nothing else.

`docs/checks.md` is all of them; a test keeps it so.
"""

import inspect
from collections.abc import Iterator, Sequence

from palate.audit.check import Check
from palate.audit.checks import CHECKS

_HEAD = """\
# The checks

Every question that `palate audit` puts to a snapshot, by code. `palate audit --explain T004` prints
one of these pages. Each is written in the check itself, under `src/palate/audit/checks/`; this page
is what `palate audit --explain all` prints. How to use them: [audit.md](audit.md).
"""


def page(check: Check) -> str:
    """A check's page, as Markdown."""
    parts = [f"## {check.code} {check.name}", f"*{check.question}*"]
    for head, text in paragraphs(check):
        parts.append(f"**{head}.** {text}" if head else text)
    settings = [f"- `{name}` = {value}: {meaning}" for name, value, meaning in settings_of(check)]
    if settings:
        parts.append("Settings:\n\n" + "\n".join(settings))
    return "\n\n".join(parts) + "\n"


def pages(checks: Sequence[Check] = CHECKS) -> str:
    """All pages, by code."""
    lines = [f"- [{each.code} {each.name}](#{_anchor(each)}): {each.question}" for each in checks]
    return "\n".join([_HEAD, *lines, "", *(page(each) for each in checks)])


def paragraphs(check: Check) -> Iterator[tuple[str, str]]:
    """The paragraphs of a check's docstring: what stands before the first full stop, and the rest.

    The first line is the question and is left out, and so are the settings.
    """
    for block in _blocks(check)[1:]:
        if block.startswith("Attributes:"):
            return
        text = block if block.startswith("$$") else " ".join(block.split())
        head, _, rest = text.partition(". ")
        short = len(head.split()) <= 6 and bool(rest)
        yield (head, rest) if short and head.startswith(("What", "Why")) else ("", text)


def settings_of(check: Check) -> Iterator[tuple[str, object, str]]:
    """A check's settings: name, value, and what it says of them."""
    block = next((each for each in _blocks(check) if each.startswith("Attributes:")), "")
    names = list[list[str]]()
    for line in inspect.cleandoc(block.removeprefix("Attributes:")).splitlines():
        if line.startswith(" ") and names:
            names[-1].append(line)
        elif line:
            names.append([line])
    for lines in names:
        name, _, meaning = " ".join(" ".join(lines).split()).partition(": ")
        yield name, getattr(check, name), meaning


def _blocks(check: Check) -> list[str]:
    return [block.strip("\n") for block in (inspect.getdoc(type(check)) or "").split("\n\n")]


def _anchor(check: Check) -> str:
    return f"{check.code} {check.name}".lower().replace(" ", "-")
