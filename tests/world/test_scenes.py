"""Captions and scenes are the same thing said twice; splits never meet."""

import pytest

from palate.core.problems import DataError, SettingError
from palate.world.scenes import Scene, Thing, every_scene, prompts, split_of


def test_every_caption_reads_back_as_its_own_scene():
    """All 24 things in 5 places, in 2 numbers, and 24 × 20 pairs in 4 relations, on 3 grounds."""
    scenes = list(every_scene())
    assert len(scenes) == 48 * (5 + 2) * 3 + 48 * 40 * 4 * 3
    assert all(Scene.parse(scene.caption) == scene for scene in scenes[::7])


def test_captions_are_all_different():
    captions = [scene.caption for scene in every_scene()]
    assert len(set(captions)) == len(captions)


def test_a_relation_reads_as_english():
    scene = Scene(
        things=(Thing("large", "red", "circle"), Thing("small", "blue", "square")),
        relation="left of",
        background="grey",
    )
    assert scene.caption == "a large red circle left of a small blue square on a grey background"


def test_a_group_names_its_number():
    scene = Scene.parse("Three small green crosses  on a black background.")
    assert scene.number == 3
    assert scene.objects == (Thing("small", "green", "cross"),) * 3


def test_a_misspelt_word_is_named_with_the_one_that_was_meant():
    with pytest.raises(DataError, match=r"Did you mean 'purple' instead of 'purpel'\?"):
        Scene.parse("a small purpel circle in the centre of a white background")


def test_a_foreign_sentence_says_what_the_world_understands():
    with pytest.raises(
        DataError, match=r"Got caption 'a cat'\. Need a sentence of the small world"
    ):
        Scene.parse("a cat")


def test_two_objects_of_one_colour_are_refused_with_the_reason():
    with pytest.raises(DataError, match=r"Need two objects of different colours"):
        Scene.parse("a small red circle above a large red square on a white background")


def test_held_out_prompts_are_never_train_prompts():
    held_out, train = prompts("held-out", 500, seed=0), prompts("train", 500, seed=0)
    assert len(set(held_out)) == len(set(train)) == 500
    assert {split_of(text) for text in held_out} == {"held-out"}
    assert {split_of(text) for text in train} == {"train"}


def test_prompts_are_a_function_of_the_seed_and_longer_lists_begin_alike():
    assert prompts("held-out", 20, seed=3) == prompts("held-out", 40, seed=3)[:20]
    assert prompts("held-out", 20, seed=3) != prompts("held-out", 20, seed=4)


def test_an_unknown_split_names_the_nearest():
    with pytest.raises(SettingError, match=r"Did you mean held-out\?"):
        prompts("heldout", 5, seed=0)


def test_more_prompts_than_there_are_is_refused():
    with pytest.raises(SettingError, match=r"n=5000 prompts of the held-out split"):
        prompts("held-out", 5000, seed=0)
