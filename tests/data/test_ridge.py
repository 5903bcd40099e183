"""Who wins, from differences: a regression that knows no sides."""

import numpy as np
import pytest

from palate.data.ridge import ridge


def learned(differences, first):
    weight = np.ones(len(first))
    return ridge(differences, first, weight, looseness=1.0, tolerance=1e-10, steps=1000)


def test_sides_do_not_matter_even_where_the_same_side_always_won():
    """Every pair turned so that its winner is first teaches what the pairs teach as they were."""
    random = np.random.default_rng(0)
    differences = random.normal(size=(40, 2))
    first = differences @ [2.0, -1.0] + random.normal(size=40) > 0
    winners = np.where(first[:, None], differences, -differences)
    expected = learned(differences, first)
    assert learned(winners, np.ones(40, bool)) == pytest.approx(expected, abs=1e-6)
    assert learned(-winners, np.zeros(40, bool)) == pytest.approx(expected, abs=1e-6)
    assert expected[0] > 0 > expected[1]
