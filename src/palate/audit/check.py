"""What a check is: one question put to a snapshot, and an answer that can be looked into.

A check has a stable code, asks one thing, and answers with a finding: one of six outcomes, a
sentence whose numbers carry their n and interval, and the rows behind it. Its docstring is its
page: what is asked, why it matters, what to do, and what it cannot see.

Read next: `audited.py`, what checks may look at; `run.py`, which asks them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, final, get_args

from palate.core.plain import plain
from palate.data.votes import PairKey

if TYPE_CHECKING:
    from palate.audit.audited import Audited

Outcome = Literal["passed", "issue", "not applicable", "not asked", "silenced", "failed"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One piece of evidence.

    Attributes:
        ids: Ids of the snapshot's comparisons concerned; what is applied is applied to these.
        pictures: Digests of the pictures to show, the (so-called) winner first.
        note: Why, in one short sentence.
        doubt: Probability that the recorded label is not what most people would say; None where
            the check does not estimate one.
        pairs: Which pairs of these comparisons are concerned, where one ranks more pictures than
            the evidence is about; empty for all.
    """

    ids: tuple[str, ...]
    pictures: tuple[str, ...]
    note: str
    doubt: float | None = None
    pairs: tuple[PairKey, ...] = ()

    def asdict(self) -> dict[str, Any]:
        """The evidence as plain values, for JSON."""
        names = ("ids", "pictures", "note", "doubt", "pairs")
        return plain({name: getattr(self, name) for name in names})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A check's answer.

    Attributes:
        code: The check's code, such as T004.
        name: The check's name, such as cycles.
        outcome: One of six.
        sentence: What was found; every number with its n, estimates with their interval.
        rows: The evidence, the worst first.
        figures: The numbers as plain values; estimates by `Estimate.asdict`.
        doubts: Where the check estimates a doubt of every record, small ones too: id → doubt.
            Rows show the large ones; weighing labels less goes by all of them.
    """

    code: str
    name: str
    outcome: Outcome
    sentence: str
    rows: tuple[Row, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])
    doubts: Mapping[str, float] = field(default_factory=dict[str, float])

    def asdict(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        return plain(
            {
                "code": self.code,
                "name": self.name,
                "outcome": self.outcome,
                "sentence": self.sentence,
                "rows": [row.asdict() for row in self.rows],
                "figures": self.figures,
            }
        )


class Check(Protocol):
    """One question. Implementations are final; their docstring is their page.

    After its first line the docstring has four paragraphs, which begin with "What is asked.",
    "Why it matters.", "What to do." and "What it cannot see."; settings follow as attributes.

    Attributes:
        code: Stable: T and three digits.
        name: In words joined by hyphens.
        question: What is asked, as a question of one line.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    question: ClassVar[str]

    def ask(self, data: "Audited") -> Finding:
        """Look at a snapshot and answer. May raise: that is then the answer."""
        ...


def two_digits(probability: float) -> str:
    """A probability for people to read; an estimated one is never said to be certain."""
    words = f"{probability:.2f}"
    return {"1.00": "above 0.99", "0.00": "below 0.01"}.get(words, words)


def answer(
    check: Check,
    outcome: Outcome,
    sentence: str,
    rows: tuple[Row, ...] = (),
    figures: Mapping[str, Any] | None = None,
    doubts: Mapping[str, float] | None = None,
) -> Finding:
    """A finding under the check's own code and name."""
    return Finding(
        code=check.code,
        name=check.name,
        outcome=outcome,
        sentence=sentence,
        rows=rows,
        figures=figures or {},
        doubts=doubts or {},
    )
