"""Variety, style and broken pictures, by hand."""

import numpy as np
import pytest

from palate.core.streams import Streams
from palate.evaluate.drift import broken, drift, spread, style, variety


def flat(level, side=16):
    return np.full((side, side, 3), level, dtype=np.uint8)


def noisy(name, side=16):
    chance = Streams(0)("picture", name).numpy()
    return chance.integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_black_and_one_coloured_pictures_are_broken_and_a_scene_on_black_is_not():
    scene = flat(0)
    scene[4:7, 4:7] = 200
    almost = flat(0)
    almost[0, 0] = 200
    assert broken(np.stack([flat(0), flat(137), almost, scene, noisy(1)])).tolist() == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_the_distance_of_black_and_white_is_one():
    distance, _ = spread(np.stack([flat(0), flat(255)]))
    assert distance == pytest.approx(1.0)


def test_three_greys_by_hand():
    """Levels 0, 51, 102 of 255 lie 0.2, 0.2 and 0.4 apart: 0.8 / 3."""
    distance, _ = spread(np.stack([flat(0), flat(51), flat(102)]))
    assert distance == pytest.approx(0.8 / 3)


def test_a_picture_and_its_negative_have_opposite_patterns():
    """Correlation -1, so 1 minus it is 2; with itself 0."""
    picture = noisy(2)
    assert spread(np.stack([picture, 255 - picture]))[1] == pytest.approx(2.0)
    assert spread(np.stack([picture, picture])) == (0.0, pytest.approx(0.0, abs=1e-12))


def test_more_contrast_changes_the_distance_but_not_the_pattern():
    faint = np.stack([(noisy(at) // 4 * 2 + 64).astype(np.uint8) for at in range(4)])
    strong = ((faint.astype(int) - 64) * 2).astype(np.uint8)
    assert spread(strong)[0] == pytest.approx(2 * spread(faint)[0])
    assert spread(strong)[1] == pytest.approx(spread(faint)[1])


def test_a_model_that_draws_one_picture_again_and_again_has_lost_all_variety():
    old = np.stack([noisy(at) for at in range(8)])
    new = np.stack([noisy(0)] * 4 + [noisy(4)] * 4)
    distance, _ = variety(old, new, ["a"] * 4 + ["b"] * 4)
    assert distance.after.value == 0
    assert distance.ratio is not None
    assert (distance.ratio.value, distance.ratio.high) == (0, 0)
    assert (distance.before.n, distance.pictures) == (2, 4)


def test_style_of_a_red_picture_by_hand():
    """Luma 0.299, chroma 1, no edges, every channel value clipped."""
    red = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    red[..., 0] = 255
    found = {name: values[0] for name, values in style(red).items()}
    assert found == pytest.approx(
        {"brightness": 0.299, "saturation": 1.0, "edge energy": 0.0, "clipped pixels": 1.0}
    )


def test_edge_energy_of_stripes_by_hand():
    """Columns 0, 255, 0, 255: every step across is 1, every step down 0, their mean one half."""
    stripes = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    stripes[:, :, 1::2] = 255
    assert style(stripes)["edge energy"][0] == pytest.approx(0.5)


def test_doubling_every_prompt_is_a_ratio_of_exactly_two():
    old = np.array([1.0, 2.0, 3.0])
    found = drift("x", "", old, 2 * old, ["a", "b", "c"], pictures=1)
    assert found.ratio is not None
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == (2, 2, 2)
    assert found.difference.value == 2.0


def test_nothing_before_means_no_ratio():
    zero = np.zeros(3)
    assert drift("x", "", zero, zero + 1, ["a", "b", "c"], pictures=1).ratio is None
