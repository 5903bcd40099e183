"""Putting every question to a snapshot, once.

A check that breaks is an answer too: its finding says `failed` and why, and the others go on.

Read next: `apply.py`, which acts on what was found.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from palate.audit.audited import Audited
from palate.audit.check import OUTCOMES, Check, Finding, answer
from palate.audit.checks import CHECKS
from palate.core.problems import MissingExtra, unknown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found.

    Attributes:
        snapshot: The folder that was looked at.
        digest: Of its rows and pictures.
        comparisons: How many rows it has.
        pairs: How many different pairs of pictures.
        pictures: How many different pictures.
        findings: One per check, in the order of their codes.
    """

    snapshot: Path
    digest: str
    comparisons: int
    pairs: int
    pictures: int
    findings: tuple[Finding, ...]

    @property
    def issues(self) -> tuple[Finding, ...]:
        """The findings that are issues."""
        return tuple(each for each in self.findings if each.outcome == "issue")

    @property
    def outcomes(self) -> dict[str, int]:
        """How many findings have each outcome."""
        found = Counter(each.outcome for each in self.findings)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def finding(self, word: str) -> Finding:
        """One finding, by code or name.

        Raises:
            SettingError: when there is none of that name.
        """
        for each in self.findings:
            if word.casefold() in (each.code.casefold(), each.name):
                return each
        raise unknown("check", word, [each.code for each in self.findings])

    def asdict(self) -> dict[str, Any]:
        """The audit as plain values, for JSON."""
        return {
            "snapshot": str(self.snapshot),
            "digest": self.digest,
            "comparisons": self.comparisons,
            "pairs": self.pairs,
            "pictures": self.pictures,
            "outcomes": self.outcomes,
            "findings": [each.asdict() for each in self.findings],
        }


def audit(
    data: Audited,
    checks: Sequence[Check] = CHECKS,
    silenced: Collection[str] = (),
    *,
    told: Callable[[int, int, str], None] | None = None,
) -> Audit:
    """Ask every check.

    Args:
        data: The snapshot, and what else is known.
        checks: Which questions.
        silenced: Codes or names of checks that are not asked; their outcome is `silenced`.
        told: Told (done, total, name of the check that comes now).

    Raises:
        SettingError: when a silenced check does not exist.
    """
    quiet = {named(word, checks).code for word in silenced}
    findings: list[Finding] = []
    for place, check in enumerate(sorted(checks, key=lambda check: check.code)):
        if told is not None:
            told(place, len(checks), check.name)
        findings.append(_silenced(check) if check.code in quiet else _asked(check, data))
    if told is not None:
        told(len(checks), len(checks), "")
    return Audit(
        snapshot=data.snapshot,
        digest=data.digest,
        comparisons=len(data.rows),
        pairs=len(data.groups),
        pictures=len(data.pictures),
        findings=tuple(findings),
    )


def named(word: str, checks: Sequence[Check] = CHECKS) -> Check:
    """The check that has this code or name.

    Raises:
        SettingError: when there is none; the nearest is named.
    """
    by_word = {key: check for check in checks for key in (check.code, check.name)}
    folded = {key.casefold(): check for key, check in by_word.items()}
    if word.casefold() not in folded:
        raise unknown("check", word, by_word)
    return folded[word.casefold()]


def _silenced(check: Check) -> Finding:
    return answer(check, "silenced", "Not asked, because it was silenced by name.")


def _asked(check: Check, data: Audited) -> Finding:
    try:
        return check.ask(data)
    except MissingExtra as missing:
        return answer(check, "not asked", str(missing))
    except Exception as error:
        words = f"The check broke: {type(error).__name__}: {error}"
        return answer(check, "failed", words)
