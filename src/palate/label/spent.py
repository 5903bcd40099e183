"""What asking cost: requests, tokens, money where prices are known, and time.

Read next: `endpoint.py`, which spends it.
"""

from dataclasses import asdict, dataclass
from typing import Any, final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The account of one labelling, since its labeler was opened.

    Attributes:
        answered: Requests that were answered.
        remembered: Answers that were in the journal already, and cost nothing.
        retried: Requests that were made again after a failure.
        failed: Requests that were given up.
        tokens_in: Tokens read by the server, by its own count.
        tokens_out: Tokens written.
        uncounted: Answers that came without a count, and requests that failed though the server may
            have worked on them: the bill may say more than is said here.
        seconds: From the first request to the last answer.
        money: In the currency of the prices; None where no price was given.
    """

    answered: int
    remembered: int
    retried: int
    failed: int
    tokens_in: int
    tokens_out: int
    uncounted: int
    seconds: float
    money: float | None

    @property
    def rate(self) -> float:
        """Answered requests a second; 0 before the first."""
        return self.answered / self.seconds if self.seconds > 0 else 0.0

    def asdict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {**asdict(self), "rate": self.rate}

    def words(self) -> str:
        """The account in one line."""
        parts = [
            f"{self.answered} requests in {self.seconds:.1f} s ({self.rate:.1f} a second)",
            f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out",
        ]
        parts += [f"cost {self.money:.4g}"] if self.money is not None else []
        parts += [f"{self.uncounted} not counted"] if self.uncounted else []
        parts += [f"{self.remembered} remembered"] if self.remembered else []
        parts += [f"{self.retried} retried"] if self.retried else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return "; ".join(parts)
