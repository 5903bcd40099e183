"""T011: who made the labels: people, machines, or nobody knows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import Estimate, cluster_share
from palate.data.comparison import Comparison
from palate.data.snapshot import read_imports
from palate.data.synthetic import LABELLED_PART, MACHINES

_WORDS: Final[Mapping[str, str]] = {
    "human": "by people",
    "scorer": "by scorers",
    "vlm": "by vision-language models",
    "self": "by a model being trained",
    "world": "by the small world's judges",
    "unknown": "by nobody knows whom",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSources:
    """Who made the labels?

    What is asked. How many labels are by people, by scorers, by vision-language models, by the
    model itself, or by nobody knows whom? Are people's and machines' labels on the same pairs,
    or mixed as if they were one kind?

    Why it matters. Machines' labels are many and biased, and a plain training takes them as
    people's. Mixed without care they drown the people: the result then shows the machine's
    taste under the people's name. A scorer that made labels must not judge the result.

    What to do. Say who made labels of unknown source (`palate data import --labels`). Where
    people's and machines' labels are mixed, train with a method that tells them apart (`palate
    train --method dedpo`, after `palate data label-part`), or keep one kind.

    What it cannot see. A wrong word: labels imported as people's that a machine made.
    """

    code: ClassVar[str] = "T011"
    name: ClassVar[str] = "label-sources"
    question: ClassVar[str] = "Who made the labels?"

    def ask(self, data: Audited) -> Finding:
        """Count labels by source, and pairs by the kinds that labelled them."""
        labelled = [row for row in data.rows if row.labelled]
        if not labelled:
            return answer(self, "not applicable", "Nobody has labelled a pair.")
        sources = Counter(row.source for row in labelled)
        kinds = Counter(_kinds(group) for group in data.groups.values())
        unknown = [row for row in labelled if row.source == "unknown"]
        mixed = bool(kinds["people"]) and bool(kinds["machines"] + kinds["both"])
        drawn = any(LABELLED_PART in each for each in read_imports(data.snapshot))
        machines = [row for row in labelled if row.source in MACHINES]
        parts = [
            f"{count:,} {_WORDS[source]} (share {_share(labelled, source)})"
            for source, count in sources.most_common()
        ]
        words = [f"Of {len(labelled):,} labels " + ", ".join(parts)]
        words.append(
            f"of {len(data.groups):,} pairs {kinds['people']:,} have people's labels only, "
            f"{kinds['machines']:,} machines' only, {kinds['both']:,} both, {kinds['none']:,} none"
        )
        rows = [_row(row, "nobody knows who made this label") for row in unknown]
        if mixed and not drawn:
            words.append(
                "people's and machines' labels are mixed, and no record says which pairs were "
                "left to machines, or why"
            )
            rows += [_row(row, f"{_WORDS[row.source]}: {row.judge}") for row in machines]
        figures = {
            "labels": len(labelled),
            "sources": dict(sources),
            "judges": {s: len({r.judge for r in labelled if r.source == s}) for s in sources},
            "pairs": {kind: kinds[kind] for kind in ("people", "machines", "both", "none")},
            "drawn_part": drawn,
        }
        outcome = "issue" if rows else "passed"
        return answer(self, outcome, "; ".join(words) + ".", tuple(rows), figures)


def _kinds(group: Iterable[Comparison]) -> str:
    """Who labelled a pair."""
    found = {row.source in MACHINES for row in group if row.labelled}
    return {0: "none", 2: "both"}.get(len(found), "machines" if True in found else "people")


def _share(rows: Sequence[Comparison], source: str) -> Estimate:
    return cluster_share([float(row.source == source) for row in rows], [r.prompt for r in rows])


def _row(row: Comparison, note: str) -> Row:
    pictures = [image.sha256 for image in row.images[:2]]
    if row.ranks is not None and row.ranks[0] > row.ranks[1]:
        pictures.reverse()
    return Row(ids=(row.id,), pictures=tuple(pictures), note=note)
