"""Drawing: a function of scene, style and stream."""

import numpy as np

from palate.core.streams import Streams
from palate.world import PERFECT, Scene, Style, render, split_of, training_pictures
from palate.world.render import COLOUR_VALUES, SIZE_VALUES, faded, outline
from palate.world.scenes import SHAPES

SCENE = Scene.parse("a large red circle left of a small blue square on a grey background")


def area(corners):
    """The shoelace formula."""
    x, y = corners[:, 0], corners[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def test_all_shapes_cover_one_unit_of_area():
    """A 48-cornered polygon is 0.3 % smaller than its circle."""
    for shape in SHAPES:
        assert abs(area(outline(shape)) - 1) < 0.004, shape


def test_a_drawn_object_covers_the_area_of_its_size():
    scene = Scene.parse("a small green triangle in the centre of a black background")
    picture = render(scene, PERFECT, Streams(0)("accidents")).astype(float)
    green = COLOUR_VALUES["green"][1]
    covered = ((picture[..., 1] - 16) / (green - 16)).sum()
    assert abs(covered / SIZE_VALUES["small"] ** 2 - 1) < 0.05


def test_the_same_stream_draws_the_same_picture():
    style = Style(clutter=4, misplacement=3.0, softness=0.5)
    first = render(SCENE, style, Streams(1)("accidents", 0))
    again = render(SCENE, style, Streams(1)("accidents", 0))
    other = render(SCENE, style, Streams(1)("accidents", 1))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fading_keeps_lightness_and_ends_in_grey():
    """Red's lightness is 0.299 × 220 + 0.587 × 40 + 0.114 × 40 = 93.8."""
    assert faded((220, 40, 40), 0.0) == (94, 94, 94)
    assert faded((220, 40, 40), 1.0) == (220, 40, 40)
    assert faded((220, 40, 40), 0.5) == (157, 67, 67)


def test_training_pictures_come_from_the_train_split_only():
    pictures, captions = training_pictures(60, seed=5)
    assert pictures.shape == (60, 64, 64, 3)
    assert {split_of(text) for text in captions} == {"train"}


def test_training_and_validation_pictures_differ():
    train, _ = training_pictures(3, seed=5)
    validation, _ = training_pictures(3, seed=5, purpose="validation")
    assert not np.array_equal(train, validation)


def test_styles_vary_widely_and_vivid_tidy_ones_are_among_them():
    chance = Streams(0)("styles").numpy()
    styles = [Style.mediocre(chance) for _ in range(1000)]
    vividness = np.array([style.vividness for style in styles])
    assert 0.5 < vividness.mean() < 0.65
    assert vividness.std() > 0.15
    assert sum(style.vividness > 0.85 and style.clutter < 2 for style in styles) > 20
