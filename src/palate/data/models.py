"""Which model's pictures are preferred, over all prompts: strengths by Bradley and Terry.

Read next: `judges.py`, who said so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy import special

from palate.core.stats import Estimate
from palate.core.streams import Streams
from palate.data.comparison import Comparison
from palate.data.soft import strengths
from palate.data.votes import Vote, two_by_two


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """How a model's pictures fare against the others', by Bradley and Terry.

    Attributes:
        model: As `generation` names it.
        strength: Log-odds against a picture of average strength.
        votes: On how many votes its pictures stand.
        beats: Probability that its picture is preferred to one of average strength.
    """

    model: str
    strength: float
    votes: int
    beats: Estimate

    def asdict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "model": self.model,
            "strength": self.strength,
            "votes": self.votes,
            "beats": self.beats.asdict(),
        }


def models_of(
    rows: Sequence[Comparison], votes: Sequence[Vote], *, draws: int = 200, seed: int = 0
) -> list[ModelFacts]:
    """The models whose pictures were compared, the strongest first; empty where fewer than two.

    Intervals resample prompts. Votes on two pictures of one model say nothing here.

    Raises:
        MissingExtra: when the choix package is not installed.
    """
    made = _models(rows)
    table: dict[str, dict[tuple[str, str], list[float]]] = {}
    for vote in votes:
        prompt, first, second = vote.pair
        one, other = made.get((prompt, first)), made.get((prompt, second))
        if one is not None and other is not None and one != other:
            low, high = sorted((one, other))
            wins = vote.first if one == low else 1 - vote.first
            cell = table.setdefault(prompt, {}).setdefault((low, high), [0.0, 0.0])
            cell[0] += wins
            cell[1] += 1 - wins
    return _ranked([table[prompt] for prompt in sorted(table)], draws, seed)


def _models(rows: Sequence[Comparison]) -> dict[tuple[str, str], str]:
    """Which model made a picture, where it was recorded."""
    return {
        (two.prompt, image.sha256): str(facts["model"])
        for row in rows
        for two in two_by_two(row)
        for image, facts in zip(two.images, two.generation, strict=True)
        if facts is not None and facts.get("model")
    }


def _ranked(
    prompts: Sequence[Mapping[tuple[str, str], Sequence[float]]], draws: int, seed: int
) -> list[ModelFacts]:
    couples = sorted({couple for each in prompts for couple in each})
    names = sorted({name for couple in couples for name in couple})
    if not names:
        return []
    wins = np.array([[each.get(couple, (0.0, 0.0)) for couple in couples] for each in prompts])
    found = _strengths(couples, wins.sum(axis=0))
    count = len(prompts)
    generator = Streams(seed)("models", count).numpy()
    again = [
        _strengths(couples, wins[generator.integers(0, count, count)].sum(axis=0))
        for _ in range(draws if count > 1 else 0)
    ]
    votes = {
        name: int(sum(wins[:, place].sum() for place, c in enumerate(couples) if name in c))
        for name in names
    }
    return [
        ModelFacts(
            model=name,
            strength=found[name],
            votes=votes[name],
            beats=_beats(found[name], [draw[name] for draw in again], count, votes[name]),
        )
        for name in sorted(names, key=lambda name: -found[name])
    ]


def _strengths(couples: Sequence[tuple[str, str]], wins: Any) -> dict[str, float]:
    # Half a vote on either side keeps a model finite that never lost.
    counted = zip(couples, wins, strict=True)
    return strengths([(*couple, float(w) + 0.5, float(v) + 0.5) for couple, (w, v) in counted])


def _beats(strength: float, again: Sequence[float], prompts: int, votes: int) -> Estimate:
    ends = np.percentile(again, [2.5, 97.5]) if again else np.array([-np.inf, np.inf])
    low, high = special.expit(ends) if again else ends
    return Estimate(
        value=float(special.expit(strength)),
        low=float(low),
        high=float(high),
        n=prompts,
        measurements=votes,
        method="cluster bootstrap of Bradley-Terry strengths",
    )
