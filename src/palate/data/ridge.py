"""Who wins, from differences: a logistic regression that knows no sides.

Read next: `tuned.py`, which learns from people's labels by it.
"""

import numpy as np
from jaxtyping import Bool, Float


def ridge(
    differences: Float[np.ndarray, "n d"],
    first: Bool[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    *,
    looseness: float,
    tolerance: float,
    steps: int,
) -> Float[np.ndarray, " d"]:
    """Weights [d] under which differences best foretell who won, held near zero by a ridge.

    Without an intercept, so that swapping the sides of a pair turns the answer round.

    Args:
        differences: What is known of the first side minus the same of the second.
        first: Whether the first side won.
        weight: What each row counts.
        looseness: Variance of the weights' prior: the inverse strength of the penalty.
        tolerance: When the search stops.
        steps: When it gives up.
    """
    # Half a second to import: only those who learn wait for it.
    from sklearn.linear_model import LogisticRegression

    if len(set(first.tolist())) == 1:
        # scikit-learn wants both answers. A pair seen from its other side says the same.
        turned = np.arange(len(first)) % 2 == 0
        differences = np.where(turned[:, None], -differences, differences)
        first = first != turned
    fit = LogisticRegression(C=looseness, fit_intercept=False, tol=tolerance, max_iter=steps)
    fit.fit(differences, first, sample_weight=weight)
    return np.asarray(fit.coef_[0], np.float64)
