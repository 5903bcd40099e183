"""User embeddings of plain picture statistics: what the numbers say, and what they cannot."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow.parquet import read_table
from sklearn.linear_model import Ridge

from palate.core.problems import DataError, SettingError
from palate.scorers.picture_statistics import STATISTICS, statistics
from palate.scorers.users import Example
from palate.scorers.users_looks import LooksUsers
from palate.world import parts

GREY = (168, 168, 168)


def drawn(*boxes, side=64, ground=GREY) -> np.ndarray:
    """A ground with boxes on it, each (left, top, width, height, colour)."""
    picture = np.full((side, side, 3), ground, dtype=np.uint8)
    for left, top, width, height, colour in boxes:
        picture[top : top + height, left : left + width] = colour
    return picture


def opened(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))


def told(picture) -> dict[str, float]:
    return dict(zip(STATISTICS, statistics(picture).tolist(), strict=True))


def example(chosen, rejected, prompt="a box"):
    return Example(prompt=prompt, chosen=chosen, rejected=rejected)


VIVID = drawn((24, 24, 16, 16, (220, 40, 40)))
DULL = drawn((24, 24, 16, 16, (150, 110, 110)))
SPECKED = drawn((24, 24, 16, 16, (220, 40, 40)), (4, 4, 4, 4, (0, 0, 0)), (56, 8, 4, 4, (0, 0, 0)))
ASIDE = drawn((38, 20, 16, 16, (220, 40, 40)))


def test_the_numbers_of_a_box_are_those_counted_by_hand():
    """16 × 16 of 64 × 64 pixels, in the middle: a sixteenth of the picture, a quarter wide."""
    seen = told(VIVID)
    assert seen["figure"] == pytest.approx(1 / 16)
    assert seen["part size"] == pytest.approx(1 / 4)
    assert seen["parts"] == pytest.approx(np.log(2))
    assert seen["specks"] == seen["speck count"] == 0
    assert seen["across"] == seen["down"] == seen["off centre"] == seen["scatter"] == 0
    assert seen["lopsided"] == seen["top-heavy"] == seen["off the quarters"] == 0
    # The middle lies between the lines of the thirds, a sixth from each.
    assert seen["off the thirds"] == pytest.approx(np.hypot(1 / 6, 1 / 6))
    # Red 220, green and blue 40: 180 apart, and (220 + 40)/2 − 40 = 90.
    assert seen["figure chroma"] == pytest.approx(np.hypot(180, 90) / 255)
    assert seen["red against green"] == pytest.approx(180 / 255 / 16)
    assert seen["yellow against blue"] == pytest.approx(90 / 255 / 16)
    assert seen["one hue"] == pytest.approx(1)
    light = 0.2126 * 220 + 0.7874 * 40
    assert seen["light"] == pytest.approx((168 * 15 + light) / 16 / 255)


def test_specks_are_told_from_parts_and_places_are_measured():
    seen = told(SPECKED)
    assert seen["specks"] == pytest.approx(2 * 16 / 64**2)
    assert seen["speck count"] == pytest.approx(np.log(3))
    assert seen["parts"] == pytest.approx(np.log(2))
    aside = told(ASIDE)
    assert (aside["across"], aside["down"]) == pytest.approx((14 / 64, -4 / 64))
    assert aside["off the quarters"] == pytest.approx(np.hypot(2, 4) / 64)
    assert aside["lopsided"] == 1, "no pixel of it meets its mirror image"


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 3), (300, 200)])
def test_any_picture_has_finite_numbers_flat_ones_too(size):
    draw = np.random.default_rng(0)
    for picture in (
        np.zeros((*size, 3), np.uint8),
        draw.integers(0, 256, (*size, 3), dtype=np.uint8),
    ):
        assert np.isfinite(statistics(picture)).all()


def test_a_picture_says_the_same_at_twice_its_size():
    large = VIVID.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_allclose(statistics(large), statistics(VIVID), atol=1e-12)


@pytest.fixture(scope="module")
def shipped(repository):
    """Of 500 shipped pairs: the statistics, [500, 2, 31], and the captions and pictures."""
    path = repository / "src/palate/recipes/shipped_pairs/pairs.parquet"
    rows = read_table(path, columns=["caption", "jpg_0", "jpg_1"]).to_pylist()[:500]
    pairs = [(row["caption"], opened(row["jpg_0"]), opened(row["jpg_1"])) for row in rows]
    return np.array([[statistics(one), statistics(other)] for _, one, other in pairs]), pairs


@pytest.mark.slow
def test_spreads_are_those_of_the_shipped_pairs(shipped):
    """To the two digits that are written down."""
    found = np.sqrt(np.square(np.diff(shipped[0], axis=1)).mean((0, 1)))
    np.testing.assert_allclose(found, list(STATISTICS.values()), rtol=0.05)


@pytest.mark.slow
def test_differences_tell_the_small_worlds_true_differences(shipped):
    """A linear map fitted on 300 pairs, asked about the other 200, of what rows are made of."""
    seen, pairs = shipped
    names = ("vividness", "tidiness", "composition")
    measured = [[parts(picture, caption) for picture in both] for caption, *both in pairs]
    true = np.array([[one[name] - other[name] for name in names] for one, other in measured])
    squashed = np.tanh((seen[:, 0] - seen[:, 1]) / np.array(list(STATISTICS.values())))
    told = Ridge(1.0).fit(squashed[:300], true[:300]).predict(squashed[300:])
    for column in range(3):
        assert np.corrcoef(told[:, column], true[300:, column])[0, 1] > 0.8


def test_one_example_gives_the_squashed_difference_divided_by_its_size():
    encoder = LooksUsers()
    found = encoder.embed([[example(VIVID, DULL)]])[0, 0].double()
    spread = np.array(list(STATISTICS.values()))
    squashed = np.tanh((statistics(VIVID) - statistics(DULL)) / spread)
    expected = squashed / np.sqrt(np.square(squashed).mean())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert found.square().mean().item() == pytest.approx(1, rel=1e-6)


def test_opposite_tastes_have_opposite_embeddings_and_a_mean_that_says_so_is_kept():
    """A layer norm would take out of a row the mean that this one has."""
    liking, disliking = LooksUsers().embed([[example(VIVID, DULL)], [example(DULL, VIVID)]])
    assert torch.equal(liking, -disliking)
    assert abs(liking.mean().item()) > 0.1


def test_one_huge_difference_does_not_drown_the_rest():
    """Day against night: everything about light differs a hundredfold of what is typical."""
    night, day = drawn(ground=(5, 5, 5)), drawn((24, 24, 16, 16, (220, 40, 40)), ground=(250,) * 3)
    row = LooksUsers().embed([[example(day, night)]])[0, 0]
    assert row.abs().max() < 2.5


def test_what_cancels_or_says_nothing_is_nobody():
    encoder = LooksUsers()
    same = [example(VIVID, VIVID.copy())] * 3
    contradictory = [example(VIVID, DULL), example(DULL, VIVID)]
    assert not encoder.embed([same, contradictory]).any()
    pairs = LooksUsers(pooling="pairs").embed([[*same, example(VIVID, DULL)]])[0]
    assert pairs.any(dim=1).sum() == 1


def test_settings_are_checked_and_are_part_of_the_identity():
    with pytest.raises(SettingError, match="Did you mean mean"):
        LooksUsers(pooling="meen")
    with pytest.raises(SettingError, match="at least 1"):
        LooksUsers(examples=0)
    with pytest.raises(DataError, match=r"5 examples of person 1\. Need between 1 and 4"):
        LooksUsers(pooling="pairs").embed([[example(VIVID, DULL)], [example(VIVID, DULL)] * 5])
    made = [LooksUsers(), LooksUsers(pooling="pairs"), LooksUsers(pooling="pairs", examples=3)]
    assert len({encoder.identity for encoder in made}) == 3
    assert LooksUsers(examples=9).identity == LooksUsers().identity, "the mean takes any number"


def test_four_choices_tell_a_taste_for_colour_from_one_for_tidiness_whatever_was_shown():
    """Planted: each person chose by one thing among pictures that differ in others too."""
    draw = np.random.default_rng(0)

    def picture(vivid, tidy):
        left, top = draw.integers(8, 40, 2)
        dull = (168 + np.array((60, -130, -130)) * (1.0 if vivid else 0.3)).astype(np.uint8)
        specks = () if tidy else ((int(draw.integers(0, 60)), 2, 4, 4, (0, 0, 0)),)
        return drawn((left, top, 16, 16, tuple(dull.tolist())), *specks)

    def person(what):
        flags = [(what or bool(draw.integers(2)), (not what) or bool(draw.integers(2)))] * 4
        rivals = [(not v if what else v, t if what else not t) for v, t in flags]
        both = zip(flags, rivals, strict=True)
        return [example(picture(*won), picture(*lost)) for won, lost in both]

    people = [person(what=bool(place % 2)) for place in range(12)]
    rows = torch.nn.functional.normalize(LooksUsers().embed(people)[:, 0], dim=1)
    near = rows @ rows.T - 2 * torch.eye(12)
    assert (near.argmax(1) % 2 == torch.arange(12) % 2).all()
