"""What a vision model is asked: a small file that anyone can copy, edit and number anew.

A rubric is a Markdown page of one form: a title with name and version, then four or five sections.
It is read strictly, because a section that was misspelt and silently left out would change every
label. Its digest is part of the labeler's name, so labels by an edited rubric are never taken for
labels by the old one, whatever version it claims.

Read next: `asking.py`, which makes questions of it.
"""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, final

from palate.core.files import digest_json
from palate.core.problems import DataError, nearest, require

_TITLE: Final = re.compile(r"#\s+(?P<name>[a-z0-9][a-z0-9-]{0,39}), version (?P<version>\d{1,6})")
_SECTIONS: Final = ("Instruction", "Question", "Reversed question", "Answers")
_PLACES: Final = ("first", "second", "tie")
_WORD: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_LARGEST: Final = 20_000
_SHIPPED: Final = ("general", "faithful")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """How two pictures are to be compared.

    Attributes:
        name: What reports call it.
        version: Raised by whoever edits it.
        instruction: What counts, for the part of a request that the model obeys.
        question: Which picture is better, in one sentence.
        reversed_question: Which picture is worse: a check, see `asking.py`.
        first: The word that stands for the picture shown first.
        second: The word that stands for the picture shown second.
        tie: The word for no difference; None where the model must choose.
    """

    name: str
    version: int
    instruction: str
    question: str
    reversed_question: str
    first: str
    second: str
    tie: str | None

    def __post_init__(self) -> None:
        small = [word.casefold() for word in self.answers]
        good = all(_WORD.fullmatch(word) for word in self.answers)
        # Else the first letters of an answer would not tell which one it is going to be.
        apart = not any(a.startswith(b) for a in small for b in small if a is not b)
        require(
            good and apart and len(set(small)) == len(small),
            got=f"the answers {', '.join(self.answers)} in rubric {self.name}",
            need="different short words of plain letters, none the beginning of another",
            fix="Take A, B and tie.",
            kind=DataError,
        )

    @property
    def answers(self) -> tuple[str, ...]:
        """The words that may be answered."""
        return (
            (self.first, self.second) if self.tie is None else (self.first, self.second, self.tie)
        )

    @property
    def digest(self) -> str:
        """Digest of every word of it."""
        return digest_json({name: getattr(self, name) for name in self.__slots__})


def open_rubric(which: str | Path = "general") -> Rubric:
    """A rubric by its name, if it came with palate, or from a file.

    Raises:
        DataError: when there is no such rubric, or its form is wrong; the place is named.
    """
    if str(which) in _SHIPPED:
        shipped = files("palate.label") / "rubrics" / f"{which}.md"
        return read_rubric(shipped.read_text(encoding="utf-8"), str(which))
    path = Path(which)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        guess = nearest(str(which), _SHIPPED)
        raise DataError(
            got=f"rubric {which}: {error}",
            need=f"one of {', '.join(_SHIPPED)}, or a readable file",
            fix=f"Did you mean {guess}?" if guess else "Check the path.",
        ) from None
    return read_rubric(text, str(path))


def shipped_text(name: str = "general") -> str:
    """The page of a rubric that came with palate, to copy and edit."""
    require(
        name in _SHIPPED,
        got=f"rubric {name!r}",
        need=f"one of {', '.join(_SHIPPED)}",
        fix="Choose one from the list.",
        kind=DataError,
    )
    return (files("palate.label") / "rubrics" / f"{name}.md").read_text(encoding="utf-8")


def read_rubric(text: str, place: str = "the rubric") -> Rubric:
    """A rubric from its page.

    Raises:
        DataError: for a wrong title, a section that is missing, unknown, empty or there twice, or
            answers that are no answers.
    """
    require(
        len(text) <= _LARGEST,
        got=f"{place} of more than {_LARGEST} characters",
        need="a rubric of a page or two",
        fix="Shorten it; the model reads it with every question.",
        kind=DataError,
    )
    lines = text.lstrip("\ufeff").splitlines()
    title = _TITLE.fullmatch(lines[0].rstrip()) if lines else None
    require(
        title is not None,
        got=f"{place}, whose first line is {(lines or [''])[0][:60]!r}",
        need="a title such as `# my-rubric, version 1`",
        fix="Write one; small letters, digits and hyphens, and a whole number.",
        kind=DataError,
    )
    sections = _sections(lines[1:], place)
    answers = _answers(sections["Answers"], place)
    name, version = (title["name"], int(title["version"])) if title else ("", 0)
    return Rubric(
        name=name,
        version=version,
        instruction=sections["Instruction"],
        question=sections["Question"],
        reversed_question=sections["Reversed question"],
        first=answers["first"],
        second=answers["second"],
        tie=answers.get("tie"),
    )


def _sections(lines: list[str], place: str) -> dict[str, str]:
    """Text of every section by its heading."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(lines, start=2):
        if line.startswith("#"):
            current = found.setdefault(_heading(line, number, found, place), [])
        elif current is not None:
            current.append(line.rstrip())
        else:
            require(
                not line.strip(),
                got=f"{line.strip()[:60]!r} before the first section (line {number} of {place})",
                need="the title, then sections",
                fix="Move it into a section.",
                kind=DataError,
            )
    texts = {name: "\n".join(text).strip() for name, text in found.items()}
    for name in _SECTIONS:
        require(
            bool(texts.get(name)),
            got=f"{place} without a section `## {name}`"
            if name not in texts
            else f"an empty {name}",
            need=f"the sections {', '.join(_SECTIONS)}",
            fix="Copy one of the shipped rubrics and edit that.",
            kind=DataError,
        )
    return texts


def _heading(line: str, number: int, found: dict[str, list[str]], place: str) -> str:
    name = line.removeprefix("##").strip()
    guess = nearest(name, _SECTIONS)
    require(
        line.startswith("## ") and name in _SECTIONS,
        got=f"{line.strip()[:60]!r} (line {number} of {place})",
        need=f"one of the sections {', '.join(f'`## {each}`' for each in _SECTIONS)}",
        fix=f"Did you mean `## {guess}`?" if guess else "Remove it.",
        kind=DataError,
    )
    require(
        name not in found,
        got=f"the section {name} twice (line {number} of {place})",
        need="every section once",
        fix="Remove one of them.",
        kind=DataError,
    )
    return name


def _answers(text: str, place: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, colon, word = (part.strip() for part in line.partition(":"))
        require(
            bool(colon) and key in _PLACES and key not in found and bool(word),
            got=f"{line[:60]!r} among the answers of {place}",
            need="`first: A`, `second: B` and, where ties are allowed, `tie: tie`, each once",
            fix="Correct that line.",
            kind=DataError,
        )
        found[key] = word
    require(
        {"first", "second"} <= set(found),
        got=f"answers for {', '.join(found) or 'nothing'} in {place}",
        need="answers for first and second",
        fix="Add the missing one, such as `second: B`.",
        kind=DataError,
    )
    return found
