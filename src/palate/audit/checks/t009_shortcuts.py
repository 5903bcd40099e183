"""T009: whether plain properties of pictures already tell winners from losers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer, two_digits
from palate.audit.crossfit import FEWEST, FOLDS, foretold
from palate.audit.looks import TRAITS
from palate.core.stats import Estimate, cluster_share
from palate.data.folds import folded
from palate.data.votes import Vote

Array = NDArray[np.float64]
PLACE: Final = "place"
LONGER: Final = ("complexity", "sharpness")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcuts:
    """Do plain properties of the pictures already tell winners from losers?

    What is asked. A probe, which is a logistic regression, sees of each pair only how much the
    two pictures differ in brightness, contrast, saturation, sharpness, bytes per pixel of the
    file, number of pixels and aspect, which stood first, and whether the third and fifth of
    these matter more under long captions. Learned on four fifths of the prompts, how often does
    it name the winner on the other fifth? And which single property tells most?

    Why it matters. What a probe of ten numbers can learn, a training learns too, and first.
    Where most winners are simply sharper, larger or brighter, the model becomes sharper, larger
    or brighter, and the evaluation by a scorer of the same habit will praise it.

    What to do. Find out whether people really like it, or whether it came in with the pictures:
    winners from one source and losers from another, another size, another compression. Make
    both alike at import, or leave out pairs that need no look (`--drop T009`).

    What it cannot see. Taste and shortcut look the same from here: where people like vivid
    colours, saturation tells winners and nothing is wrong. That is why it only speaks up above
    a limit: in the small world, where taste is made of such properties, the probe names 0.66 of
    the winners of noisy judges and 0.77 of judges without any noise, and 0.9 where the pictures
    differ in nothing else, which then is called an issue wrongly. A shortcut in a part of the
    pairs may stay below. It knows nothing of what the pictures show.

    Attributes:
        most: Share of winners named by the probe from which on it is an issue, where the whole
            interval is above it; ours.
        plain: How sure the probe must be of a label for the pair to be shown; ours.
    """

    most: float = 0.8
    plain: float = 0.9

    code: ClassVar[str] = "T009"
    name: ClassVar[str] = "shortcuts"
    question: ClassVar[str] = "Do plain properties of the pictures already tell the winner?"

    def ask(self, data: Audited) -> Finding:
        """Teach the probe by prompts, and count what it gets right on the others."""
        votes = [vote for vote in data.votes if vote.first != 0.5]
        prompts = [folded(vote.pair[0]) for vote in votes]
        if len(votes) < FEWEST or len(set(prompts)) < 2 * FOLDS:
            words = (
                f"{len(votes)} preferences on {len(set(prompts))} prompts are too few for a probe; "
                f"it needs {FEWEST} on {2 * FOLDS}."
            )
            return answer(self, "not applicable", words)
        names, seen = _differences(data, votes)
        first = np.array([vote.first for vote in votes])
        odds = foretold(seen, first, prompts)
        right = np.where(odds == 0, 0.5, (odds > 0) == (first > 0.5))
        accuracy = cluster_share(right, prompts)
        signs = np.where(first > 0.5, 1.0, -1.0)
        singles = _singles(names, seen * signs[:, None], prompts)
        best = max(singles, key=lambda name: abs(singles[name].value - 0.5))
        wrong = accuracy.low > self.most
        return answer(
            self,
            "issue" if wrong else "passed",
            self._sentence(accuracy, len(votes), best, singles[best]),
            tuple(self._rows(votes, odds * signs)) if wrong else (),
            {
                "accuracy": accuracy.asdict(),
                "limit": self.most,
                "strongest": best,
                "winner_has_more": {name: each.asdict() for name, each in singles.items()},
            },
        )

    def _sentence(self, accuracy: Estimate, votes: int, best: str, single: Estimate) -> str:
        level = f"{100 * single.confidence:.3g} %"
        return (
            f"A probe of plain properties names the winner of prompts it has not seen in a share "
            f"of {accuracy} of {votes:,} preferences (prompts as the unit; 0.5 is chance, above "
            f"{self.most:g} an issue). By itself {best} tells most: the winner has more of it in a "
            f"share of {single.value:.3g} ({level} interval {single.low:.3g} to "
            f"{single.high:.3g}, corrected for choosing, n = {single.n})."
        )

    def _rows(self, votes: Sequence[Vote], odds: Array) -> list[Row]:
        """The preferences that the probe was surest of, and right."""
        sure = 1 / (1 + np.exp(-odds))
        order = [int(at) for at in np.argsort(-sure) if sure[at] >= self.plain]
        return [
            Row(
                ids=(votes[at].row,),
                pictures=_winner_first(votes[at]),
                note=f"the probe gives this winner {two_digits(sure[at])} without looking at what "
                "it shows",
                pairs=(votes[at].pair,),
            )
            for at in order
        ]


def _winner_first(vote: Vote) -> tuple[str, str]:
    _, one, other = vote.pair
    return (one, other) if vote.first > 0.5 else (other, one)


def _differences(data: Audited, votes: Sequence[Vote]) -> tuple[tuple[str, ...], Array]:
    """Names, and for each vote how much more of each the first picture of its pair has."""
    looks = data.looks
    plain = np.array([looks.trait(v.pair[1]) - looks.trait(v.pair[2]) for v in votes])
    place = np.array([[1.0 if _stood_first(data, vote) else -1.0] for vote in votes])
    length = np.log([1 + len(vote.pair[0].split()) for vote in votes])
    longer = (length - length.mean())[:, None] * plain[:, [TRAITS.index(n) for n in LONGER]]
    names = (*TRAITS, PLACE, *(f"{name} under long captions" for name in LONGER))
    return names, np.hstack([plain, place, longer])


def _stood_first(data: Audited, vote: Vote) -> bool:
    """Whether the first picture of the pair was shown first, or is first in its record."""
    if vote.shown_first is not None:
        return vote.shown_first
    order = [image.sha256 for image in data.by_id[vote.row].images]
    return order.index(vote.pair[1]) < order.index(vote.pair[2])


def _singles(names: Sequence[str], more: Any, prompts: Sequence[str]) -> dict[str, Estimate]:
    """Per property the share of winners that have more of it; equal ones count half."""
    level = 1 - 0.05 / len(names)
    return {
        name: cluster_share(0.5 + 0.5 * np.sign(more[:, at]), prompts, confidence=level)
        for at, name in enumerate(names)
    }
