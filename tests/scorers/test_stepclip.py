"""CLIP that hears the noise level: untaught it is CLIP; taught, the level matters."""

import math

import numpy as np
import pytest
import torch

from palate.core.files import write_manifest
from palate.core.problems import SettingError, WeightsError
from palate.core.streams import Streams
from palate.scorers.clip import CLIPScorer
from palate.scorers.learned import open_scorer, save_scorer
from palate.scorers.stepclip import FREQUENCIES, Shape, StepCLIP, waves
from scorers.seen import PROMPTS

LEVELS = [0, 400, 999]


@pytest.fixture
def scorer(folder) -> StepCLIP:
    return StepCLIP.from_clip(folder)


def taught(scorer: StepCLIP) -> StepCLIP:
    """The same scorer after its modulations have moved anywhere."""
    for name, weight in scorer.network.named_parameters():
        if "modulation" in name:
            weight.data += 0.3 * Streams(1)("taught", name).normal(tuple(weight.shape))
    return scorer


@pytest.mark.parametrize("level", [[0, 0, 0], LEVELS])
def test_untaught_it_is_the_clip_it_was_made_from_to_the_last_bit(folder, pictures, scorer, level):
    expected = CLIPScorer.open(folder).score(pictures, PROMPTS)
    assert np.array_equal(scorer.score_steps(pictures, PROMPTS, level), expected)


def test_taught_it_hears_the_level(pictures, scorer):
    taught(scorer)
    one = scorer.score_steps([pictures[0]] * 3, [PROMPTS[0]] * 3, LEVELS)
    assert np.ptp(one) > 1e-3
    again = scorer.score_steps([pictures[0]] * 3, [PROMPTS[0]] * 3, [400] * 3)
    np.testing.assert_allclose(again, one[1], rtol=1e-6)


def test_a_block_by_hand(scorer, pictures):
    """In float64: y = x + (1 + g)·attention(norm₁(x)(1 + s) + b), and so on for the perceptron.

    The six vectors of a block are one linear layer of silu(MLP(waves)): shift, scale and gate of
    attention, then those of the perceptron.
    """
    network = taught(scorer).network.double()
    tower, level = network.clip.vision_model, torch.tensor([400])
    pixels = torch.from_numpy(pictures[0]).permute(2, 0, 1)[None].double() / 255
    with torch.no_grad():
        hidden = torch.nn.functional.silu(network.time_in(waves(level).double()))
        heard = torch.nn.functional.silu(network.time_out(hidden))
        x = tower.pre_layrnorm(tower.embeddings(pixels))
        for block, layer in zip(tower.encoder.layers, network.modulations, strict=True):
            b1, s1, ga, b2, s2, gm = torch.tensor_split(layer(heard)[0], 6)
            x = x + (1 + ga) * block.self_attn(block.layer_norm1(x) * (1 + s1) + b1)[0]
            x = x + (1 + gm) * block.mlp(block.layer_norm2(x) * (1 + s2) + b2)
        b, s = torch.tensor_split(network.final_modulation(heard)[0], 2)
        expected = network.clip.visual_projection(tower.post_layernorm(x[:, 0]) * (1 + s) + b)
        # In float64 as well, so that no rounding hides a difference.
        network.time_in.register_forward_pre_hook(lambda layer, given: (given[0].double(),))
        found = network.embed(pixels, level)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_waves_by_hand():
    """Level 3: cos and sin of 3 at frequency 1, and of 3·10⁻² at the 65th of 128 frequencies."""
    found = waves(torch.tensor([3]))
    assert found.shape == (1, FREQUENCIES)
    expected = [math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)]
    torch.testing.assert_close(found[0, [0, 64, 128, 192]], torch.tensor(expected))


def test_saved_and_opened_it_is_the_same_scorer(scorer, pictures, tmp_path):
    save_scorer(taught(scorer), tmp_path / "saved")
    opened = open_scorer(tmp_path / "saved", batch=3)
    assert (opened.kind, opened.reads, opened.name) == ("step-clip", "pictures", "saved")
    assert opened.identity == scorer.identity
    expected = scorer.score_steps(pictures, PROMPTS, LEVELS)
    assert np.array_equal(opened.score_steps(pictures, PROMPTS, LEVELS), expected)


def test_identity_follows_every_weight(folder, scorer):
    before = scorer.identity
    assert before == StepCLIP.from_clip(folder).identity
    scorer.network.final_modulation.bias.data[0] += 1
    assert scorer.identity != before


def test_it_learns_through_every_weight(pictures, scorer):
    taught(scorer).network.requires_grad_(True)
    scorer.judge(pictures, PROMPTS, LEVELS).sum().backward()
    without = [n for n, w in scorer.network.named_parameters() if w.grad is None]
    assert not without


def test_a_batch_changes_no_score(folder, pictures, scorer):
    expected = taught(scorer).score_steps(pictures, PROMPTS, LEVELS)
    small = taught(StepCLIP.from_clip(folder, batch=2))
    found = small.score_steps(pictures, PROMPTS, LEVELS)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert small.score_steps([], [], []).shape == (0,)


def test_one_built_from_nothing_is_a_function_of_its_seed(pipeline, pictures):
    """And leaves the global generator where it was."""
    shape, state = Shape(side=32, width=16, layers=1, text_layers=1), torch.get_rng_state()
    first, again, other = (
        StepCLIP.untaught(pipeline / "tokenizer", shape, seed=seed) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert first.identity == again.identity != other.identity
    scores = first.score_steps(pictures, PROMPTS, LEVELS)
    assert np.ptp(scores) > 0.01
    assert np.array_equal(scores, again.score_steps(pictures, PROMPTS, LEVELS))


def test_a_shape_that_cannot_be_cut_is_refused():
    with pytest.raises(SettingError, match="Need whole patches and whole heads"):
        Shape(side=60)


def test_a_damaged_or_foreign_folder_is_refused(folder, scorer, tmp_path):
    with pytest.raises(WeightsError, match=r"manifest\.json is missing"):
        open_scorer(folder)
    with pytest.raises(WeightsError, match=r"without config\.json and model\.safetensors"):
        open_scorer(tmp_path)
    save_scorer(scorer, tmp_path / "saved")
    raw = bytearray((tmp_path / "saved/model.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "saved/model.safetensors").write_bytes(bytes(raw))
    with pytest.raises(WeightsError, match=r"model\.safetensors was changed"):
        open_scorer(tmp_path / "saved")


def test_a_kind_from_the_future_is_named(scorer, tmp_path):
    save_scorer(scorer, tmp_path / "saved")
    config = tmp_path / "saved/config.json"
    config.write_text(config.read_text().replace("step-clip", "step-clap"))
    write_manifest(tmp_path / "saved")
    with pytest.raises(WeightsError, match=r"kind of scorer='step-clap'.*Did you mean step-clip"):
        open_scorer(tmp_path / "saved")
