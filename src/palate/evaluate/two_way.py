r"""The same win rates when other prompts are to be expected as well as other users.

All users are shown the same prompts. Averaging within users says nothing of what other prompts
would have given: a prompt on which everybody's pictures improve counts for every user at once.
With users as rows and prompts as columns, the variance of the overall mean is that of rows plus
that of columns, minus what both contain of the rest (Cornfield and Tukey 1956; the pigeonhole
bootstrap, Owen 2007, estimates nearly the same):

$$V = \frac{s^2_\text{rows}}{U} + \frac{s^2_\text{columns}}{P} - \frac{s^2_\text{rest}}{UP}$$

Intervals take Student's tails of the fewer of users and prompts. As in `verdicts`, differences of
fewer than five users have none, nor has anything shuffled between two.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from palate.core.problems import DataError, require
from palate.core.stats import Estimate, tails
from palate.evaluate.crossed import Crossed
from palate.evaluate.personal import Tables, differences, honest, shares, together
from palate.evaluate.shares import can_tell, off_the_commonest, share_with

Array = NDArray[np.float64]
Estimator = Callable[[Array, int, float], Estimate]


def two_way(found: Crossed | Sequence[Crossed], *, confidence: float = 0.95) -> dict[str, Estimate]:
    """The win rates and differences of `verdicts`, for users and prompts like these.

    Pictures of one prompt are averaged first. Where there is a single user or prompt, nothing is
    known of others, and the interval has no ends.

    Raises:
        DataError: when there is nothing, or trainings were asked for other prompts.
    """
    trainings = together(found)
    require(
        len({each.prompts for each in trainings}) == 1,
        got=f"{len(trainings)} trainings with prompts of their own",
        need="the same prompts for all trainings",
        fix="Draw the same prompts, or take `verdicts`, which speak of these prompts only.",
        kind=DataError,
    )
    prompts = trainings[0].prompts
    names = list(dict.fromkeys(prompts))
    column = np.array([names.index(prompt) for prompt in prompts])
    means = np.eye(len(names))[column] / np.bincount(column)

    def each(tables: Callable[[Crossed], Tables], estimate: Estimator) -> dict[str, Estimate]:
        several = [tables(one) for one in trainings]
        rows = {name: np.concatenate([one[name] for one in several]) for name in several[0]}
        return {name: estimate(row @ means, row.size, confidence) for name, row in rows.items()}

    return honest(each(shares, _share) | each(differences, _difference), trainings)


def variance(table: Float[np.ndarray, " u p"]) -> float:
    """The variance of the overall mean when rows and columns are both drawn anew."""
    users, prompts = table.shape
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    rest = table - rows[:, None] - columns + table.mean()
    spare = (rest**2).sum() / ((users - 1) * (prompts - 1))
    alone = [rows.var(ddof=1) / users, columns.var(ddof=1) / prompts]
    # The difference of estimates may come out below what one side alone shows.
    return float(max(sum(alone) - spare / (users * prompts), *alone))


def _difference(table: Array, measurements: int, confidence: float) -> Estimate:
    fewer, value = min(table.shape), float(table.mean())
    half = np.inf
    if fewer > 1 and can_tell(len(table)):
        half = tails(fewer, confidence)[0] * float(np.sqrt(variance(table)))
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        n=fewer,
        measurements=measurements,
        confidence=confidence,
        method="users and prompts, Student's t",
    )


def _share(table: Array, measurements: int, confidence: float) -> Estimate:
    """Wilson's interval on what the table is worth in independent answers."""
    fewer, share = min(table.shape), float(table.mean())
    if fewer == 1:
        return _difference(table, measurements, confidence)
    apart = min(off_the_commonest(table.mean(axis=axis)) for axis in (0, 1))
    return share_with(
        share, variance(table), fewer, measurements, apart=apart, confidence=confidence
    )
