"""T005: whether judges prefer the picture they were shown first, or second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import Estimate
from palate.data.agreement import asked_both_ways, position
from palate.data.votes import Vote


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """Do judges prefer the picture that they were shown first, or second?

    What is asked. Where the order shown was recorded: how often is the picture shown first the
    preferred one, over all judges and by judge? Of machines that were asked in both orders: how
    probable is it that they name the one shown first, whichever it is?

    Why it matters. Somebody who presses the left button has not looked. With sides drawn at
    random such votes are noise; where the better picture tends to stand on one side, they are a
    bias that training learns. Vision models prefer a place so strongly that every pair must be
    asked in both orders.

    What to do. Of the judges that are named, leave out the votes for the favoured place
    (`--drop T005`), weigh them less (`--downweight T005`), or ask again in both orders
    (`--relabel-queue T005`).

    What it cannot see. Anything where the order shown was not recorded, as in most public sets.
    Whether the order was drawn at random: if the better picture was put first on purpose, honest
    judges look biased. Of machines asked in both orders, only pairs that got a label are here;
    those on which a machine contradicted itself are not, so its bias is understated.

    Doubt of a vote for the favoured place assumes that a biased judge, who prefers that place in
    a share p of all votes, picked it blindly in 2p − 1 of them and looked otherwise: half of the
    blind votes are wrong, which is (2p − 1) / (2p) of the votes for that place.

    Attributes:
        fewest: Votes with a known order from which on one judge, or all, are looked at; ours.
        least: How far from one half the whole interval must be to matter; ours. Intervals hold
            for all judges and the share over all of them at once (Bonferroni).
    """

    fewest: int = 30
    least: float = 0.02

    code: ClassVar[str] = "T005"
    name: ClassVar[str] = "position-bias"
    question: ClassVar[str] = "Do judges prefer the picture they were shown first, or second?"

    def ask(self, data: Audited) -> Finding:
        """Count where the preferred picture stood."""
        placed = [vote for vote in data.votes if vote.shown_first is not None]
        strict = [vote for vote in placed if vote.first != 0.5]
        busy = self._busy(strict)
        machines = [
            judge
            for judge, each in asked_both_ways(data.rows).items()
            if each.measurements >= self.fewest
        ]
        enough = len(strict) >= self.fewest
        if not enough and not machines:
            words = (
                f"The order shown is recorded for {len(strict)} strict votes of {len(data.votes):,}"
                f"; that takes {self.fewest}. Record it as `shown` where you collect votes."
            )
            return answer(self, "not applicable", words)
        # Among many shares some are off one half by chance.
        level = 1 - 0.05 / (enough + len({*busy, *machines}))
        over_all = position(strict, confidence=level) if enough else None
        both = asked_both_ways(data.rows, confidence=level)
        one_by_one = {judge: position(votes, confidence=level) for judge, votes in busy.items()}
        every = {judge: share for judge, share in one_by_one.items() if share is not None}
        every |= {judge: both[judge] for judge in machines}
        biased = {judge: share for judge, share in every.items() if self._biased(share)}
        wrong = bool(biased) or (over_all is not None and self._biased(over_all))
        return answer(
            self,
            "issue" if wrong else "passed",
            _sentence(over_all, biased, every),
            tuple(self._rows(strict, biased)),
            {
                "shown_first_preferred": None if over_all is None else over_all.asdict(),
                "votes_with_order": len(strict),
                "ties_with_order": len(placed) - len(strict),
                "by_judge": {judge: share.asdict() for judge, share in every.items()},
                "biased": list(biased),
                "confidence": level,
            },
        )

    def _busy(self, strict: Sequence[Vote]) -> dict[str, list[Vote]]:
        """The votes of judges who gave enough."""
        by_judge: dict[str, list[Vote]] = {}
        for vote in strict:
            by_judge.setdefault(vote.judge, []).append(vote)
        return {judge: votes for judge, votes in by_judge.items() if len(votes) >= self.fewest}

    def _biased(self, share: Estimate) -> bool:
        """Whether a share is surely off one half by enough to matter."""
        return share.low > 0.5 + self.least or share.high < 0.5 - self.least

    def _rows(self, strict: Sequence[Vote], biased: Mapping[str, Estimate]) -> list[Row]:
        """The votes of biased judges for the place they favour, the most biased first."""
        rows = [
            _row(vote, biased[vote.judge].value)
            for vote in strict
            if vote.judge in biased and _chose_first(vote) == (biased[vote.judge].value > 0.5)
        ]
        return sorted(rows, key=lambda row: -(row.doubt or 0))


def _chose_first(vote: Vote) -> bool:
    return (vote.first > 0.5) == vote.shown_first


def _row(vote: Vote, share: float) -> Row:
    favoured = max(share, 1 - share)
    place = "first" if _chose_first(vote) else "second"
    _, one, other = vote.pair
    return Row(
        ids=(vote.row,),
        pictures=(one, other) if vote.first > 0.5 else (other, one),
        note=f"{vote.judge} preferred the picture shown {place}, as in {favoured:.0%} of all votes",
        doubt=(2 * favoured - 1) / (2 * favoured),
        pairs=(vote.pair,),
    )


def _with_level(share: Estimate) -> str:
    return (
        f"{share.value:.3g} ({100 * share.confidence:.4g} % interval {share.low:.3g} to "
        f"{share.high:.3g}, corrected for choosing, n = {share.n})"
    )


def _sentence(
    over_all: Estimate | None, biased: Mapping[str, Estimate], every: Mapping[str, Estimate]
) -> str:
    parts = list[str]()
    if over_all is not None:
        parts.append(
            f"The picture shown first is preferred in a share of {_with_level(over_all)} of "
            f"{over_all.measurements:,} strict votes, prompts as the unit; one half is no bias."
        )
    named = "; ".join(f"{judge}: {_with_level(share)}" for judge, share in list(biased.items())[:3])
    parts.append(
        f"Of {len(every)} judges with enough votes, {len(biased)} favour a place"
        + (f" ({named})." if named else ".")
    )
    return " ".join(parts)
