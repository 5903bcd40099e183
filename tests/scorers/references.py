"""What the reference packages said (`lab/scorers/parity`), and our models with their weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPTokenizer

from palate.core.files import digest_bytes, digest_tensors, save_weights
from palate.scorers.convert import convert
from palate.scorers.open_clip import layout_of, renamed
from scorers import seeded

STORED = Path(__file__).parents[2] / "lab" / "scorers" / "parity"


def stored(scorer: str) -> dict[str, Any]:
    """One scorer's file."""
    return json.loads((STORED / f"{scorer}.json").read_text())


def checkpoint(facts: dict[str, Any]) -> dict[str, Tensor]:
    """The weights the package was given, by its own names; pictures and weights are the same."""
    made = seeded.weights(facts["shapes"])
    assert digest_tensors(made) == facts["weights"], "the generator draws other numbers here"
    seen = b"".join(picture.tobytes() for picture in seeded.pictures())
    assert digest_bytes(seen) == facts["pictures"]
    return made


def bert(folder: Path) -> Path:
    """A folder with a small BERT vocabulary, as bert-base-uncased has a large one."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(seeded.word_pieces()) + "\n")
    return folder


def small_imagereward(where: Path) -> Path:
    """ImageReward's folder from the weights that the reference package was given."""
    base, weights = bert(where / "bert"), checkpoint(stored("imagereward"))
    # The published file also has the buffer that old transformers stored.
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    convert(pickled(where, weights), where / "reward", kind="imagereward", base=base)
    return where / "reward"


def byte_pair_words(folder: Path, *, length: int = 77) -> None:
    """Save the small byte-pair tokenizer into a folder, by transformers' class."""
    words = seeded.byte_pairs("<|startoftext|>", "<|endoftext|>")
    CLIPTokenizer(
        vocab={word: place for place, word in enumerate(words)},
        merges=[tuple(merge.split()) for merge in seeded.MERGES],
        model_max_length=length,
    ).save_pretrained(folder)


def pickled(where: Path, tensors: Mapping[str, Any]) -> Path:
    """A checkpoint as authors publish them."""
    torch.save(tensors, where / "checkpoint.pt")
    return where / "checkpoint.pt"


def small_hps(where: Path) -> Path:
    """HPSv2's folder, by way of `palate scorer convert`."""
    base = where / "words"
    byte_pair_words(base)
    nested = {"state_dict": checkpoint(stored("hpsv2"))}
    convert(pickled(where, nested), where / "hps", kind="hpsv2", base=base)
    return where / "hps"


def small_pickscore(where: Path) -> Path:
    """PickScore's folder, by way of `palate scorer convert`."""
    facts = stored("pickscore")
    base = where / "base"
    byte_pair_words(base)
    square = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square).save_pretrained(base)
    told = facts["config"]
    CLIPConfig(
        text_config=told["text"],
        vision_config=told["vision"],
        projection_dim=told["projection_dim"],
    ).save_pretrained(base)
    convert(pickled(where, checkpoint(facts)), where / "pick", kind="pickscore", base=base)
    return where / "pick"


def small_aesthetic(where: Path) -> Path:
    """The aesthetic predictor's folder, on OpenAI's CLIP as transformers has it."""
    weights = checkpoint(stored("aesthetic"))
    eyes = {n.removeprefix("clip_model."): t for n, t in weights.items() if "clip_model." in n}
    layout = layout_of(eyes, heads=2)
    config = CLIPConfig.from_dict(layout.config())
    # OpenAI's models have the quick activation, open_clip's the exact one.
    config.vision_config.hidden_act = config.text_config.hidden_act = "quick_gelu"
    base = where / "clip"
    config.save_pretrained(base)
    save_weights(base / "model.safetensors", renamed(eyes, layout))
    head = {n.removeprefix("mlp."): t for n, t in weights.items() if n.startswith("mlp.")}
    convert(pickled(where, head), where / "aesthetic", kind="aesthetic", base=base)
    return where / "aesthetic"
