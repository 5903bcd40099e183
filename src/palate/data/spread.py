"""How far texts are apart, and picking some that are good and unlike each other.

The entropy of points that were drawn from some density can be estimated from the distance of each
to its k-th nearest neighbour (Kozachenko and Leonenko 1987): up to constants it is the mean of the
logarithm of these distances, times the dimension. Here the constants and the dimension are left
out, distances are between unit vectors, and a floor keeps a repeated text from minus infinity.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

Array = NDArray[np.float64]
# The neighbour whose distance counts: a text may come back twice before it costs anything.
NEIGHBOUR: Final = 3
# Distances are taken as shares of that between unrelated texts, √2, and no smaller than this one:
# one more repetition then costs 3.0, as much as three standard deviations of another component.
FLOOR: Final = 0.05
UNRELATED: Final = float(np.sqrt(2))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """How texts become vectors.

    Attributes:
        name: What the record calls it.
        embed: Texts → [n, d] vectors of length one (or zero), dense or sparse rows.
    """

    name: str
    embed: Callable[[Sequence[str]], Any]


def by_words(texts: Sequence[str]) -> Any:
    """Sparse [n, words] vectors of length one: rare words count more (TF-IDF).

    Texts are alike where they share words; synonyms are as far apart as anything.
    """
    # Half a second to import: only those who pick by text wait for it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    # A text without any word would be a vector of zeros; the mark keeps the vocabulary from being
    # empty where all are.
    tokens = [text.casefold().split() or [""] for text in texts]
    analyzer: Any = _itself
    return TfidfVectorizer(analyzer=analyzer).fit_transform(tokens).tocsr()


def _itself(tokens: Sequence[str]) -> Sequence[str]:
    return tokens


WORDS: Final = Texts(name="words (TF-IDF)", embed=by_words)


def pick(
    worth: Array, place: NDArray[np.int64], vectors: Any, *, count: int, diversity: float
) -> list[int]:
    """Take items one by one, each time the one with the best worth and distance to those taken.

    Args:
        worth: [n] what an item is worth by itself; minus infinity where it must not be taken.
        place: [n] which text it belongs to.
        vectors: [m, d] the texts' vectors, of length one, dense or sparse rows.
        count: How many to take, at most as many as may be taken.
        diversity: What the logarithm of the distance to the k-th nearest text taken is worth.

    Returns:
        Their indices, in the order they were taken. Of equals, the first.
    """
    near = np.full((NEIGHBOUR, vectors.shape[0]), np.inf)
    open_, taken = worth.copy(), list[int]()
    spread = np.zeros(vectors.shape[0])
    for _ in range(count):
        best = int(np.argmax(open_ + diversity * spread[place]))
        taken.append(best)
        open_[best] = -np.inf
        fresh = _shares(vectors, place[best])
        # Each row keeps the smaller one, and hands the larger one on.
        for row in near:
            row[:], fresh = np.minimum(row, fresh), np.maximum(row, fresh)
        spread = np.log(near[min(len(taken), NEIGHBOUR) - 1])
    return taken


def entropy(place: NDArray[np.int64], vectors: Any) -> float:
    """The k-nearest-neighbour entropy of items' texts, without its constants; 0 if unrelated.

    Args:
        place: [n] which text each item belongs to; an item's neighbours may have the same.
        vectors: [m, d] the texts' vectors, of length one, dense or sparse rows.
    """
    if len(place) < 2:
        return 0.0
    which, counts = np.unique(place, return_counts=True)
    nearest, mine = min(NEIGHBOUR, len(place) - 1), vectors[which]
    total = 0.0
    for text, count in enumerate(counts):
        shares = np.repeat(_shares(mine, text), counts)
        # The item itself is one of those at distance zero.
        total += count * float(np.log(np.partition(shares, nearest)[nearest]))
    return total / len(place)


def _shares(vectors: Any, one: int) -> Array:
    """[m] distances to one text as a share of that between unrelated ones, not below the floor."""
    row: Any = vectors[[one]]
    dense = np.asarray(row.toarray() if issparse(row) else row, np.float64)[0]
    distance = np.sqrt(np.maximum(2 - 2 * np.asarray(vectors @ dense), 0.0))
    # Also where its vector is zero: a text is no distance from itself.
    distance[one] = 0.0
    return np.maximum(distance / UNRELATED, FLOOR)
