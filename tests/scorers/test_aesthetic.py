"""The aesthetic scorer against its arithmetic restated by hand, on a small random CLIP."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from palate.core.files import write_manifest
from palate.core.problems import DataError, WeightsError
from palate.scorers import Scorer
from palate.scorers.aesthetic import AestheticScorer
from palate.scorers.clip import CLIPScorer
from palate.scorers.convert import convert
from scorers.published import aesthetic_checkpoint, saved
from scorers.seen import PROMPTS, SIDE

WIDTH = 8


@pytest.fixture(scope="module")
def aesthetic(folder: Path, tmp_path_factory) -> Path:
    """A converted folder with the head of five layers. Read only."""
    where = tmp_path_factory.mktemp("aesthetic")
    checkpoint = saved(where / "linearMSE.pth", aesthetic_checkpoint(WIDTH))
    return convert(checkpoint, where / "aesthetic", kind="aesthetic", base=folder).folder


def seen_by_clip(folder: Path, picture: np.ndarray) -> np.ndarray:
    """What CLIP sees in the middle square, of length one, in float64."""
    height, width, _ = picture.shape
    ratio = SIDE / min(height, width)
    small = Image.fromarray(picture).resize(
        (int(width * ratio), int(height * ratio)), Image.Resampling.BICUBIC
    )
    left, top = (small.width - SIDE) // 2, (small.height - SIDE) // 2
    pixels = np.asarray(small.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float64) / 255
    mean, spread = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    shown = torch.tensor((pixels - mean) / spread).permute(2, 0, 1)[None]
    model = CLIPModel.from_pretrained(folder).double().eval()
    with torch.no_grad():
        found = model.visual_projection(model.vision_model(shown).pooler_output)[0].numpy()
    return found / np.sqrt((found**2).sum())


def test_marks_are_the_linear_layers_on_what_clip_sees(aesthetic, folder, pictures):
    head = {name: t.double().numpy() for name, t in aesthetic_checkpoint(WIDTH).items()}
    expected = []
    for picture in pictures:
        inside = seen_by_clip(folder, picture)
        for place in (0, 2, 4, 6, 7):
            inside = head[f"layers.{place}.weight"] @ inside + head[f"layers.{place}.bias"]
        expected.append(inside.item())
    scores = AestheticScorer.open(aesthetic).score(pictures, PROMPTS)
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=2e-4)
    assert scores.dtype == np.float64
    assert np.ptp(scores) > 0.1, "the three must differ for this to mean anything"


def test_the_older_head_is_one_layer(folder, pictures, tmp_path):
    weight, bias = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1)), torch.ones(1)
    checkpoint = saved(tmp_path / "linear.pth", {"weight": weight, "bias": bias})
    opened = AestheticScorer.open(
        convert(checkpoint, tmp_path / "old", kind="aesthetic", base=folder).folder
    )
    expected = [seen_by_clip(folder, each) @ weight[0].double().numpy() + 1 for each in pictures]
    np.testing.assert_allclose(opened.score(pictures, PROMPTS), expected, atol=2e-5)


def test_a_prompt_changes_nothing_and_company_nothing(aesthetic, pictures):
    scorer: Scorer = AestheticScorer.open(aesthetic, batch=2)
    together = scorer.score(pictures, PROMPTS)
    assert np.array_equal(together, scorer.score(pictures, ["x", "y", "z"]))
    alone = [float(scorer.score([picture], [""])[0]) for picture in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert scorer.score([], []).shape == (0,)
    with pytest.raises(DataError, match="Got 1 pictures and 2 prompts"):
        scorer.score(pictures[:1], PROMPTS[:2])


def test_identity_follows_head_and_clip(aesthetic, folder, tmp_path):
    first = AestheticScorer.open(aesthetic)
    checkpoint = saved(tmp_path / "again.pth", aesthetic_checkpoint(WIDTH))
    same = convert(checkpoint, tmp_path / "same", kind="aesthetic", base=folder).folder
    assert AestheticScorer.open(same).identity == first.identity
    other = saved(tmp_path / "other.pth", aesthetic_checkpoint(WIDTH, seed=1))
    other = convert(other, tmp_path / "other", kind="aesthetic", base=folder).folder
    assert AestheticScorer.open(other).identity != first.identity
    clip = tmp_path / "clip"
    shutil.copytree(folder, clip)
    weights = load_file(clip / "model.safetensors")
    weights["visual_projection.weight"] += 0.1
    save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
    moved = convert(checkpoint, tmp_path / "moved", kind="aesthetic", base=clip).folder
    assert AestheticScorer.open(moved).identity != first.identity


def test_the_half_that_reads_is_left_out_and_said(folder, tmp_path):
    checkpoint = saved(tmp_path / "head.pth", aesthetic_checkpoint(WIDTH))
    told = convert(checkpoint, tmp_path / "out", kind="aesthetic", base=folder)
    text = [n for n in load_file(folder / "model.safetensors") if n.startswith("text_model.")]
    # The text projection and the logit scale go with it.
    assert any(f"Left out {len(text) + 2} tensors" in each for each in told.sentences)
    kept = load_file(tmp_path / "out" / "model.safetensors")
    assert not [name for name in kept if "text" in name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers.7.bias": None}, "a head of 9 tensors"),
        ({"layers.3.weight": torch.zeros(2, 2)}, "a head of 11 tensors"),
        ({"layers.0.weight": torch.zeros(12, 9)}, "layer 0 of the head.*takes 8 numbers"),
        ({"layers.4.bias": torch.zeros(7)}, "layer 2 of the head"),
        (
            {"layers.7.weight": torch.zeros(2, 4), "layers.7.bias": torch.zeros(2)},
            "a head that ends in 2 numbers",
        ),
    ],
)
def test_a_head_of_another_form_is_refused(folder, tmp_path, change, said):
    head = aesthetic_checkpoint(WIDTH) | change
    checkpoint = saved(tmp_path / "head.pth", {n: t for n, t in head.items() if t is not None})
    with pytest.raises(WeightsError, match=said):
        convert(checkpoint, tmp_path / "out", kind="aesthetic", base=folder)
    assert not (tmp_path / "out").exists()


def test_folders_that_lie_are_refused(aesthetic, folder, tmp_path):
    with pytest.raises(WeightsError, match="no converted scorer"):
        AestheticScorer.open(folder)
    with pytest.raises(WeightsError, match="a scorer of kind 'aesthetic'"):
        CLIPScorer.open(aesthetic)
    changed = tmp_path / "changed"
    shutil.copytree(aesthetic, changed)
    (changed / "head.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"head\.safetensors is missing"):
        AestheticScorer.open(changed)
    head = {"weight": torch.zeros(1, WIDTH + 1), "bias": torch.zeros(1)}
    save_file(head, changed / "head.safetensors")
    write_manifest(changed)
    with pytest.raises(WeightsError, match="takes 8 numbers"):
        AestheticScorer.open(changed)
