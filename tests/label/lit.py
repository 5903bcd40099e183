"""Plain pictures whose digests say how bright they are, and questions on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from palate.data.comparison import ImageRef
from palate.label import Answer, Journal, Labeler, Question


def name(brightness: int, number: int = 0) -> str:
    """A digest; those of brighter pictures come first."""
    return f"{255 - brightness:02x}{brightness:02x}{number:060x}"


def picture(sha256: str) -> np.ndarray:
    """The picture of a digest: 8 by 8 pixels, its number in the first one."""
    made = np.full((8, 8, 3), int(sha256[2:4], 16), dtype=np.uint8)
    made[0, 0] = [int(sha256[place : place + 2], 16) for place in (58, 60, 62)]
    return made


def question(prompt: str = "a cat", bright: int = 200, dark: int = 60, number: int = 0) -> Question:
    """Whether a bright picture (the question's first) is better than a dark one."""
    names = (name(bright, number), name(dark, number))
    first, second = (ImageRef(sha256=each, width=8, height=8) for each in names)
    return Question(prompt=prompt, images=(first, second))


def ask(labeler: Labeler, questions: Sequence[Question], folder: Path) -> list[Answer]:
    """What a labeler answers, in the order of the questions."""
    with Journal(folder / f"{labeler.asks[:32]}.jsonl") as journal:
        found = {
            q.key: a for q, a in labeler.label(questions, picture, journal, lambda _, __: None)
        }
    return [found[each.key] for each in questions]
