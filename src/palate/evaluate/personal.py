"""Whether a model follows a person, or only became better for everybody.

The same prompts and the same noise are drawn for each of several users, and each user's taste
judges what was drawn for everyone. A generic gain then shows in every column alike; what only
one's own pictures gain is personal. So the question is not whether a user prefers their pictures
to the base model's, but whether they do so more than with pictures drawn for somebody else.

Shuffled means every other user: whose pictures user u is shown instead of their own runs over all
v ≠ u. Nothing is drawn to shuffle by.

The unit is the user: pictures of one user are averaged first, and the intervals say what other
users of this kind would see on these prompts. A user stands among the judges and, shuffled, among
those who are drawn for; both count (`Crossed.others`). Fewer than five users give means, and no
intervals of them. With several trainings the unit is the user of a training, so that each training
should have users of its own. That users of one training share its luck is in `by_training` only;
that prompts are shared by all users, and other prompts would give other numbers, in `two_way` only.

Read next: `two_way.py`, users and prompts both as chance; `slide.py`, between two users.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from palate.core.problems import DataError, require
from palate.core.stats import Estimate, cluster_means, outcomes, tails
from palate.evaluate.crossed import Crossed
from palate.evaluate.shares import mean_of, off_the_commonest, share_with, without_ends

Array = NDArray[np.float64]
Estimator = Callable[[Array, Sequence[tuple[int, int]]], Estimate]
Tables = dict[str, Float[np.ndarray, " u p"]]
_BY_TRAINING: Final = "own_minus_shuffled_by_training"


def shares(found: Crossed) -> Tables:
    """For each user and picture, how often the first of two models won: 1, 0, ½ for a tie.

    Where pictures were drawn for others, see `Crossed.others`. What cannot be said is left out:
    shuffled with a single user, nearest and farthest with two, pooled without such a model.
    """
    own, base, pooled = found.own, found.base, found.pooled
    table = {"own_over_base": outcomes(own, base)}
    if pooled is not None:
        table["own_over_pooled"] = outcomes(own, pooled)
        table["pooled_over_base"] = outcomes(pooled, base)
    if len(found.users) < 2:
        return table
    everyone = outcomes(found.personal, base[:, None])
    table["own_over_shuffled"] = found.others(outcomes(own[:, None], found.personal))
    table["shuffled_over_base"] = found.others(everyone)
    if pooled is not None:
        table["shuffled_over_pooled"] = found.others(outcomes(found.personal, pooled[:, None]))
    if len(found.users) > 2:
        near, far = alike(found)
        rows = np.arange(len(found.users))
        table["nearest_over_base"] = everyone[rows, near]
        table["farthest_over_base"] = everyone[rows, far]
    return table


def differences(found: Crossed) -> Tables:
    """The win rate over the base of one's own pictures minus that of others', -1 to 1.

    The same over the pooled model, where there is one: `own_minus_shuffled_over_pooled`.
    """
    table = shares(found)
    compared = {
        f"own_minus_{name}": ("own_over_base", f"{name}_over_base")
        for name in ("shuffled", "nearest", "farthest")
    } | {"own_minus_shuffled_over_pooled": ("own_over_pooled", "shuffled_over_pooled")}
    # What differs by rounding only is equal: an interval must not leave 0 for that.
    return {
        name: (table[own] - table[others]).round(12)
        for name, (own, others) in compared.items()
        if others in table
    }


def gains(found: Crossed) -> Tables:
    """Reward minus the base's, in the taste's own units; NaN where any model's is broken.

    A noise whose picture is broken for anybody is left out for all, so that own and shuffled rest
    on the same pictures.
    """
    sound = np.where(found.whole, 0.0, np.nan)
    base, personal = (np.where(found.whole, each, 0.0) for each in (found.base, found.personal))
    table = {"own_gain": np.where(found.whole, found.own, 0.0) - base + sound}
    if found.pooled is not None:
        table["pooled_gain"] = np.where(found.whole, found.pooled, 0.0) - base + sound
    if len(found.users) > 1:
        table["shuffled_gain"] = found.others(personal - base[:, None]) + sound
    return table


def alike(found: Crossed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whose taste is most and least like each user's: numbers of users, [u] each.

    By the correlation of their rewards of the base model's pictures, in which no user had a part.
    A taste that never varies is like nobody's.
    """
    sound = np.isfinite(found.base)
    rewards = np.where(sound, found.base, 0.0)
    means = rewards.sum(axis=1) / np.maximum(sound.sum(axis=1), 1)
    centred = np.where(sound, rewards - means[:, None], 0.0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    likeness, itself = unit @ unit.T, np.eye(len(found.users), dtype=bool)
    near = np.where(itself, -np.inf, likeness).argmax(axis=1)
    far = np.where(itself, np.inf, likeness).argmin(axis=1)
    return near, far


def verdicts(found: Crossed | Sequence[Crossed]) -> dict[str, Estimate]:
    """What follows for users like these: win rates, differences and gains with 95 % intervals.

    Win rates `X_over_Y` lie between 0 and 1, ties half. `own_minus_shuffled` is the win rate over
    the base of pictures drawn for the user, minus that of pictures drawn for others: above 0 the
    model follows the person. `X_gain` is in units of reward, and leaves out broken pictures.
    `nearest` and `farthest` are the users whose tastes are most and least alike. Two or more
    trainings also have `own_minus_shuffled_by_training`; see `by_training`.

    Means of fewer than five users have no ends, nor has anything shuffled between two users only.

    Args:
        found: One model's rewards, or those of several trainings, each with users of its own.

    Raises:
        DataError: when there is nothing, or trainings were asked different questions.
    """
    trainings = together(found)
    told = {
        **_estimates(map(shares, trainings), _share),
        **_estimates(map(differences, trainings), mean_of),
        **_estimates(map(gains, trainings), mean_of),
    }
    told = honest(told, trainings)
    if len(trainings) > 1 and "own_minus_shuffled" in told:
        told[_BY_TRAINING] = by_training(trainings)
    return told


def of_each_training(found: Crossed | Sequence[Crossed]) -> tuple[float, ...]:
    """`own_minus_shuffled` of every training by itself.

    Raises:
        DataError: when there is nothing, or a training has a single user.
    """
    tables = [differences(one) for one in together(found)]
    require(
        all("own_minus_shuffled" in one for one in tables),
        got="a training with a single user",
        need="at least two users, to shuffle between",
        fix="Draw for more users.",
        kind=DataError,
    )
    return tuple(float(one["own_minus_shuffled"].mean()) for one in tables)


def by_training(found: Crossed | Sequence[Crossed]) -> Estimate:
    """`own_minus_shuffled` for other trainings like these: Student's t over each one's mean.

    Users of one training were drawn for by the same weights, so that a lucky training counts for
    all of them at once. Where prompts are the same for all trainings, these are shared still.
    `n` is the number of trainings; a single one has no interval.

    Raises:
        DataError: when there is nothing, or a training has a single user.
    """
    means = np.array(of_each_training(found))
    half = np.inf
    if len(means) > 1:
        half = tails(len(means), 0.95)[0] * float(means.std(ddof=1)) / len(means) ** 0.5
    value = float(means.mean())
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        n=len(means),
        measurements=len(means),
        method="trainings, Student's t",
    )


def honest(told: dict[str, Estimate], trainings: Sequence[Crossed]) -> dict[str, Estimate]:
    """Without the ends of what was shuffled between two users: both have the same pseudo-value."""
    if all(len(each.users) > 2 for each in trainings):
        return told
    return {
        name: without_ends(one, "none: shuffled between two users") if "shuffled" in name else one
        for name, one in told.items()
    }


def together(found: Crossed | Sequence[Crossed]) -> tuple[Crossed, ...]:
    """The rewards of one or several trainings.

    Raises:
        DataError: when there is none, or a model is missing in some trainings only.
    """
    trainings = (found,) if isinstance(found, Crossed) else tuple(found)
    kinds = {tuple(shares(each)) for each in trainings}
    require(
        len(kinds) == 1,
        got=f"{len(trainings)} trainings of which {len(kinds)} different things can be said",
        need="at least one training, and the same models for all",
        fix="Draw the trainings alike, and judge them apart where they differ.",
        kind=DataError,
    )
    return trainings


def _estimates(trainings: Iterable[Tables], estimate: Estimator) -> dict[str, Estimate]:
    """An estimate of each table's values, all of one user of one training as a cluster."""
    several = list(trainings)
    found: dict[str, Estimate] = {}
    for name in several[0]:
        known = [np.isfinite(tables[name]) for tables in several]
        values = [tables[name][sound] for tables, sound in zip(several, known, strict=True)]
        units = [(at, int(user)) for at, sound in enumerate(known) for user in sound.nonzero()[0]]
        if units:
            found[name] = estimate(np.concatenate(values), units)
    return found


def _share(values: Array, units: Sequence[tuple[int, int]]) -> Estimate:
    """`cluster_share`, for users whose values may lie a little outside 0 to 1; see `others`."""
    means = cluster_means(values, units)
    spread = float(means.var(ddof=1)) / len(means) if len(means) > 1 else np.inf
    return share_with(
        float(means.mean()), spread, len(means), len(values), apart=off_the_commonest(means)
    )
