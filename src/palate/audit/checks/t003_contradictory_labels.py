"""T003: the same two pictures judged both ways."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import cluster_share
from palate.data.synthetic import MACHINES
from palate.data.votes import PairKey, Vote


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ContradictoryLabels:
    """Were the same two pictures judged both ways?

    What is asked. Of the pairs with several judgements by people, on how many do some prefer one
    picture and some the other? The same of machines' judgements, each machine for itself. A tie
    contradicts nobody.

    Why it matters. Two opposite labels cancel in training, at the cost of two. Where one judge
    said both, at least one of the two is a mistake. Where several people judged, disagreement is
    to be expected and holds information, but only if it arrives as one soft label, not as rows
    that pull both ways.

    What to do. Make one label of several (`palate data aggregate`), or leave out the outvoted
    judgements (`--drop T003`; of a draw, both sides).

    What it cannot see. Contradictions between copies of a picture that differ in a pixel (see
    T002), and people against machines: those are counted, but are what DeDPO lives on.

    Doubt is the probability that most people would side with the others, from the votes on this
    pair alone and with every share of votes equally likely beforehand.
    """

    code: ClassVar[str] = "T003"
    name: ClassVar[str] = "contradictory-labels"
    question: ClassVar[str] = "Were the same two pictures judged both ways?"

    def ask(self, data: Audited) -> Finding:
        """Look at every pair that has at least two preferences of one kind."""
        asked: dict[PairKey, list[list[Vote]]] = {}
        for pair, votes in data.votes_on.items():
            panels = [panel for panel in _panels(votes) if len(panel) > 1]
            if panels:
                asked[pair] = panels
        if not asked:
            return answer(self, "not applicable", "No pair was judged more than once.")
        against = {
            pair: [panel for panel in panels if _both_ways(panel)] for pair, panels in asked.items()
        }
        against = {pair: panels for pair, panels in against.items() if panels}
        alone = {pair: _with_themselves(panels) for pair, panels in against.items()}
        share = cluster_share([float(pair in against) for pair in asked], [p[0] for p in asked])
        own = sum(bool(judges) for judges in alone.values())
        sentence = (
            f"{len(against):,} of {len(asked):,} pairs judged more than once were judged both ways "
            f"(share {share}, prompts as the unit); on {own:,} of them one judge said both."
        )
        rows = [
            row
            for pair, panels in against.items()
            for panel in panels
            for row in _rows(data, pair, panel, alone[pair])
        ]
        judges = Counter(judge for judges in alone.values() for judge in judges)
        figures = {
            "both_ways": len(against),
            "judged_again": len(asked),
            "share": share.asdict(),
            "by_one_judge": own,
            "judges_who_said_both": dict(judges.most_common(20)),
            "people_against_machines": sum(map(_kinds_differ, data.votes_on.values())),
        }
        rows.sort(key=lambda row: -(row.doubt or 0))
        return answer(self, "issue" if rows else "passed", sentence, tuple(rows), figures)


def _panels(votes: Sequence[Vote]) -> list[list[Vote]]:
    """The preferences of people together, and of each machine."""
    panels: dict[str, list[Vote]] = {}
    for vote in votes:
        if vote.first != 0.5:
            name = vote.judge if vote.source in MACHINES else ""
            panels.setdefault(name, []).append(vote)
    return list(panels.values())


def _both_ways(votes: Sequence[Vote]) -> bool:
    return len({vote.first > 0.5 for vote in votes}) == 2


def _with_themselves(panels: Sequence[Sequence[Vote]]) -> list[str]:
    """Judges who preferred either picture."""
    said: dict[str, list[Vote]] = {}
    for vote in (vote for panel in panels for vote in panel):
        said.setdefault(vote.judge, []).append(vote)
    return [judge for judge, votes in said.items() if _both_ways(votes)]


def _rows(data: Audited, pair: PairKey, votes: Sequence[Vote], alone: list[str]) -> list[Row]:
    """The outvoted judgements of a pair; of a draw, one row for each side."""
    sides = [[vote for vote in votes if (vote.first > 0.5) == first] for first in (True, False)]
    few = min(len(side) for side in sides)
    who = f"; {', '.join(alone[:3])} said both" if alone else ""
    return [
        Row(
            ids=tuple(dict.fromkeys(vote.row for vote in side)),
            pictures=pair[1:] if side[0].first > 0.5 else (pair[2], pair[1]),
            note=f"{len(side)} against {len(votes) - len(side)}{who}",
            doubt=_doubt(len(side), len(votes) - len(side)),
            pairs=(pair,),
        )
        for side in sides
        if len(side) == few
    ]


def _doubt(here: int, there: int) -> float:
    """Probability that more than half of all people are with the other side."""
    from scipy.special import betainc

    return float(betainc(here + 1, there + 1, 0.5))


def _kinds_differ(votes: Sequence[Vote]) -> bool:
    """Whether people prefer one picture on the whole and machines the other."""
    leads = [
        sum(vote.first - 0.5 for vote in votes if (vote.source in MACHINES) == machines)
        for machines in (True, False)
    ]
    return leads[0] * leads[1] < 0
