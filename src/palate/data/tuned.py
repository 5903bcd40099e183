"""A labeler that is tuned on people's labels without ever answering for what it was tuned on.

Scores are turned into probabilities by a logistic regression of people's labels on differences of
scores. A fit that is asked about its own labels agrees with them too well: what people's labels
should correct is then fitted away, and DeDPO's estimate is biased (the correction "over-fitted to
0"). So the prompts are dealt into folds, and every pair gets its answer from the fit that saw no
label of its fold (cross-fitting; for this estimator Zrnic and Candès, arXiv:2309.16598).

Unlabelled pairs are treated exactly alike: a prompt's fold does not depend on whether people judged
it. A pair's answer is then independent of its own label *and* of whether it has one, which is all
that the proof of DeDPO's proposition 1 asks. Answering for unlabelled pairs with the mean of all
folds would depend on the latter.

Read next: `worth.py`, which says what such labels are worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import DataError, require
from palate.data.folds import deal
from palate.data.ridge import ridge

Array = NDArray[np.float64]
FOLDS: Final = 5
# Inverse strength of the ridge penalty on opinions scaled to root mean square one: the library's
# own default, and enough to keep separable labels finite.
LOOSENESS: Final = 1.0


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuned:
    """Answers of a labeler that was tuned across folds.

    Attributes:
        agreement: [n] probability that the first picture is preferred; NaN where an opinion is
            missing.
        fold: [n] the fold of each pair, by prompt; its answer comes from a fit on the others.
        labelled: [folds] people's labels in each fold.
        scale: [k] root mean square of each opinion over all pairs, which it is divided by.
        weights: [folds, k] what the fit for each fold multiplies scaled opinions by.
    """

    agreement: Array
    fold: NDArray[np.int64]
    labelled: NDArray[np.int64]
    scale: Array
    weights: Array

    def asdict(self) -> dict[str, Any]:
        """How it was tuned, as plain values."""
        return {
            "cross_fitted": True,
            "folds": len(self.labelled),
            "labelled": self.labelled.tolist(),
            "looseness": LOOSENESS,
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
        }


def tune(
    opinions: Array, people: Array, prompts: Sequence[str], *, seed: int, folds: int = FOLDS
) -> Tuned:
    """Answers for all pairs, each from a fit that saw no label of the pair's fold.

    Args:
        opinions: [n, k] differences of k scores, the first picture's minus the second's; NaN
            where one is missing.
        people: [n] people's probability that the first is preferred; NaN where nobody judged.
        prompts: [n] the prompt of each pair; prompts that differ only in case or spacing are one.
        seed: How prompts are dealt into folds.
        folds: How many; fewer where there are fewer prompts.

    Raises:
        DataError: when people's labels lie in fewer than two folds.
    """
    fold = fold_of(prompts, seed=seed, folds=folds)
    whole = np.isfinite(opinions).all(1)
    use = whole & np.isfinite(people)
    labelled = np.bincount(fold[use], minlength=int(fold.max(initial=0)) + 1)
    require(
        int((labelled > 0).sum()) >= 2,
        got=f"people's labels on {int(use.sum())} scored pairs in {int((labelled > 0).sum())} fold",
        need="labels on prompts of at least two folds to tune on",
        fix="Keep more of people's labels (--share), or give --sharpness a number.",
        kind=DataError,
    )
    scale = np.sqrt(np.mean(np.square(opinions[whole]), 0))
    scaled = opinions / np.where(scale > 0, scale, 1.0)
    others = [use & (fold != each) for each in range(len(labelled))]
    weights = np.stack([weights_of(scaled[rows], people[rows]) for rows in others])
    return Tuned(
        agreement=answers(scaled, weights[fold]),
        fold=fold,
        labelled=labelled,
        scale=scale,
        weights=weights,
    )


def fold_of(prompts: Sequence[str], *, seed: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each pair, in a draw that nothing else is dealt by."""
    return deal(prompts, folds, seed, purpose="tuning fold")


def weights_of(scaled: Array, people: Array) -> Array:
    """[k] weights of a ridge-penalised logistic regression of people's labels on opinions.

    A label between 0 and 1 counts as that much of a win and the rest of a loss.
    """
    return ridge(
        np.concatenate([scaled, scaled]),
        np.repeat([True, False], len(people)),
        np.concatenate([people, 1 - people]),
        looseness=LOOSENESS,
        # Tighter than usual: answers should not depend on where the search happened to stop.
        tolerance=1e-8,
        steps=1000,
    )


def answers(scaled: Array, weights: Array) -> Array:
    """[n] probabilities that the first picture is preferred, from opinions and their weights."""
    logits = np.clip((scaled * weights).sum(-1), -700.0, 700.0)
    return 1 / (1 + np.exp(-logits))
