"""Numbers that come with every pair, for the objectives that need them.

Who brings a fact may also change the pairs: two labels of the same pictures become one pair.

Read next: `labels.py`, the scores and other labels they are made from.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np

from palate.core.files import digest_json
from palate.core.problems import DataError, require, unknown
from palate.data.calibrated import calibrated_rewards, fronts
from palate.data.pairs import Pair, PreferencePairs
from palate.data.synthetic import Both, drawn_at_random, side_by_side, toward
from palate.objectives import OBJECTIVES
from palate.train.labels import Scores, relabel
from palate.train.run import Run

Numbers = Mapping[str, float]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Pairs, and what is known of each.

    Attributes:
        pairs: The pairs.
        facts: Name → pair id → number.
        about: How they came to be, for the record.
    """

    pairs: PreferencePairs
    facts: Mapping[str, Numbers] = field(default_factory=lambda: MappingProxyType({}))
    about: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def digest(self) -> str:
        """SHA-256 of the facts of all pairs."""
        return digest_json({name: dict(numbers) for name, numbers in self.facts.items()})


Bringer = Callable[[Run, PreferencePairs, Scores], Known]


def label_pairs(run: Run, pairs: PreferencePairs, scores: Scores) -> Known:
    """The pairs with the labels the run asks for, and what its objective needs to know of each.

    Raises:
        SettingError: when nobody knows how to find one of these facts.
        DataError: when the data does not hold what one of them is made from.
    """
    judged, about = relabel(run, pairs, scores)
    known = collect_facts(run, judged, scores)
    return replace(known, about={**about, **known.about})


def collect_facts(run: Run, pairs: PreferencePairs, scores: Scores) -> Known:
    """What the run's objective needs to know of each pair.

    Raises:
        SettingError: when nobody knows how to find one of them.
        DataError: when the data does not hold what one of them is made from.
    """
    needs = OBJECTIVES.named(run.objective.name).needs
    for name in needs.facts:
        if name not in FACTS:
            raise unknown("fact", name, FACTS)
    found = Known(pairs=pairs)
    for bring in dict.fromkeys(FACTS[name] for name in needs.facts):
        more = bring(run, found.pairs, scores)
        found = Known(
            pairs=more.pairs,
            facts={**found.facts, **more.facts},
            about={**found.about, **more.about},
        )
    return found


def redeemed(run: Run, pairs: PreferencePairs, scores: Scores) -> Known:
    """1 where the rejected picture won another comparison of its prompt, else 0.

    Held-out judgements are not asked about training pairs, nor the other way round.
    """
    numbers: dict[str, float] = {}
    for side in _split(run, pairs):
        winners = {(pair.prompt, pair.chosen) for pair in side if pair.agreement > 0.5}
        numbers |= {pair.id: float((pair.prompt, pair.rejected) in winners) for pair in side}
    return Known(
        pairs=pairs, facts={"redeemed": numbers}, about={"redeemed": sum(numbers.values())}
    )


def debiased(run: Run, pairs: PreferencePairs, scores: Scores) -> Known:
    """A machine's label for every pair, and how strongly people's labels correct it.

    `synthetic` is the machine's probability that the chosen picture is preferred; `correction`
    is n/n_labelled, counted once over all training pairs, where people judged, and 0 elsewhere.

    Raises:
        DataError: when a machine's labels are missing, when no training pair has people's, or
            when the pairs that have them are not known to be a random part.
    """
    both = side_by_side(pairs)
    if run.labels.synthetic == "data":
        _refuse_gaps(run, both)
    _refuse_choice(run, pairs, both)
    merged = pairs.relabelled([each.pair for each in both])
    labelled = {each.pair.id for each in both if each.people is not None}
    train, _ = _split(run, merged)
    count = sum(pair.id in labelled for pair in train)
    require(
        count > 0,
        got=f"{len(train)} training pairs, none of them judged by people",
        need="people's labels on a random part of them",
        fix="Make such a snapshot: palate data label-part PEOPLES-PAIRS OUT --scorer …",
        kind=DataError,
    )
    ratio = len(train) / count
    # Where the model labels, one half stands in until it is asked.
    synthetic = {each.pair.id: each.machine if each.machine is not None else 0.5 for each in both}
    return Known(
        pairs=merged,
        facts={
            "synthetic": dict.fromkeys(synthetic, 0.5)
            if run.labels.synthetic == "self"
            else synthetic,
            "correction": {pair.id: ratio if pair.id in labelled else 0.0 for pair in merged},
        },
        about={"training pairs": len(train), "labelled by people": count, "correction": ratio},
    )


def calibrated(run: Run, pairs: PreferencePairs, scores: Scores) -> Known:
    """How much higher the chosen picture's calibrated reward is than the rejected one's.

    A picture's calibrated reward is its expected win rate against the other pictures of its
    prompt, averaged over `labels.scorers` (CaPO, from a reading note of the paper). A pair is
    turned as these rewards say, and kept where no picture of the prompt is better than the
    chosen one, or worse than the rejected one, to every scorer.

    Without scorers nothing is known, and the objective takes the label's own gap.
    """
    if not run.labels.scorers:
        return Known(pairs=pairs)
    once = [each.pair for each in side_by_side(pairs)]
    opened = [scores.open(words) for words in run.labels.scorers]
    said = [scores.of(scorer, pairs, once) for scorer in opened]
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in once:
        names = ((pair.prompt, pair.chosen), (pair.prompt, pair.rejected))
        if all(name in each for each in said for name in names):
            groups[pair.prompt].append(pair)
    kept: list[Pair] = []
    gaps: dict[str, float] = {}
    for prompt, group in groups.items():
        names = sorted({name for pair in group for name in (pair.chosen, pair.rejected)})
        table = np.array([[each[prompt, name] for each in said] for name in names])
        rewards = calibrated_rewards(table, run.labels.sharpness)
        worth, (upper, lower) = dict(zip(names, rewards.mean(1), strict=True)), fronts(rewards)
        for pair in group:
            gap = float(worth[pair.chosen] - worth[pair.rejected])
            turned = toward(pair, 0.5 + 0.5 * gap)
            if upper[names.index(turned.chosen)] and lower[names.index(turned.rejected)]:
                kept.append(turned)
                gaps[turned.id] = abs(gap)
    require(
        bool(kept),
        got=f"{len(once)} pairs, none on the fronts of {', '.join(run.labels.scorers)}",
        need="pairs that these scorers can tell apart",
        fix="Use other labels.scorers, or leave them out to take the labels' own gaps.",
        kind=DataError,
    )
    about = {"scorers": [each.identity for each in opened], "off the fronts": len(once) - len(kept)}
    return Known(pairs=pairs.relabelled(kept), facts={"reward_gap": gaps}, about=about)


# What brings each fact; one function may bring several.
FACTS: dict[str, Bringer] = {
    "redeemed": redeemed,
    "synthetic": debiased,
    "correction": debiased,
    "reward_gap": calibrated,
}


def _split(run: Run, pairs: PreferencePairs) -> tuple[PreferencePairs, PreferencePairs]:
    return pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)


def _refuse_gaps(run: Run, both: Sequence[Both]) -> None:
    missing = sum(each.machine is None for each in both)
    require(
        missing == 0,
        got=f"{missing} of {len(both)} pairs without a machine's label",
        need="a machine's label on every pair, also on those people judged",
        fix=f"palate data label-part {run.data} OUT --share 1 --scorer clip:FOLDER; or let the "
        "model label them itself with labels.synthetic=self.",
        kind=DataError,
    )


def _refuse_choice(run: Run, pairs: PreferencePairs, both: Sequence[Both]) -> None:
    labelled = sum(each.people is not None for each in both)
    require(
        labelled == len(both) or run.labels.any_draw or drawn_at_random(Path(pairs.snapshot)),
        got=f"people's labels on {labelled} of {len(both)} pairs, and no record of how these "
        "were picked",
        need="a random part of all pairs, or the correction is biased",
        fix="Draw one with `palate data label-part`, or take the risk with labels.any_draw=true.",
        kind=DataError,
    )
