"""T006: how many judgements are ties, and what becomes of them."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import cluster_share, wilson
from palate.data.votes import Vote


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ties:
    """How many judgements are ties, and whose?

    What is asked. The share of judgements that prefer neither picture, over all and by judge.

    Why it matters. A tie says nothing of which picture is better, so training leaves it out (or
    takes it as one half, with `ties="half"`). Some published loaders read everything but "the
    second wins" as "the first wins": there, ties become wins of the first picture. A judge who
    calls most pairs a tie is not looking, or cannot tell.

    What to do. Nothing, where few pairs are ties. Where a quarter or more are, the pictures of a
    pair are too alike, or the question was unclear: make pairs that differ more, or ask again
    (`--relabel-queue T006`).

    What it cannot see. Ties that were left out before the data came here, and judges who had no
    button for a tie and guessed.

    Attributes:
        most: The share of ties from which on it is an issue, where the interval is above it; ours.
        fewest: A judge's judgements from which on the share of ties is looked at; ours.
        idle: A judge's share of ties from which on that judge is an issue; ours.
    """

    most: float = 0.25
    fewest: int = 20
    idle: float = 0.5

    code: ClassVar[str] = "T006"
    name: ClassVar[str] = "ties"
    question: ClassVar[str] = "How many judgements are ties, and whose?"

    def ask(self, data: Audited) -> Finding:
        """Count ties over all judgements and by judge."""
        votes = data.votes
        if not votes:
            return answer(self, "not applicable", "Nobody has judged a pair.")
        tied = [vote for vote in votes if vote.first == 0.5]
        share = cluster_share(
            [float(vote.first == 0.5) for vote in votes], [vote.pair[0] for vote in votes]
        )
        idle = self._idle(votes)
        sentence = (
            f"{len(tied):,} of {len(votes):,} judgements are ties: share {share}, prompts as "
            "the unit. Training leaves them out unless it is told to take them as one half."
        )
        if idle:
            who = ", ".join(f"{judge} ({ties} of {n})" for judge, ties, n in idle[:3])
            sentence += f" Judges who mostly call a tie: {len(idle)}; first {who}."
        wrong = share.low > self.most or bool(idle)
        return answer(
            self,
            "issue" if wrong else "passed",
            sentence,
            tuple(_row(vote) for vote in tied) if wrong else (),
            {
                "ties": len(tied),
                "judgements": len(votes),
                "share": share.asdict(),
                "judges_mostly_tied": {judge: [ties, n] for judge, ties, n in idle},
            },
        )

    def _idle(self, votes: tuple[Vote, ...]) -> list[tuple[str, int, int]]:
        """Judges whose share of ties is above the limit, with ties and judgements."""
        asked = Counter(vote.judge for vote in votes)
        ties = Counter(vote.judge for vote in votes if vote.first == 0.5)
        # Among many judges some are above a limit by chance: only a clear excess counts.
        level = 1 - 0.05 / len(asked)
        return [
            (judge, ties[judge], n)
            for judge, n in asked.most_common()
            if n >= self.fewest and wilson(ties[judge], n, confidence=level).low > self.idle
        ]


def _row(vote: Vote) -> Row:
    note = f"{vote.judge} preferred neither"
    return Row(ids=(vote.row,), pictures=vote.pair[1:], note=note, pairs=(vote.pair,))
