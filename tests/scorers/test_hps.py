"""HPSv2 against open_clip's arithmetic restated by hand, from the checkpoint itself."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTokenizer

from palate.core.files import write_manifest
from palate.core.problems import WeightsError
from palate.scorers import Scorer
from palate.scorers.clip import CLIPScorer
from palate.scorers.convert import convert
from palate.scorers.hps import framed, open_hps
from scorers.published import HEADS, LAYERS, PATCH, hps_checkpoint, saved
from scorers.seen import PROMPTS, SIDE, TOKENS


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[str, Tensor]:
    return hps_checkpoint(len(CLIPTokenizer.from_pretrained(folder)))


@pytest.fixture(scope="module")
def hps(folder: Path, weights, tmp_path_factory) -> Path:
    """A converted folder. Read only."""
    where = tmp_path_factory.mktemp("hps")
    checkpoint = saved(where / "HPS_v2_compressed.pt", {"state_dict": weights})
    return convert(checkpoint, where / "hps", kind="hpsv2", base=folder).folder


def normed(seen: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    middle = seen - seen.mean(-1, keepdim=True)
    spread = (middle.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return middle / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attended(seen: Tensor, weights: dict[str, Tensor], name: str, *, causal: bool) -> Tensor:
    """Attention of one sequence [length, width], head by head."""
    joint = seen @ weights[f"{name}.in_proj_weight"].T + weights[f"{name}.in_proj_bias"]
    width = seen.shape[1]
    each = width // HEADS
    found = []
    for head in range(HEADS):
        query, key, value = (
            joint[:, part * width + head * each : part * width + (head + 1) * each]
            for part in range(3)
        )
        logits = query @ key.T / math.sqrt(each)
        if causal:
            later = torch.ones_like(logits).triu(1).bool()
            logits = logits.masked_fill(later, -math.inf)
        found.append(logits.softmax(-1) @ value)
    return (
        torch.cat(found, 1) @ weights[f"{name}.out_proj.weight"].T
        + weights[f"{name}.out_proj.bias"]
    )


def through(seen: Tensor, weights: dict[str, Tensor], prefix: str, *, causal: bool) -> Tensor:
    for place in range(LAYERS):
        name = f"{prefix}transformer.resblocks.{place}"
        seen = seen + attended(
            normed(seen, weights, f"{name}.ln_1"), weights, f"{name}.attn", causal=causal
        )
        inside = normed(seen, weights, f"{name}.ln_2") @ weights[f"{name}.mlp.c_fc.weight"].T
        inside = inside + weights[f"{name}.mlp.c_fc.bias"]
        inside = inside * 0.5 * (1 + torch.erf(inside / math.sqrt(2)))
        seen = seen + inside @ weights[f"{name}.mlp.c_proj.weight"].T
        seen = seen + weights[f"{name}.mlp.c_proj.bias"]
    return seen


def restated(weights: dict[str, Tensor], pixels: Tensor, ids: list[int]) -> float:
    """The cosine of one picture [3, side, side] and one zero-padded text, in float64."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    rows = [
        pixels[:, top : top + PATCH, left : left + PATCH].reshape(-1).double()
        for top in range(0, SIDE, PATCH)
        for left in range(0, SIDE, PATCH)
    ]
    patches = torch.stack(rows) @ weights["visual.conv1.weight"].flatten(1).T
    seen = torch.cat([weights["visual.class_embedding"][None], patches])
    seen = normed(seen + weights["visual.positional_embedding"], weights, "visual.ln_pre")
    seen = through(seen, weights, "visual.", causal=False)
    picture = normed(seen[0], weights, "visual.ln_post") @ weights["visual.proj"]
    padded = torch.tensor(ids + [0] * (TOKENS - len(ids)))
    read = weights["token_embedding.weight"][padded] + weights["positional_embedding"]
    read = normed(through(read, weights, "", causal=True), weights, "ln_final")
    text = read[int(padded.argmax())] @ weights["text_projection"]
    return float(picture @ text / picture.norm() / text.norm())


def ids_of(folder: Path, prompt: str) -> list[int]:
    words = CLIPTokenizer.from_pretrained(folder)
    ids = words(prompt).input_ids
    return ids if len(ids) <= TOKENS else [*ids[: TOKENS - 1], words.eos_token_id]


def test_scores_are_open_clips_by_hand(hps, weights, folder, pictures):
    scores = open_hps(hps).score(pictures, PROMPTS)
    expected = [
        restated(weights, framed([picture], SIDE)[0], ids_of(folder, prompt))
        for picture, prompt in zip(pictures, PROMPTS, strict=True)
    ]
    np.testing.assert_allclose(scores, expected, atol=3e-6)
    assert scores.dtype == np.float64
    assert np.ptp(scores) > 0.05, "the three must differ for this to mean anything"


def test_pictures_are_filled_up_with_black_and_never_cut(pictures):
    wide = np.full((16, 64, 3), 255, dtype=np.uint8)
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073))[:, None, None]
    spread = torch.tensor((0.26862954, 0.26130258, 0.27577711))[:, None, None]
    values = framed([wide], 32)[0] * spread + mean
    # 16 high and 64 wide becomes 8 high and 32 wide, with 12 black rows above and below.
    torch.testing.assert_close(values[:, 12:20], torch.ones(3, 8, 32))
    torch.testing.assert_close(values[:, :12], torch.zeros(3, 12, 32))
    torch.testing.assert_close(values[:, 20:], torch.zeros(3, 12, 32))
    alike = framed([wide.transpose(1, 0, 2)], 32)[0] * spread + mean
    torch.testing.assert_close(alike, values.transpose(1, 2))
    assert framed([pictures[0]], 32).shape == (1, 3, 32, 32)
    same = framed([pictures[0]], 32)[0] * spread + mean
    torch.testing.assert_close(
        same, torch.from_numpy(pictures[0]).permute(2, 0, 1) / 255, atol=1e-6, rtol=0
    )


def test_a_line_and_a_picture_with_one_right_side_are_filled_up_too():
    assert framed([np.zeros((1, 999, 3), np.uint8)], 32).shape == (1, 3, 32, 32)
    assert framed([np.zeros((20, 32, 3), np.uint8)], 32).shape == (1, 3, 32, 32)


def test_escapes_of_html_are_undone_twice_and_spaces_do_not_count(hps, pictures):
    plain, escaped = open_hps(hps).score([pictures[0]] * 2, ["a & b", " a  &amp;amp;\n b "])
    assert plain == escaped
    other, _ = open_hps(hps).score([pictures[0]] * 2, ["a b", ""])
    assert plain != other


def test_no_prompt_ends_itself(hps, pictures):
    short, long = open_hps(hps).score([pictures[0]] * 2, ["a", "a<|endoftext|>"])
    assert short != long


def test_quotation_marks_are_straight_ligatures_apart_and_wide_letters_narrow(hps, pictures):
    scorer = open_hps(hps)
    for typed, plain in (
        ("“it’s”", '"it\'s"'),
        ("&ldquo;a&rdquo;", '"a"'),
        ("a ﬁre, aﬄict", "a fire, afflict"),
        ("ｗｉｄｅ！\u3000x", "wide! x"),
    ):
        one, other = scorer.score([pictures[0]] * 2, [typed, plain])
        assert one == other, typed


def test_a_picture_is_scored_alike_alone_and_in_company(hps, pictures):
    scorer: Scorer = open_hps(hps, batch=2)
    together = scorer.score(pictures, PROMPTS)
    alone = [float(scorer.score([p], [t])[0]) for p, t in zip(pictures, PROMPTS, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert scorer.score([], []).shape == (0,)


def test_identity_follows_the_weights_and_not_the_file_or_the_name(folder, weights, hps, tmp_path):
    again = saved(tmp_path / "other.pth", {"state_dict": weights, "epoch": 3})
    same = convert(again, tmp_path / "same", kind="hpsv2", base=folder).folder
    changed = weights | {"logit_scale": torch.tensor(1.0)}
    other = saved(tmp_path / "changed.pt", {"state_dict": changed})
    changed = convert(other, tmp_path / "changed", kind="hpsv2", base=folder).folder
    first = open_hps(hps)
    assert first.identity == open_hps(same, name="other", batch=1).identity
    assert first.identity != open_hps(changed).identity
    assert (first.name, open_hps(same, name="other").name) == ("hps", "other")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("visual.proj", None, "missing visual.proj"),
        ("ln_final.bias", None, "missing ln_final.bias"),
        ("visual.transformer.resblocks.1.mlp.c_fc.bias", None, "resblocks.1.mlp.c_fc.bias"),
        ("transformer.resblocks.0.mlp.c_fc.weight", None, "resblocks.0.mlp.c_fc.weight"),
        ("visual.attn_pool.query", torch.zeros(4, 4), "unknown visual.attn_pool.query"),
        ("text_projection", torch.zeros(3, 3), r"text_projection \(3, 3\) instead of"),
        ("logit_scale", torch.tensor(3), "not real numbers: logit_scale"),
        ("visual.proj", torch.tensor(3.0), r"visual.proj \(\)"),
        ("visual.conv1.weight", torch.zeros(30, 3, 8, 8), "a checkpoint with 30 numbers"),
    ],
)
def test_a_wrong_missing_or_extra_tensor_is_named(folder, weights, tmp_path, name, value, said):
    wrong = {n: t for n, t in weights.items() if n != name}
    wrong |= {} if value is None else {name: value}
    checkpoint = saved(tmp_path / "wrong.pt", {"state_dict": wrong})
    with pytest.raises(WeightsError, match=said):
        convert(checkpoint, tmp_path / "out", kind="hpsv2", base=folder)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_size_is_refused(folder, weights, tmp_path):
    more = weights | {"token_embedding.weight": torch.zeros(300, 48)}
    checkpoint = saved(tmp_path / "more.pt", {"state_dict": more})
    with pytest.raises(WeightsError, match="300 words, ending with 299"):
        convert(checkpoint, tmp_path / "out", kind="hpsv2", base=folder)


def test_folders_that_lie_are_refused(folder, hps, tmp_path):
    with pytest.raises(WeightsError, match="no converted scorer"):
        open_hps(folder)
    with pytest.raises(WeightsError, match="a scorer of kind 'hpsv2'"):
        CLIPScorer.open(hps)
    changed = tmp_path / "changed"
    shutil.copytree(hps, changed)
    tensors = load_file(changed / "model.safetensors")
    tensors["logit_scale"] += 1
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"model\.safetensors was changed"):
        open_hps(changed)
    told = json.loads((changed / "scorer.json").read_text())
    (changed / "scorer.json").write_text(json.dumps(told | {"palate_scorer": "aesthetic"}))
    write_manifest(changed)
    with pytest.raises(WeightsError, match="a scorer of kind 'aesthetic'"):
        open_hps(changed)


def test_a_config_that_does_not_fit_the_weights_is_refused(hps, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(hps, changed)
    config = json.loads((changed / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = LAYERS + 1
    (changed / "config.json").write_text(json.dumps(config))
    write_manifest(changed)
    with pytest.raises(WeightsError, match=r"missing \['vision_model\.encoder\.layers\.2"):
        open_hps(changed)
