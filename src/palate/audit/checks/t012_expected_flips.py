"""T012: how many labels are probably turned round."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.calibration import FLIPS
from palate.audit.check import Finding, Row, answer
from palate.audit.minority import RunEvidence, doubts_by_margins
from palate.core.stats import Estimate
from palate.data.agreement import Ballot, ballots, expected_flips
from palate.data.synthetic import MACHINES
from palate.data.votes import Vote


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFlips:
    """How many labels are probably turned round?

    What is asked. If every pair had one true order and every judge turned it round independently
    with the same probability ε, two votes on a pair would differ with probability 2ε(1 − ε). So
    how large is ε, from the pairs that two named people or more preferred a picture of? Where
    there are none, a run that never saw the pairs is asked instead (`--run`): ε is then the rate
    that best explains how its margins agree with the labels.

    Why it matters. A share of turned labels pulls the model back in every step. Losses that know
    ε can allow for it: cDPO and rDPO take it as `objective.epsilon`.

    What to do. Train with ε (`--method cdpo --objective.epsilon …`), make one soft label of
    several votes (`palate data aggregate`), weigh outvoted labels less (`--downweight T012`), or
    ask again (`--relabel-queue T012`).

    What it cannot see. The difference between a mistake and another taste: with divided taste ε
    is an upper bound of the mistakes. Pairs that are harder than others make it too low, because
    judges then err together. Labels on pairs that were judged once are assumed to be like those
    on pairs that were judged again.

    Doubt of a vote is 1 / (1 + ((1 − ε) / ε)^d), d votes for its side more than against it: one
    half where the votes are even, more where it was outvoted. Only these are listed.

    Attributes:
        fewest: Pairs with two strict votes from which on ε is estimated; ours.
        most: The ε that the whole interval must exceed to be an issue; ours.
    """

    fewest: int = 30
    most: float = 0.1

    code: ClassVar[str] = "T012"
    name: ClassVar[str] = "expected-flips"
    question: ClassVar[str] = "How many labels are probably turned round?"

    def ask(self, data: Audited) -> Finding:
        """From agreement where there is any, otherwise from a run that never saw the pairs."""
        votes = [vote for vote in data.votes if vote.source not in MACHINES and vote.first != 0.5]
        judged = [ballot for ballot in ballots(votes) if len(ballot.strict) > 1]
        rate = expected_flips(judged)
        if rate is not None and len(judged) >= self.fewest:
            rows = _outvoted(data, votes, judged, rate.value)
            words = f"{len(judged):,} pairs with two strict votes or more, prompts as the unit"
            return self._found(rate, words, rows, len(votes), "agreement")
        run: RunEvidence | None = data.evidence.run
        if run is None or not run.pairs or not run.held_out:
            words = (
                f"{len(judged)} pairs were preferred one way or the other by two named people; "
                f"that takes {self.fewest}, or a run that never learned from these pairs (--run)."
            )
            return answer(self, "not applicable" if not votes else "not asked", words)
        doubts = doubts_by_margins(run, FLIPS)
        words = f"held-out margins of a run on {len(doubts.doubt):,} pairs"
        strict = {vote.row: vote for vote in votes}
        rows = [
            _row(strict[name], doubt, "the run's held-out margin speaks against it")
            for name, doubt in doubts.ranked()
            if doubt >= 0.5 and name in strict
        ]
        return self._found(doubts.rate, words, rows, len(votes), "margins")

    def _found(
        self, rate: Estimate, words: str, rows: Sequence[Row], labels: int, basis: str
    ) -> Finding:
        sentence = (
            f"A share of {rate} of single strict labels is expected to be turned round, from "
            f"{words}: about {rate.value * labels:,.0f} of {labels:,} labels."
        )
        wrong = rate.low > self.most
        figures = {"epsilon": rate.asdict(), "labels": labels, "from": basis}
        return answer(
            self, "issue" if wrong else "passed", sentence, tuple(rows) if wrong else (), figures
        )


def _outvoted(
    data: Audited, votes: Sequence[Vote], judged: Sequence[Ballot], rate: float
) -> list[Row]:
    """Votes that are probably turned round, and both sides of an even split."""
    leads = {ballot.pair: sum(2 * side - 1 for side in ballot.strict.values()) for ballot in judged}
    odds = max(1 - rate, 1e-9) / max(rate, 1e-9)
    rows = [
        _row(vote, 1 / (1 + odds**lead), f"{vote.judge} is {-lead:.0f} votes behind")
        for vote in votes
        if vote.pair in leads and len(data.by_id[vote.row].images) == 2
        for lead in [leads[vote.pair] * (1 if vote.first > 0.5 else -1)]
        if lead <= 0
    ]
    return sorted(rows, key=lambda row: -(row.doubt or 0))


def _row(vote: Vote, doubt: float, note: str) -> Row:
    _, one, other = vote.pair
    winner = (one, other) if vote.first > 0.5 else (other, one)
    return Row(ids=(vote.row,), pictures=winner, note=note, doubt=doubt)
