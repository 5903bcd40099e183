"""What every maker of user embeddings promises, asked of each of them."""

import json

import numpy as np
import pytest
import torch

from palate.core.files import digest_json
from palate.core.problems import DataError
from palate.scorers.users import Example, Remembered, scaled
from palate.scorers.users_clip import CLIPUsers
from palate.scorers.users_looks import LooksUsers
from palate.scorers.users_vision import VisionUsers
from scorers.tiny_vision import FAMILIES, build

ENCODERS = {
    "looks": lambda clip, eyes: LooksUsers(),
    "looks, pairs": lambda clip, eyes: LooksUsers(pooling="pairs"),
    "clip": lambda clip, eyes: CLIPUsers.open(clip),
    "clip, pairs": lambda clip, eyes: CLIPUsers.open(clip, pooling="pairs"),
    "clip, captions apart": lambda clip, eyes: CLIPUsers.open(clip, captions="apart"),
    "vision": lambda clip, eyes: VisionUsers.open(eyes),
    "vision, turned": lambda clip, eyes: VisionUsers.open(eyes, pooling="turned"),
    "vision, pairs": lambda clip, eyes: VisionUsers.open(eyes, pooling="pairs"),
}
# The others read, and a reader comes to one thing before the next.
WITHOUT_ORDER = [name for name in ENCODERS if "vision" not in name]


@pytest.fixture(scope="session")
def opened(folder, tmp_path_factory):
    """All encoders, by name."""
    eyes = build(FAMILIES[0], tmp_path_factory.mktemp("eyes") / FAMILIES[0])
    return {name: make(folder, eyes) for name, make in ENCODERS.items()}


@pytest.fixture(params=ENCODERS)
def encoder(request, opened):
    return opened[request.param]


@pytest.fixture(scope="module")
def examples():
    draw = np.random.default_rng(0)

    def patches():
        coarse = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return coarse.repeat(12, axis=0).repeat(14, axis=1)

    return [
        Example(prompt=prompt, chosen=patches(), rejected=patches())
        for prompt in ("a red ball", "a dog", "", "a blue box on green")
    ]


def test_rows_are_as_many_and_as_wide_as_said_and_of_one_size(encoder, examples):
    found = encoder.embed([examples, examples[:2], examples[1:]])
    assert found.shape == (3, encoder.tokens, encoder.width)
    assert found.dtype == torch.float32
    assert found.device.type == "cpu"
    sizes = found.square().mean(-1).sqrt()
    assert (((sizes - 1).abs() < 1e-5) | (sizes == 0)).all()
    assert (sizes[:, 0] > 0).all()
    assert len({tuple(row.flatten().tolist()) for row in found}) == 3


def test_one_example_is_enough_and_absent_rows_are_zero(encoder, examples):
    [found] = encoder.embed([examples[:1]])
    assert found.any(dim=1).sum() == 1
    assert found[0].any()


def test_a_person_is_embedded_alike_alone_in_company_and_again(encoder, examples):
    people = [examples[:3], examples[2:], examples]
    together = encoder.embed(people)
    assert torch.equal(together, encoder.embed(people))
    alone = torch.cat([encoder.embed([mine]) for mine in people])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_which_picture_was_chosen_matters(encoder, examples):
    turned = [Example(prompt=e.prompt, chosen=e.rejected, rejected=e.chosen) for e in examples]
    one, other = encoder.embed([examples, turned])
    assert (one - other).abs().max() > 1e-3


def test_nobody_asked_is_nobody_answered_and_no_example_is_refused(encoder, examples):
    assert encoder.embed([]).shape == (0, encoder.tokens, encoder.width)
    with pytest.raises(DataError, match="0 examples of person 1"):
        encoder.embed([examples, []])


def test_what_it_says_of_itself_is_json_and_holds_shape_and_pooling(encoder):
    about = json.loads(json.dumps(dict(encoder.about)))
    assert about == encoder.about
    assert (about["tokens"], about["width"]) == (encoder.tokens, encoder.width)
    assert {"encoder", "pooling", "arithmetic"} <= set(about)
    assert encoder.identity == digest_json(encoder.about)


@pytest.mark.parametrize("name", WITHOUT_ORDER)
def test_the_order_of_examples_does_not_matter_to_the_bit(opened, name, examples):
    encoder = opened[name]
    assert torch.equal(encoder.embed([examples]), encoder.embed([examples[::-1]]))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)])
def test_a_wrong_picture_is_named(wrong):
    right = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(DataError, match=r"a rejected picture of .*Need uint8 \[height, width, 3\]"):
        Example(prompt="x", chosen=right, rejected=wrong)


def test_an_examples_digest_is_of_its_content(examples):
    first = examples[0]
    again = Example(prompt=first.prompt, chosen=first.chosen.copy(), rejected=first.rejected)
    turned = Example(prompt=first.prompt, chosen=first.rejected, rejected=first.chosen)
    assert first.digest == again.digest
    assert len({first.digest, turned.digest, examples[1].digest}) == 3


def test_what_arithmetic_left_over_is_no_row():
    rows = torch.tensor([[3.0, 4.0], [1e-12, -1e-12], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]) * 2**0.5
    torch.testing.assert_close(scaled(rows), expected)


def test_a_picture_is_looked_at_once_and_the_oldest_are_forgotten():
    asked = []

    def look(images):
        asked.append(len(images))
        return torch.tensor([[float(image.sum())] for image in images])

    first, second, third = (np.full((1, 1, 3), value, np.uint8) for value in (1, 2, 3))
    known = Remembered(most=2)
    assert known.of([first, first, second], look).tolist() == [[3], [3], [6]]
    assert known.of([second, first], look).tolist() == [[6], [3]]
    assert asked == [2]
    assert known.of([third, first], look).tolist() == [[9], [3]]
    assert known.of([first], look).tolist() == [[3]]
    assert asked == [2, 1, 1], "the first was forgotten when the third came"
