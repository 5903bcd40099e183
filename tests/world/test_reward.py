"""The true reward: each fault lowers its own part and no other."""

import io

import numpy as np
import pytest
from PIL import Image

from palate.core.problems import DataError
from palate.core.streams import Streams
from palate.world import (
    FIDELITY_PARTS,
    MAJORITY,
    OPPOSITE,
    PERFECT,
    TASTE_PARTS,
    Scene,
    Style,
    Taste,
    parts,
    prompts,
    render,
    reward,
    rewards,
    weigh,
)
from palate.world.reward import SCALE

PAIR = "a large red circle left of a small blue square on a grey background"
SINGLE = "a large green triangle on the left of a white background"
GROUP = "two small purple crosses on a black background"


def picture_of(caption, style=PERFECT, key=0):
    return render(Scene.parse(caption), style, Streams(0)("accidents", key))


def lowered(shown, asked):
    """The parts that fall by more than 0.15 when the picture shows something else."""
    right, wrong = parts(picture_of(asked), asked), parts(picture_of(shown), asked)
    return {name for name in (*FIDELITY_PARTS, *TASTE_PARTS) if wrong[name] < right[name] - 0.15}


def test_perfect_drawings_have_every_part_near_one():
    for text in prompts("held-out", 60, seed=0):
        found = parts(picture_of(text), text)
        assert min(found.values()) > 0.95, (text, found)


@pytest.mark.parametrize(
    ("shown", "asked", "part"),
    [
        (PAIR.replace("red", "yellow"), PAIR, "colour"),
        (PAIR.replace("blue", "green"), PAIR, "colour"),
        (PAIR.replace("circle", "cross"), PAIR, "shape"),
        (SINGLE.replace("triangle", "square"), SINGLE, "shape"),
        (PAIR.replace("large", "small"), PAIR, "size"),
        (GROUP.replace("two", "three"), GROUP, "count"),
        (PAIR.replace("left of", "above"), PAIR, "position"),
        (PAIR.replace("left of", "right of"), PAIR, "position"),
        (SINGLE.replace("left", "right"), SINGLE, "position"),
        (PAIR.replace("grey", "white"), PAIR, "background"),
        (GROUP.replace("black", "grey"), GROUP, "background"),
    ],
)
def test_a_wrong_thing_lowers_its_own_part_and_no_other(shown, asked, part):
    assert lowered(shown, asked) == {part}


def test_a_missing_object_is_half_the_count_and_half_of_each_object_part():
    """One circle where a circle and a square were asked: the square's share of each part is 0."""
    found = parts(picture_of("a large red circle on the left of a grey background"), PAIR)
    assert found["count"] == pytest.approx(0.0, abs=0.02)
    for name in ("colour", "shape", "size", "vividness"):
        assert found[name] == pytest.approx(0.5, abs=0.03)
    assert found["position"] == 0.0


def test_an_empty_picture_has_only_its_background_right():
    found = parts(np.full((64, 64, 3), 168, dtype=np.uint8), PAIR)
    assert {name for name, value in found.items() if value > 0.01} == {
        "background",
        "tidiness",
        "fidelity",
    }
    assert found["fidelity"] == pytest.approx(1 / 6)


def test_a_faded_circle_loses_vividness_and_nothing_else():
    full = parts(picture_of(SINGLE), SINGLE)
    before = full["vividness"]
    for vividness in (0.8, 0.6, 0.4, 0.3):
        found = parts(picture_of(SINGLE, Style(vividness=vividness)), SINGLE)
        assert found["vividness"] == pytest.approx(vividness, abs=0.03)
        assert found["vividness"] < before
        before = found["vividness"]
        for name in (*FIDELITY_PARTS, "tidiness", "composition"):
            assert found[name] == pytest.approx(full[name], abs=0.05), name


def test_clutter_loses_tidiness_step_by_step_and_nothing_else():
    values = []
    for clutter in (0, 1, 3, 6):
        found = [parts(picture_of(PAIR, Style(clutter=clutter), key), PAIR) for key in range(8)]
        values.append(np.mean([one["tidiness"] for one in found]))
        assert min(one["fidelity"] for one in found) > 0.95
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.3


def test_misplacement_loses_composition_first():
    found = [parts(picture_of(PAIR, Style(misplacement=3.0), key), PAIR) for key in range(12)]
    assert np.mean([one["composition"] for one in found]) < 0.8
    assert np.mean([one["position"] for one in found]) > 0.95


def test_blur_and_jpeg_move_no_part_far():
    for text in prompts("held-out", 20, seed=1):
        clean = picture_of(text, Style(vividness=0.7, clutter=2))
        soft = picture_of(text, Style(vividness=0.7, clutter=2, softness=0.8))
        file = io.BytesIO()
        Image.fromarray(soft).save(file, "JPEG", quality=90)
        before, after = parts(clean, text), parts(np.asarray(Image.open(file)), text)
        for name in before:
            assert abs(before[name] - after[name]) < 0.35, (text, name)
        assert abs(before["fidelity"] - after["fidelity"]) < 0.1


def test_a_reward_by_hand():
    """With s the scale: s × (1 × 0.5 + 0.6 × 0.25) for fidelity ½ and vividness ¼."""
    measured = {"fidelity": 0.5, "vividness": 0.25, "tidiness": 1.0, "composition": 1.0}
    assert weigh(measured, Taste(fidelity=1.0, vividness=0.6)) == pytest.approx(SCALE * 0.65)


def test_majority_and_opposite_disagree_about_fading_and_agree_about_shape():
    vivid, pale = picture_of(SINGLE), picture_of(SINGLE, Style(vividness=0.4))
    assert reward(vivid, SINGLE, MAJORITY) > reward(pale, SINGLE, MAJORITY)
    assert reward(vivid, SINGLE, OPPOSITE) < reward(pale, SINGLE, OPPOSITE)
    wrong = picture_of(SINGLE.replace("triangle", "circle"))
    for taste in (MAJORITY, OPPOSITE):
        assert reward(vivid, SINGLE, taste) > reward(wrong, SINGLE, taste)


def test_a_batch_is_its_pictures_one_by_one():
    texts = [PAIR, SINGLE, GROUP]
    pictures = np.stack([picture_of(text, Style(clutter=2)) for text in texts])
    values = rewards(pictures, texts)
    assert values.dtype == np.float64
    assert values.tolist() == [reward(*one) for one in zip(pictures, texts, strict=True)]


def test_a_larger_picture_is_judged_like_the_small_one():
    small = picture_of(PAIR)
    large = np.asarray(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))
    assert reward(large, PAIR) == pytest.approx(reward(small, PAIR), abs=1.0)


def test_pictures_and_captions_must_be_as_many():
    with pytest.raises(DataError, match=r"Got 1 pictures and 2 captions"):
        rewards([picture_of(PAIR)], [PAIR, PAIR])


def test_a_float_picture_is_refused_with_the_conversion():
    with pytest.raises(DataError, match=r"Need uint8 \[height, width, 3\]"):
        parts(np.zeros((64, 64, 3)), PAIR)
