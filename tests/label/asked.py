"""Scorers, pictures and questions for the tests of this room."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from palate.data.comparison import ImageRef
from palate.label import Answer, Journal, Labeler, Question


def name(number: int) -> str:
    """The digest of a picture."""
    return f"{number:064x}"


def picture(sha256: str) -> np.ndarray:
    """The picture itself: its number in every pixel."""
    return np.full((4, 4, 3), int(sha256, 16), dtype=np.uint8)


def every_two(prompt: str, numbers: Sequence[int]) -> list[Question]:
    """A question on every two of some pictures of a prompt."""
    images = [ImageRef(sha256=name(number), width=4, height=4) for number in sorted(numbers)]
    return [Question(prompt=prompt, images=two) for two in combinations(images, 2)]


class Table:
    """A scorer that knows its pictures' scores by number, and counts what it is asked."""

    def __init__(self, scores: Mapping[int, float], name: str = "table") -> None:
        self.scores, self.name = dict(scores), name
        self.asked: list[tuple[str, int]] = []
        self.batches: list[int] = []

    @property
    def identity(self) -> str:
        return f"{self.name} {sorted(self.scores.items())}"

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        numbers = [int(image[0, 0, 0]) for image in images]
        self.asked += zip(prompts, numbers, strict=True)
        self.batches.append(len(numbers))
        return np.array([self.scores[number] for number in numbers])


def answers(
    labeler: Labeler,
    questions: Sequence[Question],
    folder: Path,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> list[Answer]:
    """What a labeler answers, in the order of the questions."""
    with Journal(folder / f"{labeler.asks[:32]}.jsonl") as journal:
        found = {q.key: a for q, a in labeler.label(questions, picture, journal, told)}
    return [found[question.key] for question in questions]
