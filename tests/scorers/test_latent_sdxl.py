"""The latent reward model on Stable Diffusion XL, restated through diffusers' own pipeline."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from backbones import tiny_sdxl
from palate.core.problems import WeightsError
from palate.scorers.latent import LatentReward
from palate.scorers.latent_network import LOGIT_SCALE
from palate.scorers.learned import open_scorer, save_scorer
from scorers.seen import PROMPTS

LEVELS = [1, 400, 999]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small random XL folder whose tokenizers know the prompts' words. Read only."""
    where = tmp_path_factory.mktemp("pipeline") / "xl"
    tiny_sdxl.build(PROMPTS).save_pretrained(where)
    return where


@pytest.fixture
def scorer(folder) -> LatentReward:
    return LatentReward.from_pipeline(folder)


@pytest.fixture
def wide() -> torch.Tensor:
    """Three different noisy latents of pictures of 64 × 96 pixels, [3, 4, 16, 24]."""
    drawn = np.random.default_rng(1).standard_normal((3, 4, 16, 24))
    return torch.from_numpy(drawn.astype(np.float32))


def restated(folder, scorer, noisy, prompt, level):
    """One latent alone: the pipeline's own prompts and sizes, features caught by hooks.

    The network's stages have 8 and 16 channels, the middle 16: 40 features onto width 20.
    """
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    unet, caught = pipeline.unet, {}

    def keep(name):
        def hook(layer, given, answer):
            caught[name] = (answer[0] if isinstance(answer, tuple) else answer).mean((2, 3))

        return hook

    unet.down_blocks[0].resnets[-1].register_forward_hook(keep("first"))
    unet.down_blocks[1].attentions[-1].register_forward_hook(keep("second"))
    unet.mid_block.register_forward_hook(keep("middle"))
    sizes = torch.tensor([[64, 96, 0, 0, 64, 96]])
    features = []
    with torch.no_grad():
        empty_too = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=True)
        for text, pooled in (empty_too[1::2], empty_too[::2]):
            # What the prompt "" is for this pipeline: it looks only whether there is a negative.
            zeros = pipeline.config.force_zeros_for_empty_prompt and not prompt
            text, pooled = (0 * text, 0 * pooled) if zeros else (text, pooled)
            unet(noisy[None], torch.tensor([level]), text,
                 added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes})  # fmt: skip
            features.append(dict(caught))
        without, given = features
        middle = without["middle"] + 7.5 * (given["middle"] - without["middle"])
        whole = torch.cat([given["first"], given["second"], middle], dim=1)
        seen = scorer.network.project(whole)
        ids = pipeline.tokenizer_2(
            prompt, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        said = pipeline.text_encoder_2(ids).text_embeds
        return float(torch.nn.functional.cosine_similarity(seen, said) * np.exp(LOGIT_SCALE))


@pytest.mark.parametrize("zeros", [True, False])
def test_scores_are_the_restated_ones(zeros, folder, wide, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    index = json.loads((copy / "model_index.json").read_text())
    index["force_zeros_for_empty_prompt"] = zeros
    (copy / "model_index.json").write_text(json.dumps(index))
    scorer = LatentReward.from_pipeline(copy)
    expected = [restated(copy, scorer, *row) for row in zip(wide, PROMPTS, LEVELS, strict=True)]
    found = scorer.score_steps(wide, PROMPTS, LEVELS)
    assert np.ptp(found) > 0.01, "the three must differ for this to mean anything"
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_how_large_the_picture_is_counts(scorer, wide):
    before = scorer.score_steps(wide, PROMPTS, LEVELS)
    scorer.network.sizes._factor = 64
    assert np.abs(scorer.score_steps(wide, PROMPTS, LEVELS) - before).max() > 1e-5


def test_saved_and_opened_it_is_the_same_scorer(scorer, wide, tmp_path):
    save_scorer(scorer, tmp_path / "saved")
    opened = open_scorer(tmp_path / "saved")
    assert opened.identity == scorer.identity
    expected = scorer.score_steps(wide, PROMPTS, LEVELS)
    assert np.array_equal(opened.score_steps(wide, PROMPTS, LEVELS), expected)


def test_it_learns_through_every_weight(scorer, wide):
    scorer.network.requires_grad_(True)
    scorer.judge(wide, PROMPTS, LEVELS).sum().backward()
    assert not [n for n, w in scorer.network.named_parameters() if w.grad is None]


def test_a_text_projection_of_another_model_is_refused(folder, tmp_path):
    with pytest.raises(WeightsError, match="its second text encoder brings its own"):
        LatentReward.from_pipeline(folder, projection=tmp_path)


@pytest.mark.parametrize(
    ("part", "changes", "named"),
    [
        ("unet", {"time_cond_proj_dim": 256}, "a UNet with time_cond_proj_dim"),
        ("text_encoder_2", None, "without text_encoder_2"),
    ],
)
def test_folders_it_cannot_start_from_are_refused(part, changes, named, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if changes is None:
        shutil.rmtree(copy / part)
    else:
        config = copy / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(WeightsError, match=named):
        LatentReward.from_pipeline(copy)
