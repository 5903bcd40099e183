"""Named streams: the same name is the same draw, whatever happened before."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palate.core.streams import Stream, Streams

KEYS = st.lists(st.one_of(st.integers(-(10**20), 10**20), st.text(max_size=12)), max_size=4)


def test_the_same_name_is_the_same_draw():
    first, second = Streams(7)("noise", 3, "pair"), Streams(7)("noise", 3, "pair")
    assert first == second
    assert torch.equal(first.normal((2, 3)), second.normal((2, 3)))
    assert torch.equal(first.normal((2, 3)), first.normal((2, 3)))
    assert first.uniform() == second.uniform()
    assert first.permutation(10) == second.permutation(10)
    assert (first.numpy().random(4) == second.numpy().random(4)).all()


def test_a_draw_elsewhere_changes_nothing_here():
    expected = Streams(7)("noise", 3).normal((4,))
    torch.manual_seed(1)
    torch.randn(100)
    np.random.default_rng(0).random(10)
    Streams(7)("level", 3).integer(0, 1000)
    assert torch.equal(Streams(7)("noise", 3).normal((4,)), expected)


def test_drawing_leaves_the_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    stream = Streams(0)("anything")
    stream.normal((3,)), stream.uniform(), stream.integer(0, 5), stream.permutation(4)
    stream.numpy().random()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a", 1), ("a", "1")),
        (("a", 1, 2), ("a", 12)),
        (("a",), ("a", "")),
        (("a", "", "b"), ("a", "b", "")),
        (("a", -1), ("a", 1)),
        (("a", "1:b"), ("a", "1", "b")),
        (("i1",), ("1",)),
    ],
)
def test_names_that_look_alike_are_different_streams(one, other):
    assert Streams(0)(*one) != Streams(0)(*other)


@given(
    st.tuples(st.integers(0, 2**40), st.text(max_size=9), KEYS),
    st.tuples(st.integers(0, 2**40), st.text(max_size=9), KEYS),
)
def test_two_names_share_a_stream_only_when_they_are_equal(one, other):
    streams = [Streams(seed)(purpose, *keys) for seed, purpose, keys in (one, other)]
    assert (streams[0] == streams[1]) == (one == other)


def test_ten_thousand_names_give_ten_thousand_streams():
    seeds = {
        Streams(s)("noise", step, f"pair-{k}").seed
        for s in range(10)
        for step in range(100)
        for k in range(10)
    }
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_neighbouring_streams_are_independent():
    """2,000 neighbours: mean, spread and lag correlation are those of independent normals."""
    values = torch.stack([Streams(0)("noise", i).normal((8,)) for i in range(2000)]).double()
    assert abs(float(values.mean())) < 4 / 126
    assert abs(float(values.var()) - 1) < 4 * (2 / 16_000) ** 0.5
    assert abs(float((values[1:] * values[:-1]).mean())) < 4 / 126


def test_draws_have_the_range_and_type_they_say():
    stream = Streams(3)("range")
    assert 0 <= stream.uniform() < 1
    assert {Streams(3)("die", i).integer(1, 7) for i in range(200)} == {1, 2, 3, 4, 5, 6}
    assert sorted(stream.permutation(20)) == list(range(20))
    assert stream.normal((2,)).dtype == torch.float32
    assert stream.normal((2,), torch.float64).dtype == torch.float64


def test_the_numbers_are_the_same_on_every_machine():
    """Frozen: a change here silently breaks every resume and every recorded run."""
    stream = Streams(0)("noise", 1, "pair")
    assert stream.seed == 3723504697293474999
    assert stream.integer(0, 1000) == 533
    assert round(stream.uniform(), 9) == 0.789183188
    assert [round(x, 5) for x in stream.normal((3,)).tolist()] == [0.48634, -1.93534, 0.85997]
    assert Stream(5).permutation(5) == [1, 3, 0, 4, 2]
