"""How skilled each judge is, where nobody knows the truth: Dawid and Skene's model.

Each pair has one true answer, and each judge gives it through a table of confusions of their own.
Both are found together by expectation-maximisation (the crowd-kit package). Two things are ours.
Every pair is entered both ways round, because which picture is first means nothing. And every
judge is given a few answers that are known, mostly right, so that three lucky votes do not make
an infallible judge. Only pairs with two judges or more are fitted: a lone vote would be taken for
the truth and prove its own judge right.

Read next: `soft.py`, which makes labels of it.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, final

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import DataError, MissingExtra, require
from palate.data.agreement import Ballot, unnamed

Array = NDArray[np.float64]
# Known answers that every judge is given per truth: this many right ones, and one of each other.
_RIGHT: Final = 2
_SECOND, _TIE, _FIRST = 0, 1, 2
_CLASS: Final = {0.0: _SECOND, 0.5: _TIE, 1.0: _FIRST}


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Skills:
    """What was fitted.

    Attributes:
        confusion: By judge, the chance of each answer (row) given each truth (column), both in the
            order second, tie, first.
        anyone: The same for a judge that was not fitted: the mean of the others.
        truths: How common each truth is.
        pairs: How many pairs were fitted.
    """

    confusion: Mapping[str, Array]
    anyone: Array
    truths: Array
    pairs: int

    @property
    def judges(self) -> int:
        """How many judges were fitted."""
        return len(self.confusion)

    def first(self, ballot: Ballot) -> float:
        """Probability that the truth prefers the pair's first picture, a true tie counting half."""
        chances = self.posterior(ballot)
        return float(chances[_FIRST] + chances[_TIE] / 2)

    def posterior(self, ballot: Ballot) -> Array:
        """Probability of each truth: second, tie, first."""
        log = np.log(np.maximum(self.truths, 1e-12))
        for judge, side in ballot.sides.items():
            log = log + np.log(
                np.maximum(self.confusion.get(judge, self.anyone)[_CLASS[side]], 1e-12)
            )
        chances = np.exp(log - log.max())
        return chances / chances.sum()

    def right(self, judge: str) -> float:
        """How often a judge is right where the truth is no tie and they do not call it one."""
        table = self.confusion[judge]
        return float(table[_FIRST, _FIRST] / (table[_FIRST, _FIRST] + table[_SECOND, _FIRST]))


def fit_skills(judged: Sequence[Ballot]) -> Skills:
    """Fit every judge's confusions to all pairs that two named judges or more have judged.

    Raises:
        DataError: when no pair has three judges: then nothing tells who errs.
        MissingExtra: when the crowd-kit package is not installed.
    """
    named = [{j: s for j, s in each.sides.items() if not unnamed(j)} for each in judged]
    shared = [sides for sides in named if len(sides) > 1]
    require(
        any(len(sides) > 2 for sides in shared),
        got=f"{len(judged)} judged pairs, none of them by three named judges",
        need="some pairs that three judges or more have judged",
        fix="Use --by votes, or collect more votes on the same pairs.",
        kind=DataError,
    )
    classes = sorted({_CLASS[side] for sides in shared for side in sides.values()} | {0, 2})
    judges = sorted({judge for sides in shared for judge in sides})
    rows, gold = _known(judges, classes)
    for number, sides in enumerate(shared):
        for judge, side in sides.items():
            rows.append((2 * number, judge, _CLASS[side]))
            rows.append((2 * number + 1, judge, _CLASS[1 - side]))
    probabilities, errors = _fitted(rows, gold)
    tables = {judge: _both_ways(_table(errors.loc[judge], classes)) for judge in judges}
    real = probabilities.loc[[name for name in probabilities.index if name >= 0]]
    truths = np.zeros(3)
    truths[classes] = real[classes].to_numpy().mean(axis=0)
    return Skills(
        confusion=tables,
        anyone=np.mean(list(tables.values()), axis=0),
        truths=(truths + truths[::-1]) / 2,
        pairs=len(shared),
    )


def _known(
    judges: Sequence[str], classes: Sequence[int]
) -> tuple[list[tuple[int, str, int]], dict[int, int]]:
    """Answers of every judge to made-up pairs whose truth is known, numbered below zero."""
    rows, gold = list[tuple[int, str, int]](), dict[int, int]()
    for judge in judges:
        for truth in classes:
            for answer in [truth] * (_RIGHT - 1) + list(classes):
                number = -1 - len(gold)
                gold[number] = truth
                rows.append((number, judge, answer))
    return rows, gold


def _fitted(rows: Sequence[tuple[int, str, int]], gold: Mapping[int, int]) -> tuple[Any, Any]:
    """Posterior of every pair, and the table of every judge, as crowd-kit has them."""
    try:
        import pandas as pd
        from crowdkit.aggregation import DawidSkene
    except ImportError as error:
        raise MissingExtra(
            got="no crowd-kit package",
            need="it for Dawid and Skene's model",
            fix="Install it: pip install 'palate[labels]'.",
        ) from error
    data = pd.DataFrame(rows, columns=["task", "worker", "label"])
    with warnings.catch_warnings():
        # crowd-kit uses arguments of pandas that a later pandas will not have.
        warnings.simplefilter("ignore", DeprecationWarning)
        model = DawidSkene(n_iter=300, tol=1e-7)
        model.fit(data, cast(Any, pd.Series(gold)))
    return model.probas_, model.errors_


def _table(errors: Any, classes: Sequence[int]) -> Array:
    table = np.zeros((3, 3))
    found = errors.reindex(index=classes, columns=classes).fillna(0.0).to_numpy(np.float64)
    table[np.ix_(classes, classes)] = found
    return table


def _both_ways(table: Array) -> Array:
    """The same table if first and second change places, to the last digit."""
    return (table + table[::-1, ::-1]) / 2
