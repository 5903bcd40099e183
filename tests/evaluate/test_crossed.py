"""Users drawn for by a real small model, and what lies between two of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.planted_users import planted_slide, tastes
from evaluate.tastes import GREEN, RED, Opposite
from palate.backbones import Backbone, Personal, load
from palate.backbones.listening import Listening
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.core.problems import DataError, SettingError
from palate.core.streams import Streams
from palate.evaluate.crossed import draw_crossed, rewards
from palate.evaluate.slide import curve, monotony, slide
from palate.world.scenes import prompts

SETTINGS = Personal(user_width=6, tokens=2, width=5)
ASKED = prompts("held-out", 3, 1)
SAMPLER = Sampler(steps=2, guidance=2.0)


@pytest.fixture(scope="module")
def personal(folder: Path) -> Backbone:
    """A model that answers every user differently, having learned nothing of use."""
    model = load(folder, personal=SETTINGS, train=True)
    with torch.no_grad():
        for name, weight in model.trainable().items():
            weight.add_(Streams(7)("taught", name).normal(tuple(weight.shape)))
    return model


def somebody(name: str) -> torch.Tensor:
    return Streams(0)("user", name).normal((SETTINGS.tokens, SETTINGS.user_width))


USERS = {name: somebody(name) for name in ("ann", "ben", "cem")}
TASTES = {"ann": RED, "ben": GREEN, "cem": Opposite("dark", 0)}


def drawn(model: Backbone, numbers: int = 1) -> np.ndarray:
    """Drawn from the noise that prompts and numbers name, without the module's own code."""
    names = [(prompt, number) for prompt in ASKED for number in range(numbers)]
    noise = starting_noise(model, names, 5)
    return sample(model, [prompt for prompt, _ in names], noise, SAMPLER).numpy()


def test_everyone_judges_what_was_drawn_for_everyone(personal, before, after):
    found = draw_crossed(
        personal, USERS, TASTES, ASKED, base=before, pooled=after, seed=5, sampler=SAMPLER
    )
    for v, shown in enumerate(USERS.values()):
        pictures = drawn(Listening(personal, shown))
        for u, taste in enumerate(TASTES.values()):
            np.testing.assert_allclose(found.personal[u, v], taste.score(pictures, ASKED))
    np.testing.assert_allclose(found.base[1], GREEN.score(drawn(before), ASKED))
    np.testing.assert_allclose(found.pooled[0], RED.score(drawn(after), ASKED))
    assert np.abs(found.personal[0, 0] - found.personal[0, 1]).min() > 0


def test_the_base_is_the_model_asked_for_nobody(personal, before):
    """To the bit, so a base need not be loaded beside it. At strength 0 everybody is nobody."""
    asked = {"seed": 5, "sampler": SAMPLER, "strength": 0.0}
    found = draw_crossed(personal, USERS, TASTES, ASKED, **asked)
    np.testing.assert_array_equal(found.base[0], RED.score(drawn(before), ASKED))
    np.testing.assert_allclose(found.personal[0], found.base[[0, 0, 0]], atol=0.2)


def test_several_pictures_of_a_prompt_come_from_noises_of_their_own(personal):
    found = draw_crossed(personal, USERS, TASTES, ASKED, seed=5, sampler=SAMPLER, pictures=2)
    assert found.prompts == tuple(np.repeat(ASKED, 2).tolist())
    np.testing.assert_allclose(found.base[0], RED.score(drawn(personal, 2), [""] * 6))
    assert found.base[0, 0] != found.base[0, 1]


def test_a_black_picture_has_no_reward_whatever_a_taste_thinks_of_it():
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    pictures[1, 2:4] = 200
    found = rewards(Opposite("dark", 0), pictures, [("a", 0), ("b", 0)])
    assert np.isnan(found[0])
    assert found[1] == -50.0


def test_users_without_a_taste_and_prompts_that_repeat_are_refused(personal):
    with pytest.raises(SettingError, match="embeddings of 3 users, tastes of 2"):
        draw_crossed(personal, USERS, {"ann": RED, "ben": GREEN}, ASKED)
    with pytest.raises(SettingError, match="1 different"):
        draw_crossed(personal, USERS, TASTES, [ASKED[0]] * 2)


def test_the_ends_of_a_slide_are_the_two_users(personal):
    found = slide(
        personal,
        USERS["ann"],
        USERS["ben"],
        (0.0, 0.5, 1.0),
        (RED, GREEN),
        ASKED,
        names=("ann", "ben"),
        seed=5,
        sampler=SAMPLER,
        shown=2,
    )
    for at, name in ((0, "ann"), (2, "ben")):
        pictures = drawn(Listening(personal, USERS[name]))
        np.testing.assert_array_equal(found.reward_a[at], RED.score(pictures, ASKED))
        np.testing.assert_array_equal(found.reward_b[at], GREEN.score(pictures, ASKED))
        np.testing.assert_array_equal(found.pictures[at], pictures[:2])
    middle = drawn(Listening(personal, 0.5 * USERS["ann"] + 0.5 * USERS["ben"]))
    np.testing.assert_allclose(found.reward_a[1], RED.score(middle, ASKED), atol=0.05)
    assert curve(found).rises.course == "open"


def test_a_reward_that_rises_with_every_share_is_said_to():
    found = curve(planted_slide([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert (found.rises.course, found.falls.course) == ("rises", "rises")
    assert all(step.low > 0 and step.confidence == 0.9 for step in found.rises.steps)
    assert found.rises.whole.low > 3
    assert (found.unit, found.rises.whole.n) == ("prompt", 24)
    assert (found.second[0].value, found.first[4].value) == (0, 0)
    assert found.second[4].value == pytest.approx(found.rises.whole.value)
    assert found.first[0].value == pytest.approx(found.falls.whole.value)


def test_one_step_back_is_found_among_steps_ahead():
    found = curve(planted_slide([0.0, 2.0, 1.0, 3.0, 4.0]))
    assert (found.rises.course, found.falls.course) == ("falls somewhere", "falls somewhere")
    assert found.rises.whole.low > 0


def test_a_flat_stretch_is_open():
    assert curve(planted_slide([0.0, 1.0, 1.0, 2.0])).rises.course == "open"


def test_three_prompts_that_agree_show_nothing():
    """Three rises of three happen by chance once in eight; five, once in 32."""
    sure = np.arange(3.0)[:, None] + np.zeros(3)
    assert monotony(sure, ["p", "q", "r"]).course == "open"
    sure = np.arange(3.0)[:, None] + np.zeros(5)
    assert monotony(sure, ["p", "q", "r", "s", "t"]).course == "rises"


@pytest.mark.slow
def test_a_flat_reward_is_seldom_said_to_fall():
    """Four steps of nothing in 40 worlds: the error is held at 5 % for all steps together."""
    wrong = 0
    for seed in range(40):
        luck = Streams(seed)("flat").numpy().normal(size=(5, 20))
        wrong += monotony(luck, range(20)).course == "falls somewhere"
    assert wrong <= 4


def test_the_share_of_pictures_that_never_fall_by_hand():
    rewards = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, -1.0, 2.0], [2.0, 0.0, 5.0, 1.0]])
    assert monotony(rewards, range(4)).unbroken.value == 0.5


def test_several_pairs_of_users_are_as_many_answers():
    few = [replace(planted_slide([0.0, 1.0, 2.0]), names=(f"a{n}", f"b{n}")) for n in range(6)]
    found = curve(few)
    assert (found.unit, found.rises.whole.n, found.rises.whole.measurements) == ("pair", 6, 144)
    with pytest.raises(DataError, match="2 sets of shares"):
        curve([few[0], planted_slide([0.0, 1.0, 2.0, 3.0])])


def test_a_picture_that_broke_somewhere_is_left_out_everywhere():
    found = planted_slide([0.0, 1.0, 2.0])
    found.reward_b[1, 4] = np.nan
    told = curve(found)
    assert (told.left_out, told.first[0].n) == (1, 23)
    found.reward_a[0] = np.nan
    with pytest.raises(DataError, match="24 pictures, each broken"):
        curve(found)


def test_planted_tastes_partly_oppose():
    """So that the planted worlds are worth asking about."""
    liked = tastes(20)
    likeness = liked @ liked.T
    assert likeness.min() < -0.8
    assert np.sort(likeness[0])[-2] > 0.5
