"""User embeddings of CLIP features, on a small random model of the real class."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.core.problems import DataError, SettingError, WeightsError
from palate.scorers.clip import CLIPScorer
from palate.scorers.users import Example
from palate.scorers.users_clip import CLIPUsers
from scorers.seen import PROMPTS


@pytest.fixture(scope="module")
def examples(pictures):
    one, two, three = pictures
    return [
        Example(prompt=PROMPTS[0], chosen=one, rejected=two),
        Example(prompt=PROMPTS[2], chosen=three, rejected=one),
    ]


def features(folder, pictures) -> np.ndarray:
    """Features of length one from the tower's raw outputs, one picture alone, in float64."""
    from transformers import CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(folder).double().eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    rows = []
    for picture in pictures:
        pixels = processor(images=[picture], return_tensors="pt").pixel_values.double()
        with torch.no_grad():
            row = model.visual_projection(model.vision_model(pixels).pooler_output)[0].numpy()
        rows.append(row / np.linalg.norm(row))
    return np.array(rows)


def rms(rows):
    return rows / np.sqrt(np.square(rows).mean(-1, keepdims=True))


def test_rows_are_the_restated_differences(folder, pictures, examples):
    one, two, three = features(folder, pictures)
    mean = CLIPUsers.open(folder).embed([examples])[0]
    np.testing.assert_allclose(mean, rms((one - two + three - one)[None] / 2), atol=1e-4)
    pairs = CLIPUsers.open(folder, pooling="pairs", examples=3).embed([examples])[0]
    found, expected = pairs[:2].numpy(), rms(np.array([one - two, three - one]))
    found = found[np.argsort(found[:, 0])]
    np.testing.assert_allclose(found, expected[np.argsort(expected[:, 0])], atol=1e-4)
    assert not pairs[2].any()


def test_the_captions_part_is_the_difference_of_two_clip_scores(folder, pictures, examples):
    """What stands apart, after undoing the scale, is cosine(chosen) − cosine(rejected)."""
    example = examples[0]
    row = CLIPUsers.open(folder, captions="apart").embed([[example]])[0, 0].double().numpy()
    one, two, _ = features(folder, pictures)
    scorer = CLIPScorer.open(folder, scale="cosine")
    [won, lost] = scorer.score([example.chosen, example.rejected], [example.prompt] * 2)
    # The last number is √8 times the part along the caption; together they give v back.
    length = np.sqrt(np.square(row[:-1]).sum() + np.square(row[-1]) / 8)
    size = np.linalg.norm(one - two) / length
    assert row[-1] * size / 8**0.5 == pytest.approx(won - lost, abs=1e-5)
    assert abs(won - lost) > 1e-3, "or it would mean nothing"


def test_equal_pictures_say_nothing_and_one_that_does_is_heard(folder, examples):
    """Bit for bit, though copies may stand in different batches."""
    [one, *_] = examples
    same = Example(prompt=one.prompt, chosen=one.chosen, rejected=one.chosen.copy())
    encoder = CLIPUsers.open(folder, batch=1)
    nobody, mean, alone = encoder.embed([[same], [same, one], [one]])
    assert not nobody.any()
    torch.testing.assert_close(mean, alone)


def test_each_picture_is_looked_at_once(folder, examples):
    encoder = CLIPUsers.open(folder)
    looked = []
    encoder._network.vision_model.register_forward_hook(
        lambda module, given, found: looked.append(len(found.pooler_output))
    )
    encoder.embed([examples, examples[:1]])
    encoder.embed([examples[1:]])
    assert looked == [3]


def test_identity_follows_weights_and_settings_and_no_name(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    plain = CLIPUsers.open(folder)
    assert CLIPUsers.open(copy, name="other", batch=1).identity == plain.identity
    others = [
        CLIPUsers.open(folder, captions="apart"),
        CLIPUsers.open(folder, pooling="pairs"),
        CLIPUsers.open(folder, pooling="pairs", examples=2),
    ]
    weights = load_file(copy / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name] + 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    others.append(CLIPUsers.open(copy))
    assert len({plain.identity, *(each.identity for each in others)}) == 5


def test_what_cannot_be_opened_or_set_is_refused(folder, tmp_path, examples):
    with pytest.raises(SettingError, match="Did you mean apart"):
        CLIPUsers.open(folder, captions="appart")
    with pytest.raises(SettingError, match="one of mean, pairs"):
        CLIPUsers.open(folder, pooling="last")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="a CLIP model with its image processor"):
        CLIPUsers.open(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(WeightsError, match="a model of type 'siglip'"):
        CLIPUsers.open(copy)
    with pytest.raises(DataError, match=r"2 examples of person 0\. Need between 1 and 1"):
        CLIPUsers.open(folder, pooling="pairs", examples=1).embed([examples])
