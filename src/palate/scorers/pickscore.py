"""PickScore: a CLIP model that was taught which of two pictures people pick.

arXiv:2305.01569. It is transformers' own `CLIPModel` and its score CLIP's own logit,
exp(s)·cosine, so `CLIPScorer` is all there is to it; the softmax over two scores is the
probability that the first picture is picked.

Read next: `clip.py`.
"""

from pathlib import Path

import torch

from palate.scorers.clip import CLIPScorer

KIND = "pickscore"
PUBLISHED = "yuvalkirstain/PickScore_v1"
# Whose image processor and tokenizer the authors use; the model's own page says so.
PROCESSORS = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def open_pickscore(
    model: str | Path = PUBLISHED,
    *,
    name: str | None = None,
    processors: str | Path = PROCESSORS,
    device: str | torch.device = "cpu",
    batch: int = 32,
) -> CLIPScorer:
    """Open PickScore from the Hub, from a copy of it, or from a converted folder.

    Args:
        model: The folder, or `owner/name`, or `owner/name@revision`.
        name: What reports call it; the folder's name when left out.
        processors: Where image processor and tokenizer are when the model's folder has none.
        device: Where it computes, in float32.
        batch: Pictures in memory at once. It does not change the scores.

    Raises:
        WeightsError: when it is not a whole CLIP model, or is a scorer of another kind.
    """
    return CLIPScorer.open(model, name=name, processors=processors, device=device, batch=batch)
