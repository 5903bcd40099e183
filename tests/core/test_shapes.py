"""Shapes are types while testing: these tests prove that the hook is awake."""

import pytest
import torch
from jaxtyping import TypeCheckError

from palate.core.contrast import mean_square
from palate.core.path import Path


def test_a_wrong_shape_is_caught_by_name():
    with pytest.raises(TypeCheckError, match="shape"):
        mean_square(torch.zeros(2, 3), torch.zeros(2, 4))


def test_a_missing_batch_axis_is_caught():
    with pytest.raises(TypeCheckError):
        Path.rectified(10).noisy(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1).long())


def test_an_integer_passes_where_a_float_is_asked_for():
    from palate.objectives import DPO

    assert DPO(beta=2000).beta == 2000
