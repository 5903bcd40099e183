"""The CLIP scorer against an independent restatement, on a small random model of the real class."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer

from palate.core.problems import DataError, SettingError, WeightsError
from palate.scorers import Scorer
from palate.scorers.clip import CLIPScorer
from scorers.seen import PROMPTS, SIDE, TOKENS


def restated(folder: Path, picture: np.ndarray, prompt: str) -> tuple[float, float]:
    """Cosine and scaled logit from the towers' raw outputs, one picture alone, in float64.

    Shorter side to 32 with Pillow's bicubic filter, middle 32×32, CLIP's published channel means
    and deviations; the text is cut to 12 tokens, of which the last says that it ends.
    """
    height, width, _ = picture.shape
    ratio = SIDE / min(height, width)
    small = Image.fromarray(picture).resize(
        (int(width * ratio), int(height * ratio)), Image.Resampling.BICUBIC
    )
    left, top = (small.width - SIDE) // 2, (small.height - SIDE) // 2
    pixels = np.asarray(small.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float64) / 255
    mean, spread = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    seen = torch.tensor((pixels - mean) / spread).permute(2, 0, 1)[None]
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt).input_ids
    ids = ids if len(ids) <= TOKENS else [*ids[: TOKENS - 1], tokenizer.eos_token_id]
    model = CLIPModel.from_pretrained(folder).double().eval()
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(seen).pooler_output)[0]
        states = model.text_model(torch.tensor([ids])).last_hidden_state[0]
        text = model.text_projection(states[len(ids) - 1])
    cosine = float(image @ text / image.norm() / text.norm())
    return cosine, cosine * float(model.logit_scale.detach().exp())


def test_scores_are_the_restated_ones(folder, pictures):
    expected = [restated(folder, *pair) for pair in zip(pictures, PROMPTS, strict=True)]
    cosine = CLIPScorer.open(folder, scale="cosine").score(pictures, PROMPTS)
    logit = CLIPScorer.open(folder).score(pictures, PROMPTS)
    np.testing.assert_allclose(cosine, [pair[0] for pair in expected], atol=2e-5)
    np.testing.assert_allclose(logit, [pair[1] for pair in expected], atol=3e-4)
    assert logit.dtype == np.float64
    assert np.ptp(cosine) > 0.01, "the three must differ for this to mean anything"


def test_a_picture_is_scored_alike_alone_in_company_and_again(folder, pictures):
    scorer = CLIPScorer.open(folder, batch=2)
    together = scorer.score(pictures, PROMPTS)
    assert np.array_equal(together, scorer.score(pictures, PROMPTS))
    alone = [float(scorer.score([p], [t])[0]) for p, t in zip(pictures, PROMPTS, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_words_beyond_the_models_length_do_not_count(folder, pictures):
    scorer = CLIPScorer.open(folder)
    long = "abcdefghijkl mnop"
    one, other = scorer.score([pictures[0]] * 2, [long + " x", long + " y"])
    assert one == other


def test_identity_follows_the_weights_the_settings_and_the_scale(folder, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    first = CLIPScorer.open(folder)
    assert first.identity == CLIPScorer.open(changed, name="other", batch=1).identity
    assert first.identity != CLIPScorer.open(folder, scale="cosine").identity
    weights = load_file(changed / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    assert first.identity != CLIPScorer.open(changed).identity
    assert (first.name, CLIPScorer.open(changed, name="other").name) == ("model", "other")


def test_nothing_to_score_is_no_scores(folder):
    assert CLIPScorer.open(folder).score([], []).shape == (0,)


def test_it_is_a_scorer(folder):
    scorer: Scorer = CLIPScorer.open(folder)
    assert scorer.name


def test_wrong_pictures_are_named(folder, pictures):
    scorer = CLIPScorer.open(folder)
    with pytest.raises(DataError, match="Got 1 pictures and 2 prompts"):
        scorer.score(pictures[:1], PROMPTS[:2])
    with pytest.raises(DataError, match=r"picture 1 of float32 \(4, 4, 3\)"):
        scorer.score([pictures[0], np.zeros((4, 4, 3), np.float32)], PROMPTS[:2])


def test_an_unknown_scale_gets_the_nearest(folder):
    with pytest.raises(SettingError, match=r"Did you mean cosine\?"):
        CLIPScorer.open(folder, scale="cosin")


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "tokenizer_config.json"])
def test_a_missing_file_is_named(folder, tmp_path, gone):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / gone).unlink()
    with pytest.raises(WeightsError, match=f"without {gone}"):
        CLIPScorer.open(copy)


def test_pickles_other_models_and_broken_weights_are_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"visual_projection\.weight"):
        CLIPScorer.open(copy)
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(WeightsError, match=r"only pytorch_model\.bin, a format that can run code"):
        CLIPScorer.open(copy)
    shutil.copyfile(folder / "model.safetensors", copy / "model.safetensors")
    (copy / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="a model of type 'bert'"):
        CLIPScorer.open(copy)
