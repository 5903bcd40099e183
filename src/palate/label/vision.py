"""Labels by a vision-language model on this machine: the same questions, without a network.

The probability of each answer comes from the model itself, so there is no junk, no refusal and no
cost but time. Orders, canary and what makes a contradiction are those of `asking.py`.

Read next: `talk.py`, one pair; `asking.py`, what is asked.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from palate.core.files import digest_json
from palate.data.comparison import Source
from palate.label.asking import (
    BEGUN,
    EMPTY,
    FORM,
    Asked,
    Heard,
    heard_from,
    key_of,
    unheard,
    weigh,
    wording,
)
from palate.label.journal import Journal
from palate.label.labeler import Answer, Pictures, Question, Told
from palate.label.pixels import grey_like
from palate.label.rubric import Rubric, open_rubric
from palate.label.talk import Talk
from palate.scorers.fitted import fitted


class Chooser(Protocol):
    """A model that says how probable each of a few answers is: `scorers.vision.VisionModel`."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def identity(self) -> str:
        """Digest of its weights and settings."""
        ...

    def choose(
        self,
        instruction: str,
        content: Sequence[str | NDArray[np.uint8]],
        answers: Sequence[str],
        *,
        begun: str = "",
    ) -> dict[str, float]:
        """Probability of each answer after instruction, content and a beginning."""
        ...


@final
class VisionLabeler:
    """A vision-language model as a labeler.

    Args:
        vision: The model.
        rubric: A rubric, the name of a shipped one, or a file.
        largest_side: Pictures are made smaller to fit it; None shows them as they are, within what
            the model's own image processor allows.
        canary: Whether verdicts are tried by the reversed question, see `asking.py`.
        allow_orders: Whether captions that speak to the judge are asked about.

    Raises:
        DataError: when the rubric cannot be read.
    """

    source: Source = "vlm"

    def __init__(
        self,
        vision: Chooser,
        rubric: Rubric | str | Path = "general",
        *,
        largest_side: int | None = None,
        canary: bool = True,
        allow_orders: bool = False,
    ) -> None:
        self._vision, self._side = vision, largest_side
        self._canary, self._allow = canary, allow_orders
        self.rubric = rubric if isinstance(rubric, Rubric) else open_rubric(rubric)
        raw = {
            "kind": "vision",
            "model": vision.identity,
            "rubric": self.rubric.digest,
            "largest_side": largest_side,
            "form": FORM,
        }
        self.asks = digest_json(raw)
        kept = {"canary": canary, "allow_orders": allow_orders}
        self.identity = digest_json({"asks": self.asks, **kept})
        self.judge = f"vlm {vision.name} {self.identity[:8]}"

    def label(
        self, questions: Sequence[Question], pictures: Pictures, journal: Journal, told: Told
    ) -> Iterator[tuple[Question, Answer]]:
        """Answer every question once, in their order."""
        for done, question in enumerate(questions, start=1):
            answer = self._one(question, pictures, journal)
            told(done, len(questions))
            yield question, answer

    def _one(self, question: Question, pictures: Pictures, journal: Journal) -> Answer:
        judge = {
            "identity": self.identity,
            "model": self._vision.name,
            "weights": self._vision.identity,
        }
        talk = Talk.begin(
            question,
            judge=judge,
            rubric=self.rubric,
            canary=self._canary,
            allow_orders=self._allow,
        )
        while asked := talk.next():
            key = key_of(question, asked)
            known = journal.known(key)
            if known is None:
                known = self._ask(question, asked, pictures).asdict()
                journal.keep(key, known)
            talk.hear(asked, heard_from(known))
        return talk.answer()

    def _ask(self, question: Question, asked: Asked, pictures: Pictures) -> Heard:
        words = wording(self.rubric, question, asked)
        content: list[str | NDArray[np.uint8]] = [words.caption]
        for name, place in zip(words.names, asked.shown, strict=True):
            real = question.images[max(asked.shown) if place == EMPTY else place]
            pixels = fitted(pictures(real.sha256), self._side)
            content += [f"\n{name}\n", grey_like(pixels) if place == EMPTY else pixels]
        content.append(f"\n{words.question}")
        chances = self._vision.choose(words.instruction, content, self.rubric.answers, begun=BEGUN)
        raw = {"probabilities": chances, "shown": list(asked.shown)}
        weighed = weigh(chances, self.rubric)
        if weighed is None:
            return unheard("junk", **raw)
        return Heard(place=weighed[0], first=weighed[1], reason="", raw=raw)
