r"""Several scorers as one judge: what they say of a pair becomes one label, or none.

- **Majority** (BalancedDPO, arXiv:2503.12575, from its abstract): the picture that more scorers
  prefer. What happens when they are evenly split was not found; that there is no label then, and a
  tie where no scorer prefers either, is ours.
- **Pareto**: a picture that is at least as good to every scorer, and better to one. A label from
  dominance alone is ours; CaPO chooses its pairs from the fronts of the same order.
- **Calibrated** (CaPO, arXiv:2502.02588, from a reading note): the reward of a picture is its
  expected win rate against the other pictures of its prompt,
  $R(x) = \frac{1}{S}\sum_k \frac{1}{N-1}\sum_{x' \ne x} \sigma\bigl(s\,(r_k(x) - r_k(x'))\bigr)$,
  and the label is $\tfrac12 + \tfrac12\,(R(a) - R(b))$, as `palate train --method capo` has it (the
  paper fits the gap itself; that a label is made of it is ours). With two pictures and one scorer
  that is the scorer's own soft label.

Read next: `palate/data/calibrated.py`, the arithmetic of calibrated rewards.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, final

import numpy as np
from numpy.typing import NDArray

import palate
from palate.core.files import digest_json
from palate.core.problems import require
from palate.data.calibrated import calibrated_rewards
from palate.data.comparison import Source
from palate.label.by_score import MARGIN, Difference
from palate.label.journal import Journal
from palate.label.labeler import Answer, Pictures, Question, Told
from palate.label.scores import ASKS, NOT_FINITE, Scores, Shown, ask, kept, shown_in
from palate.scorers import Scorer

SPLIT, NO_DOMINANCE = "split", "no-dominance"
Others = Callable[[], Mapping[str, Sequence[str]]]
"""Tells prompt → digests of all its pictures, once it is asked."""


def _nobody() -> Mapping[str, Sequence[str]]:
    return {}


class Rule(Protocol):
    """How what several scorers say becomes one label."""

    name: ClassVar[str]
    compares: ClassVar[bool]
    """Whether what a picture is worth depends on the other pictures of its prompt."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its labels depend on, besides the scores."""
        ...

    def worth(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the pictures of one prompt are worth, [n, k], from scores [n, scorers]."""
        ...

    def answer(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float | str:
        """The agreement for two pictures' worth, [k] each, or the reason why there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted(ABC):
    """A rule that only asks which scorers prefer which picture.

    Attributes:
        indifference: A scorer whose scores differ by no more than this abstains, in its own unit.
    """

    indifference: float = 0.0

    compares: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _difference(self.indifference)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its labels depend on, besides the scores."""
        return {"indifference": self.indifference}

    def worth(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores themselves."""
        return scores

    @abstractmethod
    def answer(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float | str:
        """The agreement, or the reason why there is none."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Majority(_Counted):
    """The picture that more scorers prefer; a hard label."""

    name: ClassVar[str] = "majority"

    def answer(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float | str:
        """Count the votes: an even split is no label, and a tie only where nobody votes."""
        votes = _signs(first - second, self.indifference)
        if not votes.any():
            return 0.5
        return SPLIT if votes.sum() == 0 else float(votes.sum() > 0)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pareto(_Counted):
    """A label only where one picture is at least as good to all scorers, and better to one."""

    name: ClassVar[str] = "pareto"

    def answer(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float | str:
        """No scorer against it, and one for it; a tie where nobody sees a difference."""
        votes = _signs(first - second, self.indifference)
        if not votes.any():
            return 0.5
        if (votes >= 0).all():
            return 1.0
        return 0.0 if (votes <= 0).all() else NO_DOMINANCE


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A soft label from the difference of two calibrated rewards.

    Attributes:
        sharpness: What differences of scores are multiplied by, the same for every scorer, as in
            the paper's formula (1); None counts plain wins, which no scorer's unit can sway.
        margin: Smaller differences of rewards, which are in [-1, 1], give no label.
        indifference: Differences of rewards up to it are ties.
    """

    sharpness: float | None = 1.0
    margin: float = 0.0
    indifference: float = 0.0

    name: ClassVar[str] = "calibrated"
    compares: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Difference(sharpness=self.sharpness, margin=self.margin, indifference=self.indifference)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its labels depend on, besides the scores."""
        return {
            "sharpness": self.sharpness,
            "margin": self.margin,
            "indifference": self.indifference,
        }

    def worth(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected win rates, averaged over scorers, [n, 1]."""
        return calibrated_rewards(scores, self.sharpness).mean(1, keepdims=True)

    def answer(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float | str:
        """One half, and half the difference."""
        gap = float(first[0] - second[0])
        if abs(gap) < self.margin:
            return MARGIN
        # Rates are in [0, 1]; their last digits may say otherwise.
        return 0.5 if abs(gap) <= self.indifference else min(max(0.5 + 0.5 * gap, 0.0), 1.0)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Several scorers as a judge.

    Attributes:
        scorers: Who is asked, each about every picture.
        rule: How one label is made of their scores.
        others: Tells, where the rule compares: prompt → digests of its pictures, those of other
            pairs too. A calibrated reward depends on all of them, so a signature says how many
            there were.

    Raises:
        SettingError: for fewer than two scorers, or the same one twice.
    """

    scorers: tuple[Scorer, ...]
    rule: Rule
    others: Others = _nobody

    def __post_init__(self) -> None:
        require(
            len({scorer.identity for scorer in self.scorers}) == len(self.scorers) >= 2,
            got=f"scorers {', '.join(scorer.name for scorer in self.scorers)}",
            need="two or more different ones",
            fix="Name others, or leave --together out to take one scorer's labels.",
        )

    @property
    def judge(self) -> str:
        """The rule, the scorers' names, and a digest of everything."""
        names = ", ".join(sorted(scorer.name for scorer in self.scorers))
        return f"{self.rule.name} of {names} {self.identity[:12]}"

    @property
    def source(self) -> Source:
        """Scorers."""
        return "scorer"

    @property
    def identity(self) -> str:
        """Digest of the scorers, in any order, and of the rule."""
        names = sorted(scorer.identity for scorer in self.scorers)
        return digest_json(["together", self.rule.name, dict(self.rule.settings), names])

    @property
    def asks(self) -> str:
        """The journal of all scores."""
        return ASKS

    def label(
        self, questions: Sequence[Question], pictures: Pictures, journal: Journal, told: Told
    ) -> Iterator[tuple[Question, Answer]]:
        """Answer every question, after every picture was scored by every scorer."""
        asked = dict.fromkeys(question.prompt for question in questions)
        others = self.others() if self.rule.compares else {}
        more = [(prompt, name) for prompt in asked for name in others.get(prompt, ())]
        wanted = dict.fromkeys([*shown_in(questions), *more])
        scores = ask(self.scorers, wanted, pictures, journal, told)
        groups: dict[str, list[str]] = {}
        for prompt, name in wanted:
            groups.setdefault(prompt, []).append(name)
        worths = {prompt: self._worths(prompt, names, scores) for prompt, names in groups.items()}
        for question in questions:
            yield question, self._answer(question, scores, worths[question.prompt])

    def _worths(
        self, prompt: str, names: Sequence[str], scores: Scores
    ) -> dict[str, NDArray[np.float64]]:
        """What each picture of a prompt is worth; those without finite scores are left out."""
        sound = [name for name in names if all(map(math.isfinite, scores[prompt, name]))]
        if len(sound) < 2:
            return {}
        worth = self.rule.worth(np.array([scores[prompt, name] for name in sound], dtype=float))
        return dict(zip(sound, worth, strict=True))

    def _answer(
        self, question: Question, scores: Scores, worths: Mapping[str, NDArray[np.float64]]
    ) -> Answer:
        first, second = (image.sha256 for image in question.images)
        sound = first in worths and second in worths
        said = self.rule.answer(worths[first], worths[second]) if sound else NOT_FINITE
        shown: list[Shown] = [(question.prompt, first), (question.prompt, second)]
        signature: dict[str, Any] = {
            "palate": palate.__version__,
            "identity": self.identity,
            "rule": {"name": self.rule.name, **self.rule.settings},
            "scorers": [scorer.name for scorer in self.scorers],
            "scores": [[kept(score) for score in scores[each]] for each in shown],
        }
        if sound:
            signature["worth"] = [worths[first].tolist(), worths[second].tolist()]
        if self.rule.compares:
            signature["pictures"] = len(worths)
        if isinstance(said, str):
            return Answer(agreement=None, reason=said, signature=signature)
        return Answer(agreement=said, signature=signature)


def _signs(differences: NDArray[np.float64], indifference: float) -> NDArray[np.float64]:
    """Each scorer's vote: 1 for the first picture, -1 for the second, 0 for neither."""
    return np.where(np.abs(differences) <= indifference, 0.0, np.sign(differences))


def _difference(indifference: float) -> None:
    """Refuse what is no difference of scores.

    Raises:
        SettingError: when it is below 0, or not finite.
    """
    Difference(sharpness=None, indifference=indifference)
