"""Stage C's picture encoder, against torchvision's EfficientNetV2-S through a stored answer."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones import keyed_effnet
from palate.backbones.effnet import FILE, PictureEncoder
from palate.core.problems import SettingError, WeightsError
from palate.core.streams import Streams

CPU = torch.device("cpu")
GOLDEN = json.loads((Path(__file__).parent / "effnet_golden.json").read_text())


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The published file's shape with drawn weights. Read only."""
    return keyed_effnet.write(tmp_path_factory.mktemp("effnet"))


@pytest.fixture(scope="module")
def encoder(file):
    """The encoder, loaded once. Ask it; do not change it."""
    return PictureEncoder.load(file, CPU)


def picture(*shape):
    """Random pictures, uint8."""
    draw = Streams(1)("picture").numpy()
    return torch.from_numpy(draw.integers(0, 256, (*shape, 3), dtype="uint8"))


def close(one, other):
    """To a thousandth of the answers' spread: forty drawn layers make rounding some 1e4 louder."""
    return (one - other).abs().max() < 1e-3 * other.std()


@pytest.mark.slow
def test_it_answers_as_torchvisions_network_with_the_same_weights(encoder):
    """Resized from 120×80 to 96×64, normalised, encoded: 3×2 latents, stored from torchvision."""
    stored = torch.tensor(GOLDEN["latents"]).reshape(1, 16, 2, 3)
    ours = encoder.encode(picture(1, 80, 120), (2, 3))
    assert close(ours, stored)
    assert stored.std() > 1


def test_it_has_the_size_of_the_published_network(encoder):
    """EfficientNetV2-S has 21,458,488 parameters, 1,281,000 of them in the head: 1280·1000 + 1000.

    The mapper adds 1280·16 and, being normalised without scale and shift, nothing else.
    """
    body = sum(weight.numel() for weight in encoder.backbone.parameters())
    assert body == 21_458_488 - 1_281_000 == 20_177_488
    assert sum(weight.numel() for weight in encoder.mapper.parameters()) == 1280 * 16
    assert len(encoder.state_dict()) == GOLDEN["names"]
    stages = [stage[-1].block[-1][0].out_channels for stage in list(encoder.backbone)[1:-1]]
    assert stages == [24, 48, 64, 128, 160, 256]
    assert not any(weight.requires_grad for weight in encoder.parameters())


@pytest.mark.slow
def test_a_picture_of_1024_pixels_becomes_24_latents_in_each_direction(encoder):
    """Asked of the layers' strides alone, because the real size takes long on one core."""
    strides = [layer.stride[0] for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert torch.tensor(strides).prod() == 32
    assert encoder.encode(picture(2, 64, 64), (1, 4)).shape == (2, 16, 1, 4)
    assert -(-1024 // 42.67) * 32 == 768


def test_pictures_encoded_alone_and_together_are_the_same(encoder):
    both = encoder.encode(picture(2, 64, 64), (2, 2))
    alone = encoder.encode(picture(2, 64, 64)[1:], (2, 2))
    assert close(alone, both[1:])
    assert not close(both[:1], both[1:])


def test_counts_of_training_batches_may_be_missing(file, encoder, tmp_path):
    kept = {n: w for n, w in load_file(file).items() if not n.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / FILE)
    again = PictureEncoder.load(tmp_path / FILE, CPU)
    asked = picture(1, 32, 32), (1, 1)
    assert torch.equal(again.encode(*asked), encoder.encode(*asked))


def test_without_the_file_it_says_where_to_get_it(tmp_path):
    with pytest.raises(WeightsError, match=f"no {FILE} in .* Put {FILE} of stabilityai/"):
        PictureEncoder.load(tmp_path / FILE, CPU)


@pytest.mark.parametrize("spoil", ["name", "shape", "nan"])
def test_a_file_of_another_network_is_refused(file, tmp_path, spoil):
    tensors = load_file(file)
    weight = tensors.pop("mapper.0.weight")
    spoilt = {
        "name": {"head.0.weight": weight},
        "shape": {"mapper.0.weight": weight[:8].clone()},
        "nan": {"mapper.0.weight": weight * float("nan")},
    }
    save_file({**tensors, **spoilt[spoil]}, tmp_path / FILE)
    with pytest.raises(WeightsError, match="NaN" if spoil == "nan" else "EfficientNetV2-S under"):
        PictureEncoder.load(tmp_path / FILE, CPU)


def test_pictures_of_another_type_are_refused(encoder):
    with pytest.raises(SettingError, match=r"uint8 \[b, h, w, 3\]"):
        encoder.encode(picture(1, 32, 32).float(), (1, 1))
