"""Places among people's tastes: planted ones are found, and few pairs place somebody new."""

import math

import numpy as np
import pytest
import torch

from palate.core.files import load_weights, read_about, save_weights
from palate.core.problems import DataError, SettingError, WeightsError
from palate.core.streams import Streams
from palate.scorers.taste_space import FILE, Space, fit, foretold, save
from palate.scorers.users import Example
from palate.scorers.users_looks import LooksUsers
from palate.scorers.users_taste import TasteUsers

FEATURES, KINDS = 8, 2


def planted(people: int, choices: int, *, noise: float = 1.0, seed: int = 0):
    """Rows of people whose weights lie in two hidden directions, and those weights."""
    draw = np.random.default_rng(seed)
    hidden = np.linalg.qr(draw.normal(size=(FEATURES, KINDS)))[0] * 3
    tastes = draw.normal(size=(people, KINDS))
    shared = np.zeros(FEATURES)
    shared[0] = 1.0
    rows = {}
    for place in range(people):
        differences = draw.normal(size=(choices, FEATURES))
        logit = differences @ (shared + hidden @ tastes[place]) / noise
        first = draw.random(choices) < 1 / (1 + np.exp(-logit))
        rows[f"p{place:02d}"] = torch.tensor(differences * np.where(first, 1, -1)[:, None])
    return rows, torch.tensor(hidden), torch.tensor(tastes)


def explained(found: torch.Tensor, true: torch.Tensor) -> float:
    """Share of the true directions that lie in the space of the found ones."""
    basis = torch.linalg.qr(found)[0]
    inside = basis @ (basis.T @ true)
    return float(inside.square().sum() / true.square().sum())


def test_planted_directions_are_found_and_other_ones_are_not():
    rows, hidden, _ = planted(30, 60)
    space = fit(rows, dimensions=KINDS)
    assert explained(space.directions, hidden) > 0.9
    turned = {
        name: row[:, torch.tensor(Streams(1)("mix", name).permutation(FEATURES))]
        for name, row in rows.items()
    }
    assert explained(fit(turned, dimensions=KINDS).directions, hidden) < 0.6


def test_new_people_are_placed_by_few_pairs_on_their_own_side():
    """Twelve people nobody learned from: with four pairs better than chance, with forty well."""
    rows, hidden, tastes = planted(42, 60)
    names = sorted(rows)
    space = fit({name: rows[name] for name in names[:30]}, dimensions=KINDS)
    agreement = {}
    for few in (4, 40):
        cosines = [
            torch.cosine_similarity(
                space.directions @ space.place(rows[name][:few]), hidden @ tastes[place], dim=0
            )
            for place, name in enumerate(names)
            if place >= 30
        ]
        agreement[few] = float(torch.stack(cosines).mean())
    assert agreement[4] > 0.35
    assert agreement[40] > 0.85


def test_left_out_choices_are_foretold_by_ones_own_place_and_by_nobodys():
    rows, _, _ = planted(30, 40)
    told = foretold(rows, dimensions=KINDS)
    assert told.own_accuracy > told.shared_accuracy + 0.1
    assert told.own_loss < told.shared_loss < math.log(2) + 0.05
    assert (told.people, told.pairs) == (30, 1200)


def test_where_all_want_the_same_nobodys_own_place_foretells_better():
    draw = np.random.default_rng(2)
    rows = {}
    for person in range(20):
        differences = draw.normal(size=(40, FEATURES))
        signs = np.where(draw.random(40) < 1 / (1 + np.exp(-2 * differences[:, 0])), 1, -1)
        rows[f"p{person}"] = torch.tensor(differences * signs[:, None])
    told = foretold(rows, dimensions=KINDS)
    assert told.shared_loss < told.own_loss
    assert told.own_accuracy <= told.shared_accuracy


def test_the_place_is_the_most_likely_one_by_hand():
    """One direction, one pair with row 1: z solves σ(−z) = z, so it is 0.4010581."""
    space = Space(unit=1.0, shared=torch.zeros(1).double(), directions=torch.ones(1, 1).double())
    found = float(space.place(torch.ones(1, 1)))
    assert found == pytest.approx(1 / (1 + math.exp(found)), abs=1e-9)
    assert found == pytest.approx(0.4010581, abs=1e-6)


def test_a_place_is_a_maximum_whatever_the_rows():
    rows, _, _ = planted(12, 30)
    space = fit(rows, dimensions=KINDS)
    loud = 50 * rows["p00"]
    found = space.place(loud).requires_grad_()
    worth = space.chances(loud, found).log().sum() - found.square().sum() / 2
    worth.backward()
    assert found.grad.abs().max() < 1e-6


def test_more_examples_say_more_and_contradicting_ones_say_nothing():
    rows, _, _ = planted(12, 30)
    space = fit(rows, dimensions=KINDS)
    same = rows["p00"][:1]
    lengths = [float(space.place(same.repeat(count, 1)).norm()) for count in (1, 2, 8)]
    assert lengths[0] < lengths[1] < lengths[2]
    neutral = Space(unit=1.0, shared=torch.zeros(FEATURES).double(), directions=space.directions)
    assert float(neutral.place(torch.cat([same, -same])).norm()) < 1e-9


def pictures(seed: int, count: int) -> list[Example]:
    draw = np.random.default_rng(seed)
    return [
        Example(
            prompt="a red ball",
            chosen=draw.integers(0, 256, (16, 16, 3), dtype=np.uint8),
            rejected=draw.integers(0, 120, (16, 16, 3), dtype=np.uint8),
        )
        for _ in range(count)
    ]


@pytest.fixture
def folder(tmp_path):
    """A folder of tastes over plain picture statistics."""
    looks = LooksUsers()
    rows = {f"p{n}": looks.differences(pictures(n, 6)) for n in range(6)}
    save(fit(rows, dimensions=2), tmp_path / "tastes", {"by": "looks", "rows": looks.identity})
    return tmp_path / "tastes"


def opened(folder) -> TasteUsers:
    return TasteUsers.open(folder, lambda _words: LooksUsers())


def test_a_folder_is_an_encoder_with_a_one_beside_the_place(folder):
    encoder = opened(folder)
    found = encoder.embed([pictures(9, 4), pictures(10, 1)])
    assert found.shape == (2, 1, 3) == (2, encoder.tokens, encoder.width)
    assert found.dtype == torch.float32
    assert found[:, 0, 2].tolist() == [1.0, 1.0]
    assert torch.equal(found, opened(folder).embed([pictures(9, 4), pictures(10, 1)]))
    assert encoder.embed([]).shape == (0, 1, 3)


def test_the_order_of_examples_does_not_matter(folder):
    mine = pictures(9, 4)
    encoder = opened(folder)
    torch.testing.assert_close(encoder.embed([mine]), encoder.embed([mine[::-1]]))


def test_identities_tell_folders_and_their_rows_apart(folder, tmp_path):
    looks = LooksUsers()
    rows = {f"p{n}": looks.differences(pictures(n, 6)) for n in range(6)}
    save(fit(rows, dimensions=3), tmp_path / "other", {"by": "looks", "rows": looks.identity})
    assert opened(folder).identity != opened(tmp_path / "other").identity
    assert opened(folder).identity == opened(folder).identity


def test_the_same_choices_give_the_same_file(folder, tmp_path):
    looks = LooksUsers()
    rows = {f"p{n}": looks.differences(pictures(n, 6)) for n in range(6)}
    save(fit(rows, dimensions=2), tmp_path / "again", {"by": "looks", "rows": looks.identity})
    assert (tmp_path / "again" / FILE).read_bytes() == (folder / FILE).read_bytes()


def test_a_folder_whose_rows_another_encoder_makes_is_refused(folder):
    about = {**read_about(folder / FILE), "rows": "somebody else"}
    save_weights(folder / FILE, load_weights(folder / FILE), about)
    with pytest.raises(WeightsError, match="as when"):
        opened(folder)


@pytest.mark.parametrize("spoil", ["gone", "mute", "cut", "other"])
def test_folders_that_are_none_are_refused(folder, spoil):
    file = folder / FILE
    tensors, about = load_weights(file), read_about(file)
    if spoil == "gone":
        file.unlink()
    elif spoil == "mute":
        save_weights(file, tensors)
    elif spoil == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    else:
        save_weights(file, {"shared": tensors["shared"]}, about)
    with pytest.raises(WeightsError):
        opened(folder)


def test_too_few_people_equal_pictures_and_no_examples_are_refused(folder):
    rows, _, _ = planted(3, 5)
    with pytest.raises(DataError, match="more than 4 people"):
        fit(rows, dimensions=4)
    with pytest.raises(DataError, match="equal pictures"):
        fit({name: 0 * row for name, row in planted(6, 5)[0].items()}, dimensions=2)
    with pytest.raises(SettingError, match="dimensions above 0"):
        fit(rows, dimensions=0)
    with pytest.raises(DataError, match="0 examples of person 0"):
        opened(folder).embed([[]])
