"""Our scorers against the reference packages' own code, on the same weights, pictures and prompts.

The packages (image-reward 1.5, hpsv2 1.2.0, OpenAI's clip, transformers 4.36 as PickScore's page
uses it) ran once in an environment of their own; `lab/scorers/parity` holds what they said, and
how to make them say it again. Here the same weights are built from their names, go through
`palate scorer convert`, and are asked about the same five pictures with each of six prompts.

Both sides compute in float32 and add in different orders. Two blocks a tower leave a difference
under one millionth of the spread of the 30 scores (measured: 6e-7 at most); the bound is ten
times that, and the mistakes below stay at least ten times above the bound.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.scorers import Scorer, aesthetic, hps, imagereward, squares
from palate.scorers.aesthetic import AestheticScorer
from palate.scorers.hps import open_hps
from palate.scorers.imagereward import ImageRewardScorer
from palate.scorers.pickscore import open_pickscore
from scorers import references, seeded
from scorers.references import stored

BOUND = 1e-5
SCORERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Scorer]]] = {
    "imagereward": (references.small_imagereward, ImageRewardScorer.open),
    "pickscore": (references.small_pickscore, open_pickscore),
    "hpsv2": (references.small_hps, open_hps),
    "aesthetic": (references.small_aesthetic, AestheticScorer.open),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The four folders, converted from checkpoints. Read only."""
    return {name: make(tmp_path_factory.mktemp(name)) for name, (make, _) in SCORERS.items()}


def distance(name: str, scorer: Scorer) -> float:
    """The largest difference from the package's score, in spreads of its scores."""
    expected = np.array(stored(name)["scores"])
    pictures = seeded.pictures()
    ours = [scorer.score(pictures, [prompt] * len(pictures)) for prompt in seeded.PROMPTS]
    return float(np.abs(np.array(ours) - expected).max() / np.ptp(expected))


@pytest.mark.parametrize("name", SCORERS)
def test_scores_are_the_reference_packages_own(folders, name):
    _, opened = SCORERS[name]
    scorer = opened(folders[name])
    assert distance(name, scorer) < BOUND


@pytest.mark.parametrize("name", ["imagereward", "pickscore", "hpsv2"])
def test_the_stored_scores_tell_pictures_and_prompts_apart(name):
    scores = np.array(stored(name)["scores"])
    assert np.ptp(scores, axis=0).min() > 0.05 * np.ptp(scores)
    assert np.ptp(scores, axis=1).min() > 0.05 * np.ptp(scores)


@pytest.mark.parametrize(
    ("name", "length"), [("imagereward", 35), ("pickscore", 24), ("hpsv2", 77)]
)
def test_prompts_are_cut_as_the_package_cuts_them(folders, name, length):
    """Capitals, accents, curled quotes, ligatures, wide letters and escapes among them."""
    _, opened = SCORERS[name]
    scorer: Any = opened(folders[name])
    spelled = getattr(scorer, "_spelled", str)
    told = {"max_length": length, "truncation": True}
    ours = [scorer._words(spelled(prompt), **told).input_ids for prompt in seeded.PROMPTS]
    theirs = stored(name)["tokens"]
    assert ours == [row[: len(own)] for row, own in zip(theirs, ours, strict=True)]
    assert not any(any(row[len(own) :]) for row, own in zip(theirs, ours, strict=True))
    assert max(map(len, ours)) == length, "one prompt fills the room, and is longer"


def test_transformers_own_epsilon_would_be_seen(folders):
    scorer = ImageRewardScorer.open(folders["imagereward"])
    for part in scorer._network.vision.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = 1e-5
    assert distance("imagereward", scorer) > 10 * BOUND


@pytest.mark.parametrize(
    ("name", "room", "called", "wrong"),
    [
        ("imagereward", imagereward, "squares", partial(squares.squares, resize=squares.by_torch)),
        ("aesthetic", aesthetic, "squares", partial(squares.squares, resize=squares.by_torch)),
        ("hpsv2", hps, "by_torch", squares.by_pillow),
        ("hpsv2", hps, "framed", squares.squares),
    ],
)
def test_another_way_to_resize_would_be_seen(folders, monkeypatch, name, room, called, wrong):
    monkeypatch.setattr(room, called, wrong)
    _, opened = SCORERS[name]
    assert distance(name, opened(folders[name])) > 10 * BOUND


def test_a_crop_one_pixel_aside_would_be_seen(folders, monkeypatch):
    monkeypatch.setattr(squares, "round", int, raising=False)
    for name, scorer in (
        ("imagereward", ImageRewardScorer.open(folders["imagereward"])),
        ("aesthetic", AestheticScorer.open(folders["aesthetic"])),
    ):
        assert distance(name, scorer) > 10 * BOUND
