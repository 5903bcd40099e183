"""What the reference packages themselves say of small models with weights made from names.

The packages want an environment of their own:

    python -m venv parity && parity/bin/pip install torch==2.13.0 transformers==4.36.2 timm==0.6.13 \
        "numpy<2" "setuptools<80" "huggingface_hub<1" ftfy regex clint safetensors
    parity/bin/pip install --no-build-isolation fairscale==0.4.13
    parity/bin/pip install --no-deps image-reward==1.5 hpsv2==1.2.0 openai-clip==1.0.1
    PYTHONPATH=src:tests parity/bin/python lab/scorers/parity/reference.py lab/scorers/parity

Every number comes out of the packages' own classes and methods. What is replaced is size (their
constructors ask for the published one), where vocabularies are read from, and what they import
without using it here. `tests/scorers/test_parity.py` compares our scorers with the files.
"""

import gzip
import importlib
import importlib.metadata
import json
import re
import shutil
import sys
import tempfile
import types
from pathlib import Path

import torch
from PIL import Image
from scorers import seeded

from palate.core.files import digest_bytes, digest_tensors

SIDE, PATCH = 32, 8


def stand_ins() -> None:
    """What stands between these packages and a machine without CUDA builds.

    torchvision's compiled part cannot load here, and nothing of it is used; ImageReward imports
    the training of diffusion models; hpsv2's wheel lacks the byte pairs it reads on import.
    """
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    stand_ins.kept = operators
    sys.modules["ImageReward.ReFL"] = types.ModuleType("ImageReward.ReFL")
    site = Path(importlib.metadata.distribution("hpsv2").locate_file(""))
    missing = site / "hpsv2/src/open_clip/bpe_simple_vocab_16e6.txt.gz"
    if not missing.exists():
        shutil.copyfile(site / "clip/bpe_simple_vocab_16e6.txt.gz", missing)


def filled(model: torch.nn.Module) -> dict[str, list[int]]:
    """Give a model its weights, and return their shapes by the package's own names."""
    state = model.state_dict()
    shapes = {n: list(v.shape) for n, v in state.items() if v.is_floating_point()}
    left = model.load_state_dict(seeded.weights(shapes), strict=False)
    assert not left.unexpected_keys, left
    model.eval().requires_grad_(False)
    return shapes


def table(score) -> list[list[float]]:
    """Every prompt with every picture, by rows of prompts."""
    images = [Image.fromarray(picture) for picture in seeded.pictures()]
    return [[float(score(image, prompt)) for image in images] for prompt in seeded.PROMPTS]


def imagereward(folder: Path) -> dict:
    """`ImageReward.score`, with a vision tower of 128 and a text tower of 192 numbers."""
    from ImageReward.models.BLIP import blip_pretrain
    from ImageReward.models.BLIP.vit import VisionTransformer
    from transformers import BertTokenizer

    # The package puts a class where its module of the same name is.
    package = importlib.import_module("ImageReward.ImageReward")
    words = seeded.word_pieces()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    med = {
        "vocab_size": len(words) + 2,
        "hidden_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 320,
        "max_position_embeddings": 64,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "add_cross_attention": True,
    }
    (folder / "med_config.json").write_text(json.dumps(med))

    def tower(*_, **__):
        size = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": 128, "depth": 2}
        return VisionTransformer(num_heads=2, **size), 128

    published = BertTokenizer.from_pretrained
    BertTokenizer.from_pretrained = lambda _, *a, **k: published(folder, *a, **k)
    blip_pretrain.create_vit = tower
    head, transform = package.MLP, package._transform
    package.MLP = lambda _: head(192)
    package._transform = lambda _: transform(SIDE)
    model = package.ImageReward(med_config=str(folder / "med_config.json"))
    shapes = filled(model)
    tokens = [
        model.blip.tokenizer(p, padding="max_length", truncation=True, max_length=35).input_ids
        for p in seeded.PROMPTS
    ]
    scores = table(lambda image, prompt: model.score(prompt, image))
    return {"shapes": shapes, "tokens": tokens, "scores": scores}


def pickscore(folder: Path) -> dict:
    """PickScore as its authors' page computes it, with transformers' CLIP of that time."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTextConfig,
        CLIPTokenizerFast,
        CLIPVisionConfig,
    )

    words = seeded.byte_pairs("<|startoftext|>", "<|endoftext|>")
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *seeded.MERGES]) + "\n")
    # AutoProcessor, which the page uses, takes the fast tokenizer.
    tokenizer = CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu"}
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=96,
        max_position_embeddings=24,
        bos_token_id=0,
        eos_token_id=2,
        **size,
    )
    vision = CLIPVisionConfig(
        hidden_size=96, intermediate_size=128, image_size=SIDE, patch_size=PATCH, **size
    )
    config = CLIPConfig.from_text_vision_configs(text, vision, projection_dim=48)
    model = CLIPModel(config)
    shapes = filled(model)
    square = {"height": SIDE, "width": SIDE}
    processor = CLIPProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square),
        tokenizer=tokenizer,
    )
    told = {"padding": True, "truncation": True, "max_length": 24, "return_tensors": "pt"}

    def score(image, prompt):
        seen = model.get_image_features(**processor(images=image, **told))
        read = model.get_text_features(**processor(text=prompt, **told))
        seen = seen / torch.norm(seen, dim=-1, keepdim=True)
        read = read / torch.norm(read, dim=-1, keepdim=True)
        return (model.logit_scale.exp() * (read @ seen.T)[0]).item()

    tokens = [tokenizer(p, truncation=True, max_length=24).input_ids for p in seeded.PROMPTS]
    facts = {"text": text.to_diff_dict(), "vision": vision.to_diff_dict(), "projection_dim": 48}
    return {"config": facts, "shapes": shapes, "tokens": tokens, "scores": table(score)}


def small_byte_pairs(folder: Path) -> Path:
    """The merges of `seeded`, in the file format of OpenAI's tokenizer."""
    path = folder / "merges.txt.gz"
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *seeded.MERGES]).encode()))
    return path


def hpsv2(folder: Path) -> dict:
    """`hpsv2.img_score.score`, its own model and transforms, GELU and 16 heads a tower as ViT-H."""
    import hpsv2.img_score as package
    from hpsv2.src.open_clip import factory, tokenizer

    words = seeded.byte_pairs("<start_of_text>", "<end_of_text>")
    tokenizer._tokenizer = tokenizer.SimpleTokenizer(str(small_byte_pairs(folder)))
    assert tokenizer._tokenizer.encoder == {word: n for n, word in enumerate(words)}
    sees = {"layers": 2, "width": 160, "head_width": 10, "patch_size": PATCH, "image_size": SIDE}
    reads = {"vocab_size": len(words), "width": 128, "heads": 16, "layers": 2, "context_length": 77}
    small = {"embed_dim": 48, "vision_cfg": sees, "text_cfg": reads}
    factory._MODEL_CONFIGS["ViT-H-14"] = small
    factory.get_pretrained_cfg = lambda *_: {"where": "nowhere"}
    factory.download_pretrained = lambda *_, **__: "nothing to fetch"
    factory.load_checkpoint = lambda *_, **__: None
    package.initialize_model()
    model = package.model_dict["model"]
    shapes = filled(model)
    torch.save({"state_dict": model.state_dict()}, folder / "hps.pt")
    tokens = [[n for n in row.tolist() if n] for row in tokenizer.tokenize(list(seeded.PROMPTS))]

    def score(image, prompt):
        return package.score(image, prompt, cp=str(folder / "hps.pt"))[0]

    return {"shapes": shapes, "tokens": tokens, "scores": table(score)}


def aesthetic(folder: Path) -> dict:
    """`AestheticScore.score` of the image-reward package, over OpenAI's own CLIP.

    The predictor's authors publish a script and weights, not a package; this is its arithmetic as
    the package with the most users of it has it.
    """
    import clip
    from clip.clip import _transform
    from clip.model import CLIP

    package = importlib.import_module("ImageReward.models.AestheticScore")
    words = seeded.byte_pairs("<|startoftext|>", "<|endoftext|>")
    seeing = CLIP(48, SIDE, 2, 128, PATCH, 77, len(words), 64, 1, 2)
    head = package.MLP
    clip.load = lambda *_, **__: (seeing, _transform(SIDE))
    package.MLP = lambda _: head(48)
    model = package.AestheticScore(download_root=str(folder), device="cpu")
    shapes = filled(model)

    def score(image, prompt):
        image.save(folder / "picture.png")
        return model.score(prompt, str(folder / "picture.png"))

    return {"shapes": shapes, "scores": table(score)}


def main(out: Path) -> None:
    """Write one file for each scorer."""
    stand_ins()
    names = ("torch", "torchvision", "transformers", "timm", "fairscale", "pillow", "numpy")
    packages = (*names, "image-reward", "hpsv2", "openai-clip")
    for build in (imagereward, pickscore, hpsv2, aesthetic):
        with tempfile.TemporaryDirectory() as folder:
            found = build(Path(folder))
        weights = seeded.weights(found["shapes"])
        seen = b"".join(picture.tobytes() for picture in seeded.pictures())
        facts = {
            "scorer": build.__name__,
            "packages": {name: importlib.metadata.version(name) for name in packages},
            "weights": digest_tensors(weights),
            "pictures": digest_bytes(seen),
            **found,
        }
        text = json.dumps(facts, indent=1)
        (out / f"{build.__name__}.json").write_text(_narrow(text) + "\n")
        sys.stdout.write(f"{build.__name__}: {found['scores']}\n")


def _narrow(text: str) -> str:
    """Lists of numbers on one line each."""
    return re.sub(r"\[[^\[\]{}]*\]", lambda m: " ".join(m.group().split()), text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
