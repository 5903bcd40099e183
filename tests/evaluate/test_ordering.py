"""Whether pairs are ordered as their judge did: two people of whom the model thinks otherwise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.backbones import Backbone, Personal, load
from palate.core.problems import DataError
from palate.core.streams import Streams
from palate.data.pairs import Pair, PreferencePairs
from palate.evaluate.ordering import Margins, Ordering, _strangers, ordering
from palate.train.cache import Cache, View
from palate.train.groups import Pictures
from train.conftest import micro_model, snapshot

PEOPLE = {"ann": torch.tensor([[1.0, 0.0]]), "ben": torch.tensor([[0.0, 1.0]])}
STILL = Pictures(latents="mean")


def ignore(text: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and eight pairs, four of each judge."""
    folder = tmp_path_factory.mktemp("ordering")
    micro_model(folder / "model")
    snapshot(folder, 8, judges=("ann", "ben"))
    return folder


@pytest.fixture(scope="module")
def pairs(place: Path) -> PreferencePairs:
    return PreferencePairs.open(place / "snapshot")


@pytest.fixture(scope="module")
def base(place: Path) -> Backbone:
    return load(place / "model")


@pytest.fixture(scope="module")
def margins(place: Path, pairs: PreferencePairs, base: Backbone) -> Margins:
    cache = Cache(place / "cache", base, base.resolution)
    cache.fill(base, pairs, STILL, pairs.image, ignore)
    return Margins(cache=cache, pictures=STILL, draws=1)


def whose(pair: Pair) -> torch.Tensor:
    return PEOPLE[pair.judge]


@pytest.fixture(scope="module")
def personal(place: Path) -> Backbone:
    """A model with an opinion for each of the two, though it learned nothing."""
    settings = Personal(user_width=2, tokens=1, width=4)
    model = load(place / "model", personal=settings, train=True)
    with torch.no_grad():
        for name, weight in model.trainable().items():
            weight.add_(Streams(7)("taught", name).normal(tuple(weight.shape)))
    return model


def test_who_judges_as_the_model_does_for_them_is_ordered_whole(
    personal: Backbone, pairs: PreferencePairs, margins: Margins
) -> None:
    """Each judge's pairs are turned to be as the model orders them for that judge: all are right.

    With the other's embedding as many are right as the model orders alike for both, counted here.
    """
    both = {name: margins(personal, list(pairs), [user] * 8) for name, user in PEOPLE.items()}
    turned = [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen)
        if both[pair.judge][at] < 0
        else pair
        for at, pair in enumerate(pairs)
    ]
    alike = (both["ann"] > 0) == (both["ben"] > 0)
    shares = [alike[[pair.judge == name for pair in pairs]].mean() for name in PEOPLE]
    assert 0 < alike.sum() < 8
    found = ordering(personal, turned, whose, margins)
    assert found.own.value == 1.0
    assert found.shuffled.value == pytest.approx(np.mean(shares))
    assert found.own_minus_shuffled.value == pytest.approx(1 - np.mean(shares))
    assert (found.own.n, found.pairs, found.left_out) == (2, 8, 0)
    assert (found.pooled, found.own_minus_pooled) == (None, None)


def test_nobody_orders_nothing_exactly(
    personal: Backbone, base: Backbone, pairs: PreferencePairs, margins: Margins
) -> None:
    """Every margin is 0 to the bit: of a personal model for nobody, and of its base."""
    nobody = [torch.zeros(1, 2)] * len(pairs)
    assert not margins(personal, list(pairs), nobody).any()
    assert margins(personal, list(pairs), [whose(pair) for pair in pairs]).all()
    found = ordering(personal, list(pairs), whose, margins, pooled=base)
    assert found.pooled is not None
    assert found.pooled.value == found.nobody == 0.5


def test_an_embedding_that_is_the_same_for_everyone_gains_nothing(
    personal: Backbone, pairs: PreferencePairs, margins: Margins
) -> None:
    found = ordering(personal, list(pairs), lambda _: PEOPLE["ann"], margins)
    one = found.own_minus_shuffled
    # Of so few judges nothing more can be said.
    assert (one.value, one.bounded) == (0, False)


def test_a_margin_is_the_mean_of_its_draws_as_computed_by_hand(
    personal: Backbone, pairs: PreferencePairs, margins: Margins
) -> None:
    """One pair at two fixed levels with the keyed noise, in float64."""
    pair, path = pairs[0], personal.path
    rows = margins.cache.latents.rows([View().name(name) for name in (pair.chosen, pair.rejected)])
    clean = rows["mean"]
    told = personal.embed([pair.prompt] * 2).with_user(torch.stack([whose(pair)] * 2))
    expected = []
    for draw in (0, 1):
        streams = Streams(0)
        share = 0.5 * draw + 0.5 * streams("health level", draw, pair.id).uniform()
        level = torch.tensor([int(share * path.levels)] * 2)
        noise = streams("health noise", draw, pair.id).normal(tuple(clean.shape[1:]))
        noise = torch.stack([noise, noise])
        target = path.target(clean, noise, level)
        with torch.no_grad():
            policy = personal.predict(path.noisy(clean, noise, level), level, told)
            with personal.as_reference():
                reference = personal.predict(path.noisy(clean, noise, level), level, told)
        errors = [
            (said.double() - target.double()).square().flatten(1).mean(1)
            for said in (reference, policy)
        ]
        gain = errors[0] - errors[1]
        expected.append(float(gain[0] - gain[1]))
    found = replace(margins, draws=2)(personal, [pair], [whose(pair)])
    assert found[0] == pytest.approx(np.mean(expected), rel=1e-3)


def test_strangers_are_other_people_all_alike_and_keyed_by_the_pair() -> None:
    """Sixty pairs: ann has forty, ben and cem ten each. To ann's, ben and cem come up alike."""
    judges = ["ann"] * 40 + ["ben"] * 10 + ["cem"] * 10
    pairs = [
        Pair(id=f"pair {at}", prompt="p", chosen="a", rejected="b", agreement=1.0, judge=judge,
             source="world")
        for at, judge in enumerate(judges)
    ]  # fmt: skip
    first, second = _strangers(pairs, 2, 0)
    for at, pair in enumerate(pairs):
        assert {judges[first[at]], judges[second[at]], pair.judge} == {"ann", "ben", "cem"}
    ben = sum(judges[first[at]] == "ben" for at in range(40))
    assert 12 <= ben <= 28
    turned = _strangers(pairs[::-1], 1, 0)[0]
    assert [judges[::-1][at] for at in turned][::-1] == [judges[at] for at in first]


def test_a_single_judge_cannot_be_shuffled(
    personal: Backbone, pairs: PreferencePairs, margins: Margins
) -> None:
    with pytest.raises(DataError, match="4 usable pairs of 1 judges"):
        ordering(personal, [pair for pair in pairs if pair.judge == "ann"], whose, margins)


def test_it_survives_the_way_through_json(
    personal: Backbone, base: Backbone, pairs: PreferencePairs, margins: Margins
) -> None:
    found = ordering(personal, list(pairs), whose, margins, pooled=base)
    assert Ordering.from_json(found.to_json()) == found
