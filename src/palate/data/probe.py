"""Whose is it? A logistic regression from what several people left behind.

It lies here because of what it needs: of all rooms only this one and `audit` may fit with
scikit-learn. Who asks is on another floor.

Read next: `palate/evaluate/identify.py`, which asks about embeddings of users.
"""

import numpy as np
from jaxtyping import Float, Int


def chances(
    learned: Float[np.ndarray, " n d"],
    whose: Int[np.ndarray, " n"],
    asked: Float[np.ndarray, " m d"],
    *,
    looseness: float,
    steps: int = 2000,
) -> Float[np.ndarray, " m classes"]:
    """How likely each asked row is everybody's, by a regression on rows whose owner is known.

    Features are standardised by the learned rows; one that never varies is left out of account.

    Args:
        learned: Rows to learn from.
        whose: Their owners, 0 to classes - 1; each owns at least one row.
        asked: Rows to ask about.
        looseness: Inverse strength of the penalty on the weights.
        steps: When the search gives up.
    """
    # Half a second to import: only those who ask wait for it.
    from sklearn.linear_model import LogisticRegression

    spread = learned.std(axis=0)
    scale = np.where(spread > 1e-12, spread, np.inf)
    middle = learned.mean(axis=0)
    fit = LogisticRegression(C=looseness, max_iter=steps)
    fit.fit((learned - middle) / scale, whose)
    return np.asarray(fit.predict_proba((asked - middle) / scale), np.float64)
