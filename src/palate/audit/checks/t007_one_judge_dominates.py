"""T007: whether one judge gave most of the judgements."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.data.aggregate import is_aggregated
from palate.data.agreement import ballots, unnamed
from palate.data.judges import JudgeFacts, judges_of
from palate.data.synthetic import MACHINES
from palate.data.votes import Vote


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OneJudgeDominates:
    """Did one judge give most of the judgements?

    What is asked. Which share of the judgements that are no machine's did the busiest judge give?
    Over how many judges are they spread, counting each by their share (the inverse of the
    probability that two judgements are by the same judge)?

    Why it matters. A model trained on such data learns that judge's taste and mistakes, and calls
    them people's. Held-out pairs by the same judge will not show it.

    What to do. Keep the busiest judge apart for evaluation (`--drop T007` takes their judgements
    out), or collect more from others. One judge is enough if it is that judge's taste you want.

    What it cannot see. Judges behind one name, one judge behind several, and anything where
    judges have no names. Machines: which kind labelled how much is T011.

    Attributes:
        most: The busiest judge's share from which on it is an issue; ours.
    """

    most: float = 0.5

    code: ClassVar[str] = "T007"
    name: ClassVar[str] = "one-judge-dominates"
    question: ClassVar[str] = "Did one judge give most of the judgements?"

    def ask(self, data: Audited) -> Finding:
        """Count judgements by judge, machines apart."""
        made_of_several = {row.id for row in data.rows if is_aggregated(row)}
        votes = [
            vote
            for vote in data.votes
            if vote.source not in MACHINES
            and not unnamed(vote.judge)
            and vote.row not in made_of_several
        ]
        if not votes:
            words = "No judgement names a judge who is no machine"
            words += ", apart from labels made of several votes." if made_of_several else "."
            return answer(self, "not applicable", words)
        counts = Counter(vote.judge for vote in votes)
        judge, most = counts.most_common(1)[0]
        share = most / len(votes)
        spread = len(votes) ** 2 / sum(count**2 for count in counts.values())
        busiest = next(each for each in judges_of(votes, ballots(votes)) if each.judge == judge)
        sentence = (
            f"{judge} gave {most:,} of {len(votes):,} judgements by {len(counts):,} named judges "
            f"({share:.0%}); weighed by their shares that is as many as {spread:.1f} equal judges. "
            + _beside_others(busiest)
        )
        wrong = share > self.most
        return answer(
            self,
            "issue" if wrong else "passed",
            sentence,
            tuple(_row(vote) for vote in votes if vote.judge == judge) if wrong else (),
            {
                "judge": judge,
                "share": share,
                "judgements": len(votes),
                "judges": len(counts),
                "equal_judges": spread,
                "busiest": busiest.asdict(),
                "by_judge": dict(counts.most_common(20)),
            },
        )


def _beside_others(busiest: JudgeFacts) -> str:
    if busiest.agreement is None:
        return "No pair was judged by that judge and by others with a majority."
    return f"Agreement with the majority of the others: {busiest.agreement}."


def _row(vote: Vote) -> Row:
    _, one, other = vote.pair
    winner = (one, other) if vote.first >= 0.5 else (other, one)
    note = f"judged by {vote.judge}"
    return Row(ids=(vote.row,), pictures=winner, note=note, pairs=(vote.pair,))
