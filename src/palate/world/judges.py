"""Judges of the small world: they know the true reward, and still disagree, err and guess.

A judge compares two pictures by the reward of their own taste. They answer with Bradley-Terry
noise, σ((r(a) − r(b)) / temperature), sometimes press the wrong button (flip rate), and may call
near equals a tie. Every answer is a function of the stream it is given.

Read next: `reward.py`, what they judge by.
"""

import math
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import final

import numpy as np

from palate.core.problems import require
from palate.core.streams import Stream, Streams
from palate.world.reward import MAJORITY, OPPOSITE, SCALE, TASTE_PARTS, Taste, reward

# How far two of the shipped model's pictures for one prompt lie apart in each part: the standard
# deviation of the difference, over 300 of the shipped pairs.
SPREAD = MappingProxyType({"vividness": 0.142, "tidiness": 0.331, "composition": 0.194})


class Preference(Enum):
    """A judge's answer to "which is better, a or b?"."""

    A = "a"
    B = "b"
    TIE = "tie"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """One judge.

    Attributes:
        id: Who signs the answers, such as "judge-003".
        taste: What the judge likes.
        temperature: Noise in logit units: 1 answers as Bradley-Terry, 0 always by the reward.
        flip_rate: Chance that the answer, once made, is turned round.
        indifference: Reward differences smaller than this are called a tie; 0 knows no ties.
    """

    id: str
    taste: Taste = MAJORITY
    temperature: float = 1.0
    flip_rate: float = 0.0
    indifference: float = 0.0

    def __post_init__(self) -> None:
        for name in ("temperature", "indifference"):
            value = getattr(self, name)
            require(
                value >= 0,
                got=f"{name}={value}",
                need=f"{name} of at least 0",
                fix="Use 1 for ordinary noise, 0 for none",
            )
        require(
            0 <= self.flip_rate <= 1,
            got=f"flip_rate={self.flip_rate}",
            need="a share between 0 and 1",
            fix="Use 0.05 for one wrong button in twenty",
        )

    def chance(self, gap: float) -> float:
        """The chance of answering a when a is worth `gap` more than b to this judge, ties apart."""
        if self.temperature == 0:
            honest = 0.5 + 0.5 * np.sign(gap)
        else:
            honest = 0.5 * (1.0 + math.tanh(0.5 * gap / self.temperature))
        return float(honest * (1.0 - self.flip_rate) + (1.0 - honest) * self.flip_rate)

    def prefer_by(self, gap: float, stream: Stream) -> Preference:
        """Answer from rewards already known: `gap` is r(a) − r(b) by this judge's own taste."""
        if abs(gap) < self.indifference:
            return Preference.TIE
        return Preference.A if stream.uniform() < self.chance(gap) else Preference.B

    def prefer(
        self, image_a: np.ndarray, image_b: np.ndarray, caption: str, stream: Stream
    ) -> Preference:
        """Answer which of two pictures, uint8 [h, w, 3], is better for the caption.

        Raises:
            DataError: when the caption is none of the world's, or an array is no picture.
        """
        gap = reward(image_a, caption, self.taste) - reward(image_b, caption, self.taste)
        return self.prefer_by(gap, stream)


def population(
    n: int,
    seed: int,
    *,
    minority: float = 0.2,
    flip_rate: float = 0.05,
    temperature: float = 1.0,
    indifference: float = 0.0,
) -> list[Judge]:
    """`n` judges; a share of them, rounded, has the opposite taste. The seed says which.

    Raises:
        SettingError: for fewer than one judge, or a share outside [0, 1].
    """
    _check_size(n)
    require(
        0 <= minority <= 1,
        got=f"minority={minority}",
        need="a share between 0 and 1",
        fix="Use 0.2 for one judge in five",
    )
    order = Streams(seed)("population").permutation(n)
    dissenters = set(order[: round(minority * n)])
    return [
        Judge(
            id=f"judge-{number:03d}",
            taste=OPPOSITE if number in dissenters else MAJORITY,
            temperature=temperature,
            flip_rate=flip_rate,
            indifference=indifference,
        )
        for number in range(n)
    ]


def varied(
    n: int,
    seed: int,
    *,
    spread: float = 0.3,
    flip_rate: float = 0.05,
    temperature: float = 1.0,
    indifference: float = 0.0,
) -> list[Judge]:
    """`n` judges whose tastes differ continuously: all want fidelity, each likes other things.

    The taste weights of the majority are shifted, per judge and weight, by a normal draw of
    standard deviation `spread`. Judge k is the same in every population of the seed.
    """
    _check_size(n)
    judges = []
    for number in range(n):
        shift = spread * Streams(seed)("taste", number).numpy().normal(size=3)
        taste = Taste(
            fidelity=MAJORITY.fidelity,
            vividness=MAJORITY.vividness + float(shift[0]),
            tidiness=MAJORITY.tidiness + float(shift[1]),
            composition=MAJORITY.composition + float(shift[2]),
        )
        judges.append(
            Judge(
                id=f"judge-{number:03d}",
                taste=taste,
                temperature=temperature,
                flip_rate=flip_rate,
                indifference=indifference,
            )
        )
    return judges


def diverse(
    n: int,
    seed: int,
    *,
    strength: float = 3.0,
    fidelity: float = MAJORITY.fidelity,
    flip_rate: float = 0.05,
    temperature: float = 1.0,
    indifference: float = 0.0,
) -> list[Judge]:
    """`n` judges who agree on fidelity alone: what else they like points anywhere, evenly.

    A taste is a direction in (vividness, tidiness, composition), each in units of its natural
    spread within a pair (`SPREAD`), drawn evenly on the sphere: two judges are on average neither
    alike nor opposed, and among many some are nearly opposites (`likeness`). Judge k is the same
    in every population of the seed.

    Args:
        n: How many.
        seed: Which directions.
        strength: Standard deviation, over pairs of the shipped model's pictures, of how much more
            the taste likes one than the other, in logits and fidelity apart. At 3 half of all
            pairs are more than 2 logits apart.
        fidelity: Everybody's weight of fidelity.
        flip_rate: Chance that an answer is turned round.
        temperature: Noise of the answers, as in `Judge`.
        indifference: Reward difference below which a judge calls a tie.

    Raises:
        SettingError: for fewer than one judge, or a strength below 0.
    """
    _check_size(n)
    require(
        strength >= 0,
        got=f"strength={strength}",
        need="a strength of at least 0",
        fix="Use 3 for tastes that decide most pairs, 0 for judges who want fidelity alone.",
    )
    judges = []
    for number in range(n):
        drawn = Streams(seed)("direction", number).numpy().normal(size=len(TASTE_PARTS))
        direction = strength / SCALE * drawn / np.linalg.norm(drawn)
        weights = {
            part: float(each) / SPREAD[part]
            for part, each in zip(TASTE_PARTS, direction, strict=True)
        }
        judges.append(
            Judge(
                id=f"judge-{number:03d}",
                taste=Taste(fidelity=fidelity, **weights),
                temperature=temperature,
                flip_rate=flip_rate,
                indifference=indifference,
            )
        )
    return judges


def likeness(one: Taste, other: Taste) -> float:
    """The cosine between two tastes in units of natural spread, fidelity apart.

    1 for the same taste, −1 for opposites; 0 where either likes nothing but fidelity.
    """
    first, second = (
        np.array([getattr(taste, part) * SPREAD[part] for part in TASTE_PARTS])
        for taste in (one, other)
    )
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths > 0 else 0.0


def _check_size(n: int) -> None:
    require(n >= 1, got=f"n={n} judges", need="at least one", fix="Ask for more judges")
