"""Each picture keeps the size it had and the window it was cut from, as far as the network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones import tiny_sdxl
from palate.backbones import load
from palate.core.files import read_json
from palate.core.streams import Streams
from palate.data.comparison import compare
from palate.data.pairs import PreferencePairs
from palate.data.store import Store
from palate.objectives import OBJECTIVES
from palate.train.batch import Batches
from palate.train.cache import Cache, View, cut, sizes
from palate.train.denoise import denoise
from palate.train.groups import NoiseSettings, Pictures
from palate.train.loop import train
from palate.train.noise import Fresh
from train.conftest import small_run

SHAPES = ((80, 64), (64, 96), (128, 64), (64, 64))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A Stable Diffusion XL folder, small and random. Read only."""
    folder = tmp_path_factory.mktemp("model") / "sdxl"
    tiny_sdxl.build([f"a thing {i}" for i in range(12)]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twelve pairs of pictures of four shapes, the two of a pair never of the same one."""
    draw = np.random.default_rng(0)
    store = Store(tmp_path_factory.mktemp("data") / "store")
    with store.writing():
        rows = []
        for i in range(12):
            shapes = SHAPES[i % 4], SHAPES[(i + 1) % 4]
            pictures = [draw.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
            images = [store.put(picture) for picture in pictures]
            rows.append(
                compare(prompt=f"a thing {i}", images=images, agreement=1.0, judge="j",
                        source="world", origin=f"test {i}")
            )  # fmt: skip
        store.add(rows)
    return store.freeze(tmp_path_factory.mktemp("frozen") / "snapshot").path


@pytest.mark.parametrize(
    ("window", "mirrored", "left"),
    [(0, False, 0), (1, False, 20), (2, False, 40), (0, True, 40), (1, True, 20), (2, True, 0)],
)
def test_sizes_of_a_wide_picture_by_hand(window, mirrored, left):
    """200 × 120 pixels at side 60 become 100 × 60; windows start at 0, 20 and 40.

    In the mirror the first window is the last one.
    """
    view = View(window=window, mirrored=mirrored)
    assert sizes(120, 200, view, 60).numbers == (120, 200, 0, left, 60, 60)
    assert sizes(200, 120, View(window=window), 60).numbers == (200, 120, window * 20, 0, 60, 60)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("window", [0, 1, 2])
def test_the_crop_that_is_told_is_the_crop_that_was_cut(window, mirrored):
    """Cut again from the numbers alone, out of the whole picture, mirrored before."""
    picture = np.random.default_rng(1).integers(0, 256, (64, 97, 3), dtype=np.uint8)
    view = View(window=window, mirrored=mirrored)
    _, _, top, left, height, width = sizes(64, 97, view, 64).numbers
    whole = np.asarray(Image.fromarray(picture))[:, ::-1] if mirrored else picture
    again = whole[top : top + height, left : left + width]
    assert np.array_equal(cut(picture, view, 64), again)


def test_the_two_pictures_of_a_pair_have_their_own_sizes(model, data, tmp_path):
    backbone, pairs = load(model), PreferencePairs.open(data)
    pictures = Pictures(crop="random", flip=True)
    cache = Cache(tmp_path, backbone, 64)
    cache.fill(backbone, pairs, pictures, pairs.image, lambda _: None)
    batch = Batches(cache=cache, pictures=pictures, streams=Streams(3))(list(pairs), [5] * 12)
    for side, names in enumerate(([p.chosen for p in pairs], [p.rejected for p in pairs])):
        told = batch.conditions[side].sizes
        shapes = [list(pairs.image(name).shape[:2]) for name in names]
        assert told[:, :2].tolist() == shapes
        assert told[:, 4:].tolist() == [[64, 64]] * 12
    assert len({tuple(row) for row in batch.conditions[0].sizes.tolist()}) > 4
    assert not torch.equal(batch.conditions[0].sizes, batch.conditions[1].sizes)
    piece = batch.parts(5)[1]
    assert torch.equal(piece.conditions[1].sizes, batch.conditions[1].sizes[5:10])


def test_the_network_is_told_them(model, data, tmp_path):
    """Evidence with the true sizes is not evidence with those of an uncropped square."""
    backbone, pairs = load(model), PreferencePairs.open(data)
    cache = Cache(tmp_path, backbone, 64)
    cache.fill(backbone, pairs, Pictures(), pairs.image, lambda _: None)
    batch = Batches(cache=cache, pictures=Pictures(), streams=Streams(3)).plain(list(pairs))
    source = Fresh(streams=Streams(1), path=backbone.path, settings=NoiseSettings())
    needs, heard = OBJECTIVES["dpo"].needs, []
    plain = backbone.predict

    def listening(noisy, level, condition):
        heard.append(condition.sizes)
        return plain(noisy, level, condition)

    backbone.predict = listening
    denoise(backbone, batch, source(batch), needs)
    expected = torch.cat([batch.conditions[0].sizes, batch.conditions[1].sizes])
    assert len(heard) == 2
    assert all(torch.equal(told, expected) for told in heard)


@pytest.mark.parametrize(
    "changes",
    [{}, pytest.param({"adapter": None}, marks=pytest.mark.slow)],
    ids=["lora", "full"],
)
def test_a_run_from_beginning_to_end(changes, model, data, tmp_path):
    """Trained in one go, and in two: the same weights, on the same rows."""
    run = small_run(model, data).with_values(
        {"plan.steps": 3, "plan.save_every": 2, "plan.health_every": 3, **changes}
    )
    train(run, tmp_path / "whole", cache=tmp_path / "cache")
    train(run.with_values({"plan.steps": 2}), tmp_path / "half", cache=tmp_path / "cache")
    train(run, tmp_path / "half", resume=True, cache=tmp_path / "cache")
    records = [read_json(tmp_path / name / "record.json") for name in ("whole", "half")]
    assert records[0]["cache"]["used"] == records[1]["cache"]["used"]
    loaded = [load(model, weights=tmp_path / name / "export") for name in ("whole", "half")]
    assert loaded[0].applied == loaded[1].applied
    card = (tmp_path / "whole/export/README.md").read_text()
    assert "DiffusionPipeline.from_pretrained" in card
    assert "text_encoder_2: sha256" in card
