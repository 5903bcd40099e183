"""ImageReward's folder: what it is made of, what it refuses, and that its numbers keep still.

That they are the right numbers is asked in `test_parity.py`.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.core.files import new_folder
from palate.core.problems import DataError, WeightsError
from palate.scorers import Scorer
from palate.scorers.imagereward import ImageRewardScorer, write_imagereward
from palate.scorers.imagereward_network import converted
from scorers import seeded
from scorers.references import bert, checkpoint, small_imagereward, stored


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ImageReward. Read only."""
    return small_imagereward(tmp_path_factory.mktemp("imagereward"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """A small checkpoint by the published names, with the buffer the published one has."""
    places = {"blip.text_encoder.embeddings.position_ids": torch.arange(64)[None]}
    return checkpoint(stored("imagereward")) | places


def changed(folder: Path, name: str, text: str) -> None:
    """Write something else and a manifest that agrees, as someone who edits on purpose would."""
    (folder / name).write_text(text)
    (folder / "manifest.json").unlink()
    with new_folder(folder.with_name("agreed")) as inside:
        shutil.copytree(folder, inside, dirs_exist_ok=True)
    shutil.rmtree(folder)
    folder.with_name("agreed").rename(folder)


def test_sizes_are_read_off_the_tensors(tensors):
    _, settings = converted(tensors)
    assert settings == {
        "vision": {
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        "text": {
            "vocab_size": len(seeded.word_pieces()) + 2,
            "hidden_size": 192,
            "encoder_hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "max_position_embeddings": 64,
        },
        "head": [192, 1024, 128, 64, 16, 1],
    }


def test_the_published_sizes_are_recognised():
    """Vision 24 blocks of 1024 in 16 heads at 224, text 12 blocks of 768 in 12; no bytes needed."""
    with torch.device("meta"):
        small = checkpoint_shapes(blocks=24, layers=12)
        _, settings = converted({name: torch.empty(shape) for name, shape in small.items()})
    vision, text = settings["vision"], settings["text"]
    assert (vision["num_hidden_layers"], vision["num_attention_heads"]) == (24, 16)
    assert (vision["image_size"], vision["patch_size"]) == (224, 16)
    assert (text["num_hidden_layers"], text["num_attention_heads"]) == (12, 12)
    assert (text["vocab_size"], text["encoder_hidden_size"]) == (30524, 1024)


def checkpoint_shapes(*, blocks: int, layers: int) -> dict[str, tuple[int, ...]]:
    """The small checkpoint's names at the published sizes and depths."""
    sizes = {128: 1024, 384: 3072, 512: 4096, 192: 768, 320: 3072, 17: 197, 8: 16}
    words = len(seeded.word_pieces()) + 2
    found = {}
    for name, shape in stored("imagereward")["shapes"].items():
        keep = name.startswith("mlp.layers.") and "layers.0.weight" not in name
        large = tuple(shape) if keep else tuple(sizes.get(n, n) for n in shape)
        large = (1024, 768) if name == "mlp.layers.0.weight" else large
        large = (30524, 768) if shape == [words, 192] else large
        found[name] = (512, 768) if shape == [64, 192] else large
    deep = {}
    for name, shape in found.items():
        deep[name] = shape
        if ".blocks.0." in name:
            deep |= {name.replace(".0.", f".{n}.", 1): shape for n in range(blocks)}
        if ".layer.0." in name:
            deep |= {name.replace(".0.", f".{n}.", 1): shape for n in range(layers)}
    return deep


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mlp.layers.4.weight", r"no tensor for head\.2\.weight"),
        (
            "blip.visual_encoder.blocks.1.attn.qkv.bias",
            r"missing \['vision\.encoder\.layers\.1\.",
        ),
        ("blip.text_encoder.encoder.layer.0.crossattention.self.key.weight", "no tensor for text"),
    ],
)
def test_a_missing_tensor_is_named(tensors, name, said):
    with pytest.raises(WeightsError, match=said):
        converted({key: value for key, value in tensors.items() if key != name})


def test_unknown_names_and_wrong_shapes_are_named(tensors):
    with pytest.raises(WeightsError, match=r"1 unknown \['blip\.visual_encoder\.blocks_m"):
        converted(tensors | {"blip.visual_encoder.blocks_m.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"1 of another shape \['text\.encoder\.layer\.1\."):
        wrong = "blip.text_encoder.encoder.layer.1.output.dense.bias"
        converted(tensors | {wrong: torch.zeros(7)})
    with pytest.raises(WeightsError, match="no tensor for vision"):
        converted({"layers.0.weight": torch.zeros(2, 2)})


def test_another_vocabulary_is_refused(tensors, tmp_path):
    base = bert(tmp_path / "bert")
    (base / "vocab.txt").write_text("\n".join(seeded.word_pieces()[:-3]) + "\n")
    with (
        pytest.raises(WeightsError, match=r"words with \[DEC\] and \[ENC\]"),
        new_folder(tmp_path / "out") as inside,
    ):
        write_imagereward(inside, tensors, base)
    assert not (tmp_path / "out").exists()
    (base / "vocab.txt").unlink()
    with pytest.raises(WeightsError, match=r"without tokenizer\.json or vocab\.txt"):
        write_imagereward(tmp_path, tensors, base)


def test_a_picture_is_scored_alike_alone_in_company_and_again(reward):
    scorer: Scorer = ImageRewardScorer.open(reward, batch=2)
    pictures, prompts = seeded.pictures(), seeded.PROMPTS[:5]
    together = scorer.score(pictures, prompts)
    assert together.dtype == np.float64
    assert np.array_equal(together, scorer.score(pictures, prompts))
    alone = [float(scorer.score([p], [t])[0]) for p, t in zip(pictures, prompts, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert scorer.score([], []).shape == (0,)


def test_identity_follows_weights_and_settings_and_not_the_batch(reward, tmp_path):
    first = ImageRewardScorer.open(reward)
    assert first.identity == ImageRewardScorer.open(reward, name="other", batch=1).identity
    assert (first.name, ImageRewardScorer.open(reward, name="other").name) == ("reward", "other")
    copy = tmp_path / "copy"
    shutil.copytree(reward, copy)
    text = (copy / "config.json").read_text()
    changed(copy, "config.json", text.replace('"length": 35', '"length": 20'))
    assert first.identity != ImageRewardScorer.open(copy).identity


def test_wrong_pictures_are_named(reward):
    scorer = ImageRewardScorer.open(reward)
    with pytest.raises(DataError, match="Got 1 pictures and 2 prompts"):
        scorer.score(seeded.pictures()[:1], ["a", "b"])
    with pytest.raises(DataError, match=r"picture 0 of float32 \(4, 4, 3\)"):
        scorer.score([np.zeros((4, 4, 3), np.float32)], ["a"])
    with pytest.raises(DataError, match=r"picture 0 of uint8 \(0, 4, 3\)"):
        scorer.score([np.zeros((0, 4, 3), np.uint8)], ["a"])


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "tokenizer"])
def test_a_folder_without_a_part_is_refused_with_the_command_that_makes_one(reward, tmp_path, gone):
    copy = tmp_path / "copy"
    shutil.copytree(reward, copy)
    shutil.move(copy / gone, tmp_path / "aside")
    with pytest.raises(WeightsError, match="palate scorer convert") as refused:
        ImageRewardScorer.open(copy)
    assert gone in refused.value.got


def test_a_damaged_folder_and_another_kind_are_refused(reward, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(reward, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(WeightsError, match="its digest differs"):
        ImageRewardScorer.open(copy)
    shutil.copyfile(reward / "model.safetensors", copy / "model.safetensors")
    text = (copy / "config.json").read_text()
    changed(copy, "config.json", text.replace('"imagereward"', '"latent"'))
    with pytest.raises(WeightsError, match="a scorer of kind latent"):
        ImageRewardScorer.open(copy)
