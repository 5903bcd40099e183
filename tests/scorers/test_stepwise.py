"""An ordinary scorer at every step, and what is refused of what is seen."""

import numpy as np
import pytest
import torch

from palate.core.problems import DataError
from palate.scorers import StepScorer, Timeless
from palate.scorers.clip import CLIPScorer
from palate.scorers.stepwise import latents
from scorers.seen import PROMPTS


@pytest.fixture(scope="module")
def timeless(folder) -> Timeless:
    return Timeless(CLIPScorer.open(folder))


def test_a_timeless_scorer_says_what_the_scorer_says_at_every_level(folder, pictures, timeless):
    expected = CLIPScorer.open(folder).score(pictures, PROMPTS)
    for level in ([0, 0, 0], [999, 3, 500]):
        assert np.array_equal(timeless.score_steps(pictures, PROMPTS, level), expected)


def test_a_timeless_scorer_is_another_one_than_the_plain(folder, timeless):
    scorer: StepScorer = timeless
    assert scorer.reads == "pictures"
    assert scorer.name == "model"
    assert scorer.identity not in ("", CLIPScorer.open(folder).identity)


def test_latents_shown_to_a_reader_of_pictures_are_refused(timeless, noisy):
    with pytest.raises(DataError, match=r"Got latents \[3, 4, 16, 16\]\. Need pictures"):
        timeless.score_steps(noisy, PROMPTS, [0, 0, 0])


def test_pictures_shown_to_a_reader_of_latents_are_refused(pictures):
    with pytest.raises(DataError, match=r"Got 3 pictures\. Need latents"):
        latents(pictures, PROMPTS, [0, 0, 0])


@pytest.mark.parametrize(
    ("prompts", "level", "words"),
    [
        (PROMPTS[:2], [0, 0, 0], "3 things seen, 2 prompts and 3 levels"),
        (PROMPTS, [0, 0], "3 things seen, 3 prompts and 2 levels"),
        (PROMPTS, [0, -1, 0], "Got level -1"),
    ],
)
def test_prompts_and_levels_that_do_not_fit_are_named(timeless, pictures, prompts, level, words):
    with pytest.raises(DataError, match=words):
        timeless.score_steps(pictures, prompts, level)


def test_a_picture_of_floats_and_a_flat_latent_are_named(timeless):
    with pytest.raises(DataError, match=r"picture 0 of float64 \(4, 4, 3\)"):
        timeless.score_steps([np.zeros((4, 4, 3))], ["a"], [0])
    with pytest.raises(DataError, match=r"latents of shape \[4, 16, 16\]"):
        latents(torch.zeros(4, 16, 16), ["a"] * 4, [0] * 4)
