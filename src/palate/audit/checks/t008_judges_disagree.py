"""T008: whether judges agree with each other, and who does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import Estimate
from palate.data.agreement import Ballot, alpha, ballots, pairwise_agreement
from palate.data.judges import JudgeFacts, against_others, judges_of
from palate.data.shares import pooled_share
from palate.data.synthetic import MACHINES
from palate.data.votes import PairKey, Vote


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class JudgesDisagree:
    """Do judges agree with each other, and who does not?

    What is asked. On pairs that two named judges or more preferred a picture of: how far do they
    agree beyond chance (Krippendorff's alpha; 1 is full agreement, 0 is chance), and which judge
    agrees with the majority of the others clearly less than judges do on the whole? Machines are
    left out: they agree with themselves.

    Why it matters. Low agreement means that a hard label says more than is known: of two labels,
    one would have been different with another judge. A single judge who disagrees with everybody
    may be careless, may have misread the question, or may speak for a minority.

    What to do. Make soft labels of several votes (`palate data aggregate`), or train with a
    method that takes labels as uncertain (cDPO, rDPO, Adaptive-DPO). Look at the judges that are
    named before leaving them out (`--drop T008` drops their votes against the majority): dropping
    whoever disagrees makes any data agree.

    What it cannot see. Whether disagreement is error or taste; the numbers are the same. Mistakes
    that judges make together. Anything where pairs were judged once.

    Attributes:
        fewest: Pairs with two strict votes from which on agreement is looked at; ours.
        enough: Alpha that must lie within reach of the interval; 0.667 is the least that
            Krippendorff (2004) takes tentative conclusions from.
        compared: Pairs with a majority of others from which on a single judge is looked at; ours.
        behind: How far below all judges' mean agreement a judge must surely be; ours.
    """

    fewest: int = 30
    enough: float = 0.667
    compared: int = 20
    behind: float = 0.1

    code: ClassVar[str] = "T008"
    name: ClassVar[str] = "judges-disagree"
    question: ClassVar[str] = "Do judges agree with each other, and who does not?"

    def ask(self, data: Audited) -> Finding:
        """Measure agreement over all, and hold each judge against the others."""
        votes = [vote for vote in data.votes if vote.source not in MACHINES]
        judged = [
            Ballot(pair=ballot.pair, said=ballot.strict)
            for ballot in ballots(votes)
            if len(ballot.strict) > 1
        ]
        if len(judged) < self.fewest:
            words = (
                f"{len(judged)} pairs were preferred one way or the other by two named people; "
                f"agreement takes {self.fewest}."
            )
            return answer(self, "not applicable", words)
        beyond, same = alpha(judged), pairwise_agreement(judged)
        mean, odd = self._odd(votes, judged)
        divided = beyond is not None and beyond.high < self.enough
        return answer(
            self,
            "issue" if divided or odd else "passed",
            self._sentence(judged, beyond, same, mean, odd),
            tuple(_rows(votes, judged, odd)),
            {
                "alpha": None if beyond is None else beyond.asdict(),
                "pairwise_agreement": None if same is None else same.asdict(),
                "pairs": len(judged),
                "divided": divided,
                "mean_agreement": mean,
                "odd_judges": [each.asdict() for each in odd],
            },
        )

    def _odd(
        self, votes: Sequence[Vote], judged: Sequence[Ballot]
    ) -> tuple[float, list[JudgeFacts]]:
        """Mean agreement with the others, and the judges who are surely far below it."""
        held = against_others(judged)
        seen = [(same, ballot.pair[0]) for each in held.values() for ballot, same in each]
        if not seen:
            return 0.5, []
        mean = pooled_share([float(same) for same, _ in seen], [prompt for _, prompt in seen]).value
        busy = sum(len(each) >= self.compared for each in held.values())
        facts = judges_of(votes, judged, confidence=1 - 0.05 / max(busy, 1))
        odd = [
            each
            for each in facts
            if each.agreement is not None
            and each.compared >= self.compared
            and each.agreement.high < mean - self.behind
        ]
        return mean, sorted(odd, key=lambda each: each.shrunk or 0.0)

    def _sentence(
        self,
        judged: Sequence[Ballot],
        beyond: Estimate | None,
        same: Estimate | None,
        mean: float,
        odd: Sequence[JudgeFacts],
    ) -> str:
        words = (
            f"On {len(judged):,} pairs with two strict votes or more, two judges agree in a share "
            f"of {same}; Krippendorff's alpha is {beyond}, prompts as the unit, where "
            f"{self.enough:g} is wanted."
        )
        if odd:
            who = "; ".join(f"{each.judge}: {each.agreement}" for each in odd[:3])
            words += (
                f" {len(odd)} judges agree with the others' majority clearly less than all do "
                f"({mean:.2f}): {who}."
            )
        return words


def _rows(votes: Sequence[Vote], judged: Sequence[Ballot], odd: Sequence[JudgeFacts]) -> list[Row]:
    """The votes of odd judges against the majority of the others."""
    share = {each.judge: 1 - (each.shrunk or 0.0) for each in odd}
    against: set[tuple[str, PairKey]] = {
        (judge, ballot.pair)
        for judge, each in against_others(judged).items()
        if judge in share
        for ballot, same in each
        if not same
    }
    rows = [
        Row(
            ids=(vote.row,),
            pictures=vote.pair[1:] if vote.first > 0.5 else (vote.pair[2], vote.pair[1]),
            note=f"{vote.judge}, who is against the others in {share[vote.judge]:.0%} of pairs",
            pairs=(vote.pair,),
        )
        for vote in votes
        if (vote.judge, vote.pair) in against and vote.first != 0.5
    ]
    order = {each.judge: place for place, each in enumerate(odd)}
    judge_of = {vote.row: vote.judge for vote in votes}
    return sorted(rows, key=lambda row: order[judge_of[row.ids[0]]])
