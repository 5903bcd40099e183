"""Scores of several scorers made comparable: how often a picture would win among its prompt's.

A calibrated reward is an expected win rate, whatever unit the scores had (CaPO, arXiv:2502.02588,
from a reading note of the paper).

Read next: `synthetic.py`, how a difference of scores becomes a probability.
"""

import numpy as np
from numpy.typing import NDArray

from palate.data.synthetic import agreement_of


def calibrated_rewards(scores: NDArray[np.float64], sharpness: float | None) -> NDArray[np.float64]:
    """Each picture's expected win rate against the others, per scorer.

    Args:
        scores: One row per picture of a prompt, one column per scorer, [n, s].
        sharpness: What differences of scores are multiplied by; None counts plain wins.

    Returns:
        Rates in [0, 1], [n, s].
    """
    count = len(scores)
    rates = np.zeros_like(scores)
    for one in range(count):
        for column in range(scores.shape[1]):
            rates[one, column] = sum(
                agreement_of(float(scores[one, column] - scores[other, column]), sharpness)
                for other in range(count)
                if other != one
            )
    return rates / (count - 1)


def fronts(rewards: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pictures no other one beats, and which ones beat no other, in the sense of Pareto.

    Args:
        rewards: One row per picture, one column per scorer, [n, s].

    Returns:
        The upper and the lower front, [n] each.
    """
    beats = [[bool((a >= b).all() and (a > b).any()) for b in rewards] for a in rewards]
    ahead = np.array(beats)
    return ~np.any(ahead, axis=0), ~np.any(ahead, axis=1)
