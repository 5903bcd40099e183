"""T012: how many labels are probably turned round."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Final, final

from palate.audit.audited import Audited
from palate.audit.calibration import FLIPS
from palate.audit.check import Finding, Row, answer
from palate.audit.minority import RunEvidence, doubts_by_margins
from palate.core.stats import Estimate
from palate.data.agreement import Ballot, ballots, expected_flips
from palate.data.synthetic import MACHINES
from palate.data.votes import Vote

# What u is where the truth is known: 15 runs of adaptive-dpo on labels of which a known share was
# turned round (lab/minority). Least and most of its mean over a run's pairs, and of its AUC.
KNOWN_RATES: Final = (0.05, 0.4)
KNOWN_MEANS: Final = (0.18, 0.25)
KNOWN_AREAS: Final = (0.51, 0.64)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFlips:
    """How many labels are probably turned round?

    What is asked. If every pair had one true order and every judge turned it round independently
    with the same probability ε, two votes on a pair would differ with probability 2ε(1 − ε). So
    how large is ε, from the pairs that two named people or more preferred a picture of? Where
    there are none, runs that never saw the pairs are asked instead (`--folds 2`, or `--run` of a
    run on other data): ε is then the rate that best explains how their margins agree with the
    labels.

    The minority metric u that a run of adaptive-dpo records gives no rate, and none is made of
    it: where the share of turned labels is known, its mean is the same at 5 % as at 40 %. It is
    told beside that range.

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
        told = _metric(data.evidence.run, {vote.row for vote in votes})
        rate = expected_flips(judged)
        if rate is not None and len(judged) >= self.fewest:
            rows = _outvoted(data, votes, judged, rate.value)
            words = f"{len(judged):,} pairs with two strict votes or more, prompts as the unit"
            return self._found(rate, words, rows, len(votes), {"from": "agreement", **told})
        strict = {vote.row: vote for vote in votes}
        run: RunEvidence | None = data.evidence.run
        mine = None if run is None else run.only(strict)
        if mine is None or not mine.pairs or not mine.held_out:
            words = (
                f"{len(judged)} pairs were preferred one way or the other by two named people; "
                f"that takes {self.fewest}, or runs that never learned from these pairs (--folds "
                f"2, or --run of a run on other data).{_in_words(told)}"
            )
            return answer(self, "not applicable" if not votes else "not asked", words, figures=told)
        doubts = doubts_by_margins(
            mine, FLIPS, prompts={name: vote.pair[0] for name, vote in strict.items()}
        )
        words = f"held-out margins on {len(doubts.doubt):,} pairs, prompts as the unit"
        rows = [
            _row(strict[name], doubt, "the held-out margin speaks against it")
            for name, doubt in doubts.ranked()
            if doubt >= 0.5
        ]
        return self._found(doubts.rate, words, rows, len(votes), {"from": "margins", **told})

    def _found(
        self,
        rate: Estimate,
        words: str,
        rows: Sequence[Row],
        labels: int,
        figures: Mapping[str, Any],
    ) -> Finding:
        sentence = (
            f"A share of {rate} of single strict labels is expected to be turned round, from "
            f"{words}: about {rate.value * labels:,.0f} of {labels:,} labels.{_in_words(figures)}"
        )
        wrong = rate.low > self.most
        figures = {"epsilon": rate.asdict(), "labels": labels, **figures}
        return answer(
            self, "issue" if wrong else "passed", sentence, tuple(rows) if wrong else (), figures
        )


def _metric(run: RunEvidence | None, ids: Collection[str]) -> dict[str, Any]:
    """The mean of the metric u over an adaptive run's pairs, and where it lies at known rates."""
    told = [] if run is None else [u for name, u in run.minority.items() if name in ids]
    if not told:
        return {}
    known = {"rates": KNOWN_RATES, "mean": KNOWN_MEANS, "auc": KNOWN_AREAS}
    return {"minority_metric": {"pairs": len(told), "mean": fmean(told), "known": known}}


def _in_words(figures: Mapping[str, Any]) -> str:
    if "minority_metric" not in figures:
        return ""
    told = figures["minority_metric"]
    few, many = (f"{100 * rate:g} %" for rate in KNOWN_RATES)
    return (
        f" The mean of the run's minority metric u is {told['mean']:.2f} (n = {told['pairs']:,}); "
        f"that is no rate: at known rates from {few} to {many} it was between "
        f"{KNOWN_MEANS[0]:g} and {KNOWN_MEANS[1]:g}, without any order (docs/minority.md)."
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
