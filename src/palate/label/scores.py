"""What scorers say of pictures: each picture asked once with its prompt, in batches, and kept.

All labelers that ask scorers write to one journal, so that another sharpness, another rule or
another company of scorers asks nothing again.

Read next: `by_score.py` and `together.py`, who make labels of scores.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from palate.core.files import digest_json
from palate.label.journal import Journal
from palate.label.labeler import Pictures, Question, Told
from palate.scorers import Scorer

AT_ONCE: Final = 64
# Names the journal that all of them share; a key says which scorer was asked.
ASKS: Final = digest_json("scores of pictures with their prompts")
NOT_FINITE: Final = "not-finite"
# A prompt and the digest of a picture → its score by each scorer, in their order.
Shown = tuple[str, str]
Scores = Mapping[Shown, Sequence[float]]


def shown_in(questions: Iterable[Question]) -> Iterator[Shown]:
    """The pictures of questions, each with its prompt, once, in order."""
    every = ((q.prompt, image.sha256) for q in questions for image in q.images)
    yield from dict.fromkeys(every)


def ask(
    scorers: Sequence[Scorer],
    shown: Iterable[Shown],
    pictures: Pictures,
    journal: Journal,
    told: Told,
) -> dict[Shown, tuple[float, ...]]:
    """The scores of pictures by every scorer; what the journal knows is not asked again.

    Args:
        scorers: Whom to ask.
        shown: Pictures, each with its prompt.
        pictures: Where pixels come from.
        journal: What was scored already.
        told: Hears how many pictures of how many every scorer has seen.

    Returns:
        One score by each scorer; it may be infinite or NaN where a scorer says so.
    """
    wanted = list(shown)
    names = [digest_json(scorer.identity) for scorer in scorers]
    found: dict[Shown, tuple[float, ...]] = {}
    told(0, len(wanted))
    for start in range(0, len(wanted), AT_ONCE):
        few = wanted[start : start + AT_ONCE]
        columns = [
            _of(scorer, name, few, pictures, journal)
            for scorer, name in zip(scorers, names, strict=True)
        ]
        found |= dict(zip(few, zip(*columns, strict=True), strict=True))
        told(len(found), len(wanted))
    return found


def _of(
    scorer: Scorer, name: str, few: Sequence[Shown], pictures: Pictures, journal: Journal
) -> list[float]:
    """One scorer's scores of a few pictures."""
    keys = [digest_json([name, *each]) for each in few]
    fresh = [place for place, key in enumerate(keys) if journal.known(key) is None]
    if fresh:
        answers = scorer.score(
            [pictures(few[place][1]) for place in fresh], [few[place][0] for place in fresh]
        )
        journal.keep_all(
            {
                keys[place]: _entry(scorer, few[place], float(answer))
                for place, answer in zip(fresh, answers, strict=True)
            }
        )
    return [_score(journal.known(key)) for key in keys]


def _entry(scorer: Scorer, shown: Shown, score: float) -> dict[str, Any]:
    """What is kept of an answer."""
    return {"scorer": scorer.name, "picture": shown[1], "score": kept(score)}


def kept(score: float) -> float | str:
    """A score as JSON holds it, which has no word for what is not finite."""
    return score if math.isfinite(score) else str(score)


def _score(entry: Mapping[str, Any] | None) -> float:
    assert entry is not None
    return float(entry["score"])
