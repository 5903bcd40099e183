"""What every objective promises: pure, one loss per pair, and it says what it needs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from palate.core.contrast import Contrast, Verdict


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What must be collected before an objective can judge.

    Attributes:
        reference: The reference's prediction on the same noised images.
        rejected: The rejected image; false for objectives that only read chosen images.
        labels: Which labels it can use, in words.
    """

    reference: bool = False
    rejected: bool = True
    labels: str = "hard or soft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective(ABC):
    """Contrast → Verdict, without side effects.

    Subclasses are frozen dataclasses whose fields are the settings, so that an objective can be
    rebuilt from what a run record holds. They never reduce over the batch, log, gather, touch a
    device or branch on names.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    title: ClassVar[str]
    year: ClassVar[int]
    needs: ClassVar[Needs]

    @abstractmethod
    def __call__(self, pairs: Contrast) -> Verdict:
        """One loss per pair."""

    @abstractmethod
    def at_init(self) -> float | None:
        """The loss of every pair while policy and reference are equal; None if it depends."""
