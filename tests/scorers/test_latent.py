"""The latent reward model against an independent restatement through diffusers' own UNet."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from palate.core.problems import DataError, WeightsError
from palate.scorers.latent import LatentReward
from palate.scorers.latent_network import LOGIT_SCALE
from palate.scorers.learned import open_scorer, save_scorer
from scorers.seen import PROMPTS

LEVELS = [1, 400, 999]


@pytest.fixture
def scorer(pipeline) -> LatentReward:
    return LatentReward.from_pipeline(pipeline)


def restated(pipeline, scorer, noisy, prompt, level, guidance):
    """One latent alone: features caught by hooks while the whole UNet runs, in float64.

    Micro UNet: stages of 8 and 16 channels, the middle 16, so 40 features onto width 16.
    """
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet").double()
    text = CLIPTextModel.from_pretrained(pipeline / "text_encoder").double()
    words = CLIPTokenizer.from_pretrained(pipeline / "tokenizer")
    caught: dict[str, torch.Tensor] = {}

    def keep(name):
        def hook(layer, given, answer):
            caught[name] = (answer[0] if isinstance(answer, tuple) else answer).detach()

        return hook

    unet.down_blocks[0].resnets[-1].register_forward_hook(keep("first"))
    unet.down_blocks[1].attentions[-1].register_forward_hook(keep("second"))
    unet.mid_block.register_forward_hook(keep("middle"))
    features, said = {}, {}
    with torch.no_grad():
        for which, words_of in (("given", prompt), ("empty", "")):
            ids = words(words_of, padding="max_length", truncation=True, return_tensors="pt")
            told = text(ids.input_ids)
            unet(noisy[None].double(), torch.tensor([level]), told.last_hidden_state)
            features[which] = {name: t.mean((2, 3))[0] for name, t in caught.items()}
            said[which] = told.pooler_output[0]
        middle = features["empty"]["middle"] + guidance * (
            features["given"]["middle"] - features["empty"]["middle"]
        )
        whole = torch.cat([features["given"]["first"], features["given"]["second"], middle])
        seen = scorer.network.project.weight.double() @ whole
        cosine = torch.nn.functional.cosine_similarity(seen, said["given"], dim=0)
    return float(cosine * np.exp(LOGIT_SCALE))


def test_scores_are_the_restated_ones(pipeline, scorer, noisy):
    expected = [
        restated(pipeline, scorer, *row, 7.5) for row in zip(noisy, PROMPTS, LEVELS, strict=True)
    ]
    found = scorer.score_steps(noisy, PROMPTS, LEVELS)
    assert np.ptp(found) > 0.01, "the three must differ for this to mean anything"
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_without_guidance_the_empty_prompt_does_not_count(pipeline, noisy):
    plain = LatentReward.from_pipeline(pipeline, guidance=1.0)
    expected = [
        restated(pipeline, plain, *row, 1.0) for row in zip(noisy, PROMPTS, LEVELS, strict=True)
    ]
    np.testing.assert_allclose(plain.score_steps(noisy, PROMPTS, LEVELS), expected, atol=1e-3)
    assert plain.identity != LatentReward.from_pipeline(pipeline).identity


def test_it_judges_every_level_and_prompt_apart(scorer, noisy):
    same = noisy[:1].expand(3, -1, -1, -1)
    assert np.ptp(scorer.score_steps(same, [PROMPTS[0]] * 3, LEVELS)) > 1e-4
    assert np.ptp(scorer.score_steps(same, PROMPTS, [400] * 3)) > 1e-4


def test_a_latent_is_scored_alike_alone_and_in_company(scorer, noisy):
    together = scorer.score_steps(noisy, PROMPTS, LEVELS)
    alone = [
        float(scorer.score_steps(noisy[i : i + 1], [PROMPTS[i]], [LEVELS[i]])[0]) for i in range(3)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_saved_and_opened_it_is_the_same_scorer(scorer, noisy, tmp_path):
    scorer.network.logit_scale.data += 0.1
    save_scorer(scorer, tmp_path / "saved")
    opened = open_scorer(tmp_path / "saved")
    assert (opened.kind, opened.reads, opened.name) == ("latent", "latents", "saved")
    assert opened.identity == scorer.identity
    expected = scorer.score_steps(noisy, PROMPTS, LEVELS)
    assert np.array_equal(opened.score_steps(noisy, PROMPTS, LEVELS), expected)


def test_it_learns_through_every_weight_and_keeps_no_upward_half(scorer, noisy):
    scorer.network.requires_grad_(True)
    scorer.judge(noisy, PROMPTS, LEVELS).sum().backward()
    assert not [n for n, w in scorer.network.named_parameters() if w.grad is None]
    assert not [n for n in scorer.network.state_dict() if "up_blocks" in n or "conv_out" in n]


def test_the_text_projection_may_come_from_a_clip_model(pipeline, noisy, tmp_path):
    wanted = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 16))).float()
    save_file({"text_projection.weight": wanted}, tmp_path / "model.safetensors")
    scorer = LatentReward.from_pipeline(pipeline, projection=tmp_path)
    assert torch.equal(scorer.network.project_text.weight, wanted)
    save_file({"text_projection.weight": wanted[:8]}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"text_projection\.weight \[8, 16\]"):
        LatentReward.from_pipeline(pipeline, projection=tmp_path)


def test_folders_it_cannot_start_from_are_refused(pipeline, tmp_path):
    with pytest.raises(WeightsError, match="without unet, text_encoder, tokenizer"):
        LatentReward.from_pipeline(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(pipeline, copy)
    config = json.loads((copy / "unet/config.json").read_text())
    (copy / "unet/config.json").write_text(json.dumps({**config, "addition_embed_type": "text"}))
    with pytest.raises(WeightsError, match="a UNet with addition_embed_type"):
        LatentReward.from_pipeline(copy)


def test_latents_of_another_kind_of_model_are_refused(scorer):
    """Those of Stable Diffusion 3 have sixteen channels."""
    with pytest.raises(DataError, match=r"16 channels for a scorer made from a UNet of 4\. Need"):
        scorer.score_steps(torch.zeros(1, 16, 16, 16), PROMPTS[:1], [400])
