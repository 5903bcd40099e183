"""What every objective promises: pure, one loss per pair, and it says what it needs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

from palate.core.contrast import Contrast, Verdict
from palate.core.problems import unknown

Evidence = Literal["noised", "inverted", "steps"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What must be collected before an objective can judge.

    Attributes:
        reference: The reference's prediction on the same noised images.
        rejected: The rejected image; false for objectives that only read chosen images.
        labels: Which labels it can use, in words.
        evidence: The kinds of evidence it can judge, its own first: `noised` pictures (noise
            is added to a clean one), `inverted` ones (the model led them back to noise), or the
            `steps` of pictures the policy is drawing.
        predictions: Whether it reads predictions themselves, so that errors alone will not do.
        averages: Settings that hold the decays of averaged policies, which judge as well.
        facts: Numbers that have to come with every pair; `palate.train.facts` knows them.
        whole_batch: Whether it reads `Contrast.mean`, a statistic of the whole optimizer step,
            with its default settings; `Objective.whole_batch` knows it of any settings.
        kept: Extras worth keeping pair by pair in the run's folder.
        generation: Whether the policy draws pictures while it trains.
        scorer: Whether a scorer has to judge what is drawn.
        shared_noise: Whether it compares residuals, so that both images need one noise.
        users: Whether every pair needs to be known by whom it was judged.
        steps_only: Settings that only steps can be judged by; None is without.
        settings: Settings of the run, by dotted name, that belong to the method as published;
            the run's own settings go before them.
    """

    reference: bool = False
    rejected: bool = True
    labels: str = "hard or soft"
    evidence: tuple[Evidence, ...] = ("noised",)
    predictions: bool = False
    averages: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    whole_batch: bool = False
    kept: tuple[str, ...] = ()
    generation: bool = False
    scorer: bool = False
    shared_noise: bool = False
    users: bool = False
    steps_only: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def asdict(self) -> dict[str, Any]:
        """All of it by name, for JSON."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return found | {"settings": dict(self.settings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective(ABC):
    """Contrast → Verdict, without side effects.

    Subclasses are frozen dataclasses whose fields are the settings, so that an objective can be
    rebuilt from what a run record holds. They never reduce over the batch except through
    `Contrast.mean`, never log, gather, touch a device or branch on names.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    title: ClassVar[str]
    year: ClassVar[int]
    needs: ClassVar[Needs]

    @abstractmethod
    def __call__(self, pairs: Contrast) -> Verdict:
        """One loss per pair."""

    @property
    def whole_batch(self) -> bool:
        """Whether `Contrast.mean` is read with these settings."""
        return self.needs.whole_batch

    @abstractmethod
    def at_init(self) -> float | None:
        """The loss of every pair while policy and reference are equal; None if it depends."""


@final
class Catalogue(tuple[type[Objective], ...]):
    """All objectives: a tuple of classes, which can also be asked by name.

    `OBJECTIVES["dpo"]` is a class, and `"dpo" in OBJECTIVES` tells whether there is one.
    """

    __slots__ = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(objective.name for objective in self)

    def named(self, name: str) -> type[Objective]:
        """The class of this name.

        Raises:
            SettingError: when there is none, with the nearest name.
        """
        for objective in self:
            if objective.name == name:
                return objective
        raise unknown("objective", name, self.names)

    def __getitem__(self, key: Any) -> Any:
        """A class by its name or place, or several by a slice."""
        return self.named(key) if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        """Whether a name or a class is among them."""
        return key in self.names if isinstance(key, str) else super().__contains__(key)
