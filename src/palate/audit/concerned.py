"""What an audit's findings are about: which records, which of their pairs, and how doubtful.

Read next: `apply.py`, which acts on them.
"""

from collections.abc import Collection

from palate.audit.audited import Audited
from palate.audit.check import Finding
from palate.audit.run import Audit
from palate.core.problems import require
from palate.data.votes import PairKey

# Records of a snapshot, by id, with the pairs of each that a finding is about.
Concerned = dict[str, set[PairKey]]


def finding_to_act_on(found: Audit, word: str) -> Finding:
    """A finding that can be acted on.

    Raises:
        SettingError: when there is none of that code or name, or it was not asked.
    """
    finding = found.finding(word)
    require(
        finding.outcome in ("issue", "passed", "not applicable"),
        got=f"{finding.code} {finding.name}, {finding.outcome}: {finding.sentence}",
        need="a check that was asked and has answered",
        fix=f"Ask it first, or leave {word} out.",
    )
    return finding


def concerned_by(found: Audit, data: Audited, words: Collection[str]) -> Concerned:
    """What the findings show: which records, and which of their pairs."""
    concerned: Concerned = {}
    for row in (row for word in words for row in finding_to_act_on(found, word).rows):
        only = set(row.pairs)
        for name in row.ids:
            pairs = [pair for pair in data.pairs_in(name) if not only or pair in only]
            concerned.setdefault(name, set()).update(pairs)
    return concerned


def doubts_of(found: Audit, words: Collection[str]) -> dict[str, float | None]:
    """The largest doubt of each record that is to be weighed less."""
    doubts: dict[str, float | None] = {}
    for finding in (finding_to_act_on(found, word) for word in words):
        said = [(name, row.doubt) for row in finding.rows for name in row.ids]
        for name, doubt in (*said, *finding.doubts.items()):
            known = [each for each in (doubt, doubts.get(name)) if each is not None]
            doubts[name] = max(known, default=None)
    return doubts


def ids_of(finding: Finding, *, small: bool) -> list[str]:
    """The records a finding shows; with `small`, those it doubts too little to show as well."""
    shown = {name for row in finding.rows for name in row.ids}
    return sorted(shown | set(finding.doubts) if small else shown)
