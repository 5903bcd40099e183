import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.core.problems import SettingError
from palate.data.loader import Order

SIZES = st.integers(1, 40)


@given(size=SIZES, batch=SIZES, seed=st.integers(0, 10**6), epochs=st.integers(1, 4))
def test_every_epoch_visits_every_pair_once(size: int, batch: int, seed: int, epochs: int) -> None:
    order = Order(size, batch, seed)
    steps = -(-size * epochs // batch)
    row = [index for step in range(steps) for index in order.indices(step)]
    visits = [epoch for step in range(steps) for epoch in order.visits(step)]
    for epoch in range(epochs):
        part = slice(epoch * size, (epoch + 1) * size)
        assert sorted(row[part]) == list(range(size))
        assert set(visits[part]) == {epoch}


@given(size=SIZES, batch=SIZES, step=st.integers(0, 10**9))
def test_a_step_is_the_same_whatever_was_asked_before(size: int, batch: int, step: int) -> None:
    used = Order(size, batch, 7)
    for other in (0, step + 1, 3, step // 2):
        used.indices(other)
    assert used.indices(step) == Order(size, batch, 7).indices(step)


def test_another_batch_size_walks_the_same_row() -> None:
    """Positions 0 to 23 of the row, in steps of 4 and in steps of 6."""
    fours = [i for step in range(6) for i in Order(10, 4, 1).indices(step)]
    sixes = [i for step in range(4) for i in Order(10, 6, 1).indices(step)]
    assert fours == sixes


def test_seeds_and_epochs_differ() -> None:
    assert Order(50, 50, 1).indices(0) != Order(50, 50, 2).indices(0)
    assert Order(50, 50, 1).indices(0) != Order(50, 50, 1).indices(1)


@pytest.mark.parametrize(("size", "batch"), [(0, 1), (1, 0), (-1, 4)])
def test_nothing_to_visit_is_refused(size: int, batch: int) -> None:
    with pytest.raises(SettingError, match="at least 1"):
        Order(size, batch, 0)
    with pytest.raises(SettingError, match="from 0"):
        Order(1, 1, 0).indices(-1)
