"""A scorer's labels: the picture that scores higher is preferred, as surely as it leads.

Read next: `together.py`, several scorers on each pair.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import palate
from palate.core.files import digest_json
from palate.core.problems import require
from palate.data.comparison import Source
from palate.data.synthetic import agreement_of, exactly, manner, named
from palate.label.journal import Journal
from palate.label.labeler import Answer, Pictures, Question, Told
from palate.label.scores import ASKS, NOT_FINITE, ask, kept, shown_in
from palate.scorers import Scorer

MARGIN = "margin"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a difference of scores says.

    With sharpness s, the probability that the first picture is preferred is σ(s · difference); its
    inverse, 1/s, is the temperature. Without one the higher score wins.

    Attributes:
        sharpness: What a difference is multiplied by; None gives hard labels.
        margin: Smaller differences give no label, in the scores' own unit.
        indifference: Differences up to it are ties; 0 leaves equal scores.
    """

    sharpness: float | None = 1.0
    margin: float = 0.0
    indifference: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.sharpness is None or (self.sharpness > 0 and math.isfinite(self.sharpness)),
            got=f"sharpness {self.sharpness}",
            need="a number above 0, or none",
            fix="Use 1 for the scores' own unit, or none for hard labels.",
        )
        for name, value in (("margin", self.margin), ("indifference", self.indifference)):
            require(
                value >= 0 and math.isfinite(value),
                got=f"{name} {value}",
                need="a difference of scores, 0 or more",
                fix="Leave it out, or use a difference that you would not notice.",
            )
        require(
            self.margin == 0 or self.indifference == 0,
            got=f"margin {self.margin} with indifference {self.indifference}",
            need="one of them: small differences give no label, or a tie",
            fix="Remove one.",
        )

    def answer(self, difference: float) -> float | str:
        """The agreement that a difference gives, or the reason why it gives none."""
        if abs(difference) < self.margin:
            return MARGIN
        if abs(difference) <= self.indifference:
            return 0.5
        return agreement_of(difference, self.sharpness)

    def numbers(self) -> tuple[float | None, float, float]:
        """For a digest, in which 1 and 1.0 are the same."""
        sure = None if self.sharpness is None else float(self.sharpness)
        return sure, float(self.margin), float(self.indifference)

    def words(self) -> str:
        """For a machine's name in the records."""
        limits = {"margin": self.margin, "ties within": self.indifference}
        told = [f"{name} {exactly(value)}" for name, value in limits.items() if value]
        return " ".join([manner(self.sharpness), *told])


@final
class ScoreLabeler:
    """One scorer as a judge.

    Args:
        scorer: Who is asked.
        sharpness: As in `Difference`.
        margin: As in `Difference`.
        indifference: As in `Difference`.

    Raises:
        SettingError: for settings that make no sense.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        sharpness: float | None = 1.0,
        margin: float = 0.0,
        indifference: float = 0.0,
    ) -> None:
        self._scorer = scorer
        self._reading = Difference(sharpness=sharpness, margin=margin, indifference=indifference)

    @property
    def judge(self) -> str:
        """The scorer's name and digest, and how its scores became labels."""
        return f"{named(self._scorer.name, self._scorer.identity)} {self._reading.words()}"

    @property
    def source(self) -> Source:
        """A scorer."""
        return "scorer"

    @property
    def identity(self) -> str:
        """Digest of the scorer, and of how its scores become labels."""
        return digest_json(["by score", self._scorer.identity, *self._reading.numbers()])

    @property
    def asks(self) -> str:
        """The journal of all scores."""
        return ASKS

    def label(
        self, questions: Sequence[Question], pictures: Pictures, journal: Journal, told: Told
    ) -> Iterator[tuple[Question, Answer]]:
        """Answer every question, after every picture was scored."""
        scores = ask([self._scorer], shown_in(questions), pictures, journal, told)
        for question in questions:
            first, second = (scores[question.prompt, image.sha256][0] for image in question.images)
            yield question, self._answer(first, second)

    def _answer(self, first: float, second: float) -> Answer:
        """A score that is not finite says nothing, and nothing is guessed in its place."""
        sound = math.isfinite(first) and math.isfinite(second)
        said = self._reading.answer(first - second) if sound else NOT_FINITE
        signature = {
            "palate": palate.__version__,
            "identity": self.identity,
            "scorer": self._scorer.name,
            "scores": [kept(first), kept(second)],
        }
        if isinstance(said, str):
            return Answer(agreement=None, reason=said, signature=signature)
        return Answer(agreement=said, signature=signature)
