"""Whether an embedding tells who somebody is: planted people, and nobody in particular."""

import numpy as np
import pytest
import torch

from palate.core.problems import DataError
from palate.core.streams import Streams
from palate.evaluate.identify import Identified, identify, probe

USERS, TOKENS, WIDTH = 24, 3, 8


def noise(name: str, *shape: int) -> torch.Tensor:
    return Streams(0)(name).normal((*shape, TOKENS, WIDTH))


def people(name: str, *, clear: float) -> torch.Tensor:
    """One embedding of each user: who they are, and chance."""
    who = Streams(0)("who").normal((USERS, 1, WIDTH))
    return clear * who + noise(name, USERS)


def test_three_users_by_hand():
    """Users a, b, c look along x, y and -x; of the second set, b's and c's are exchanged.

    Only a is nearest to their own. b's own lies at -x, at right angles to y: equal with a's, and
    behind c's, which is at y. So b's shares the second and third place, and c's own is at y with
    a's at x behind it: c comes second.
    """
    first = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]])
    second = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]], [[0.0, 1.0]]])
    found = identify(first, second, at=(1, 2, 3), centred=False)
    assert found.found[1].value == pytest.approx(1 / 3)
    assert found.found[2].value == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found.chance == pytest.approx({1: 1 / 3, 2: 2 / 3})
    assert 3 not in found.found


def test_people_are_found_again_by_who_they_are():
    found = identify(people("one", clear=3.0), people("other", clear=3.0), at=(1, 5))
    assert found.above_chance == {1: True, 5: True}
    assert found.found[1].value > 0.7
    assert found.found[1].n == USERS


def test_embeddings_of_chance_find_nobody():
    found = identify(people("one", clear=0.0), people("other", clear=0.0))
    for places, estimate in found.found.items():
        assert estimate.low < found.chance[places] < estimate.high


def test_an_embedding_that_is_the_same_for_everyone_is_found_exactly_by_chance():
    """Ties share their places."""
    same = torch.ones(USERS, TOKENS, WIDTH)
    for found in (
        identify(same, same),
        probe(same[:, None].repeat(1, 2, 1, 1), same[:, None]),
        identify(0 * same, 0 * same, centred=False),
    ):
        for places, estimate in found.found.items():
            assert estimate.value == pytest.approx(found.chance[places])


def test_what_everybody_has_in_common_does_not_hide_who_they_are():
    """Sides that differ as a whole, as where the first pairs showed other things than the rest."""
    one, other = people("one", clear=1.5), people("other", clear=1.5)
    plain = identify(one, other)
    assert identify(one + 40, other - 40).to_json() == plain.to_json()
    raw = identify(one + 40, other - 40, centred=False)
    assert raw.found[1].high < plain.found[1].low


def test_the_order_of_examples_matters_only_where_it_is_asked_for():
    one, other = people("one", clear=0.4), people("other", clear=0.4)
    turned = other.flip(1)
    assert identify(one, turned).to_json() == identify(one, other).to_json()
    assert identify(one, turned, order=True).to_json() != identify(one, other, order=True).to_json()


def test_a_token_that_is_absent_counts_for_nothing():
    """One token of (3, 1) and two of zeros say what one token says, not a third of it."""
    first = torch.zeros(2, 3, 2)
    first[0, 0], first[1, :] = torch.tensor([3.0, 1.0]), torch.tensor([3.0, 1.1])
    second = torch.tensor([[3.0, 1.0], [3.0, 1.1]])[:, None].repeat(1, 3, 1)
    found = identify(first, second, at=(1,), centred=True)
    assert found.found[1].value == 1.0


def test_a_probe_learns_what_the_nearest_neighbour_does_not_see():
    """Who they are is one number among eight, of which the others are loud."""
    who = torch.linspace(-1, 1, 8)
    learned, asked = (30 * noise(name, 8, 12) for name in ("learned", "asked"))
    learned[..., 0], asked[..., 0] = (
        who[:, None, None] + 0.02 * Streams(0)(name).normal((8, 12, TOKENS)) for name in "ab"
    )
    nearest = identify(learned[:, 0], asked[:, 0], at=(1,))
    found = probe(learned, asked, at=(1,), looseness=100.0)
    assert found.found[1].value > 0.6 > 0.5 > nearest.found[1].value
    assert (found.found[1].n, found.found[1].measurements) == (8, 96)


def test_a_probe_that_learned_from_chance_finds_nobody_among_other_pairs():
    """It knows its own subsets by heart, which is why held-out ones must be of other pairs."""
    learned, asked = noise("learned", 8, 6), noise("asked", 8, 6)
    found = probe(learned, asked, at=(1, 3))
    assert not any(found.above_chance.values())
    by_heart = probe(learned, learned, at=(1,), looseness=1000.0)
    assert by_heart.above_chance[1]


def test_two_people_are_enough_for_a_probe_and_one_is_refused():
    learned = people("one", clear=5.0)[:2, None].repeat(1, 3, 1, 1)
    assert probe(learned, learned, at=(1,)).found[1].value == 1.0
    with pytest.raises(DataError, match="at least two"):
        probe(learned[:1], learned[:1])
    with pytest.raises(DataError, match="two subsets"):
        probe(learned[:, :1], learned)
    with pytest.raises(DataError, match="at least two users"):
        identify(learned[:1, 0], learned[:1, 0])


def test_embeddings_of_other_shapes_or_without_finite_numbers_are_refused():
    one = people("one", clear=1.0)
    with pytest.raises(DataError, match=r"\(24, 3, 8\) and \(24, 2, 8\)"):
        identify(one, one[:, :2])
    with pytest.raises(DataError, match="not finite"):
        identify(one, one * np.nan)


def test_it_survives_the_way_through_json():
    found = identify(people("one", clear=2.0), people("other", clear=2.0))
    back = Identified.from_json(found.to_json())
    assert (back, back.chance) == (found, found.chance)
