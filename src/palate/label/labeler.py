"""What a labeler is: it is asked which of two pictures is better, and signs what it answers.

A question shows its two pictures in one order only, that of their digests, so that whatever side
they were recorded on, the same question is the same. An answer may be that there is none: a machine
that contradicts itself, or cannot tell, makes no label, and is never made to guess.

Read next: `journal.py`, which remembers what was asked, and `by_score.py`, the simplest labeler.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import DataError, require
from palate.data.comparison import ImageRef, Source
from palate.data.votes import PairKey
from palate.label.journal import Journal

Pictures = Callable[[str], NDArray[np.uint8]]
"""Digest of a picture → its pixels, uint8 [height, width, 3]."""
Told = Callable[[int, int], None]
"""Hears how far a labeler is: so many questions, pictures or requests, of how many."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which of two pictures made for one prompt is better?

    Attributes:
        prompt: What the pictures were asked to show.
        images: The pictures, the one with the smaller digest first, as in `PairKey`.
        generation: Per picture, how it was made, where recorded.
    """

    prompt: str
    images: tuple[ImageRef, ImageRef]
    generation: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None)

    def __post_init__(self) -> None:
        require(
            self.images[0].sha256 < self.images[1].sha256,
            got=f"pictures {self.images[0].sha256[:12]} and {self.images[1].sha256[:12]}",
            need="two different pictures, the smaller digest first",
            fix="Take the order of data.votes.key_of.",
            kind=DataError,
        )

    @property
    def key(self) -> PairKey:
        """The pair this question is about."""
        return self.prompt, self.images[0].sha256, self.images[1].sha256


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a labeler says of a question.

    Attributes:
        agreement: Probability that the question's first picture is preferred; 0.5 is a tie; None
            where there is no label.
        reason: Why there is none, a short word that stays the same ("margin", "contradiction", …);
            empty where there is one.
        shown: The order the pictures were shown in, as indices into the question's; None where
            both orders were asked or order means nothing.
        signature: How the answer came about (version, identity, raw answers, …), as JSON holds it.
    """

    agreement: float | None
    reason: str = ""
    shown: tuple[int, ...] | None = None
    signature: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        labelled = self.agreement is not None
        require(
            self.agreement is None or (math.isfinite(self.agreement) and 0 <= self.agreement <= 1),
            got=f"agreement {self.agreement}",
            need="a probability, or None for no label",
            fix="Answer None, and say the reason, where the labeler cannot tell.",
            kind=DataError,
        )
        require(
            labelled != bool(self.reason),
            got=f"agreement {self.agreement} with reason {self.reason!r}",
            need="a label, or the reason why there is none",
            fix="Give one of the two.",
            kind=DataError,
        )


class Labeler(Protocol):
    """Whoever makes comparisons: a scorer, several of them, a vision model, the model itself."""

    @property
    def judge(self) -> str:
        """Its name in the records: kind, model and a short digest; like no other's."""
        ...

    @property
    def source(self) -> Source:
        """What kind of judge it is: `scorer`, `vlm` or `self`."""
        ...

    @property
    def identity(self) -> str:
        """Digest of everything its answers depend on."""
        ...

    @property
    def asks(self) -> str:
        """Digest that names its journal: of what its *raw* answers depend on.

        Another margin makes other labels of the same raw answers, which are then not asked again.
        The same as `identity` where there is no such setting.
        """
        ...

    def label(
        self,
        questions: Sequence[Question],
        pictures: Pictures,
        journal: Journal,
        told: Told,
    ) -> Iterator[tuple[Question, Answer]]:
        """Answer every question once, in any order.

        What the journal knows already is not asked again; what is asked is kept in it before it
        is answered.

        Args:
            questions: Each pair once.
            pictures: Where pixels come from; raises a DataError for a missing or damaged one.
            journal: What this labeler was told so far.
            told: Hears how far it is.
        """
        ...
