"""What the step-aware scorers of our own making share: how they learn, and their folder.

A scorer's folder holds `config.json` (which kind, and the shapes of its networks), its weights in
safetensors, its tokenizer, and a manifest by which damage is noticed.

Read next: `stepclip.py` and `latent.py`, the two kinds.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from palate.core.files import (
    damage,
    digest_json,
    digest_tensors,
    load_weights,
    new_folder,
    read_json,
    save_weights,
    write_json,
)
from palate.core.problems import Problem, WeightsError, require, unknown
from palate.scorers.stepwise import Latents, Pictures, StepScorer

CONFIG, WEIGHTS, TOKENIZER, PROCESSOR = "config.json", "model.safetensors", "tokenizer", "pictures"
FORMAT = 1
Judge = Callable[[Pictures | Latents, Sequence[str], Sequence[int]], Float[Tensor, " n"]]


class Learned(StepScorer, Protocol):
    """A step-aware scorer that can be taught and written down."""

    @property
    def kind(self) -> str:
        """Which kind it is, as its folder says."""
        ...

    @property
    def network(self) -> nn.Module:
        """Everything that learns."""
        ...

    def judge(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float[Tensor, " n"]:
        """The scores of one batch, float64, with their gradient.

        Raises:
            DataError: as `score_steps` does.
        """
        ...

    def write(self, folder: Path) -> None:
        """Write config, weights and tokenizer into a folder that exists."""
        ...


def save_scorer(scorer: Learned, folder: Path) -> None:
    """Write a scorer as a new folder, whole or not at all.

    Raises:
        StateError: when the folder exists, or the disk refuses.
    """
    with new_folder(folder) as inside:
        scorer.write(inside)


def open_scorer(
    folder: str | Path, *, device: str | torch.device = "cpu", batch: int = 32
) -> Learned:
    """Open a step-aware scorer's folder, of whichever kind.

    Raises:
        WeightsError: when it is no such folder, or is damaged.
    """
    found = read_folder(Path(folder))
    if found.kind not in _OPENERS:
        wrong = unknown("kind of scorer", found.kind, _OPENERS)
        raise WeightsError(got=f"{folder}: {wrong.got}", need=wrong.need, fix=wrong.fix)
    return _OPENERS[found.kind](found, device, batch)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScorerFolder:
    """A scorer's folder, read and found whole.

    Attributes:
        path: Where it is.
        kind: Which kind of scorer.
        settings: Shapes of its networks and its own settings.
        weights: Its weights by name.
    """

    path: Path
    kind: str
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    def fill(self, network: nn.Module) -> None:
        """Put the weights into a network built from the settings.

        Raises:
            WeightsError: when they do not fit.
        """
        with refusing(self.path):
            network.load_state_dict(dict(self.weights), strict=True)


def write_folder(folder: Path, kind: str, settings: Mapping[str, Any], network: nn.Module) -> None:
    """Write config and weights; the tokenizer is the scorer's own business."""
    write_json(folder / CONFIG, {"palate_scorer": kind, "format": FORMAT, **settings})
    save_weights(folder / WEIGHTS, network.state_dict())


def read_folder(folder: Path) -> ScorerFolder:
    """Read a scorer's folder back.

    Raises:
        WeightsError: when it is none, or is not as it was written.
    """
    require(
        (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file(),
        got=f"{folder} without {CONFIG} and {WEIGHTS}",
        need="the folder of a step-aware scorer",
        fix="Train one with: palate scorer train.",
        kind=WeightsError,
    )
    wrong = damage(folder)
    config = read_json(folder / CONFIG)
    if wrong is None and config.get("format") != FORMAT:
        wrong = f"{CONFIG} of format {config.get('format')}"
    require(
        wrong is None,
        got=f"{folder}: {wrong}",
        need="a scorer's folder as it was written",
        fix="Copy it again, or train the scorer again.",
        kind=WeightsError,
    )
    settings = {k: v for k, v in config.items() if k not in ("palate_scorer", "format")}
    return ScorerFolder(
        path=folder,
        kind=str(config.get("palate_scorer")),
        settings=settings,
        weights=load_weights(folder / WEIGHTS),
    )


def identity_of(
    kind: str,
    arithmetic: int,
    settings: Mapping[str, Any],
    network: nn.Module,
    words: Any,
    *others: Any,
) -> str:
    """Digest of what a learned scorer's numbers depend on, from memory: it may be learning.

    Args:
        kind: Which kind it is.
        arithmetic: Number of its own arithmetic.
        settings: Shapes of its networks and its own settings.
        network: Everything that learns.
        words: Its tokenizer.
        others: More tokenizers, where it has them.
    """
    facts = {
        "kind": kind,
        "arithmetic": arithmetic,
        "settings": settings,
        "weights": digest_tensors(network.state_dict()),
        "tokenizer": _spelled(words),
    }
    more = [{"pad": each.pad_token, "tokenizer": _spelled(each)} for each in others]
    return digest_json(facts | ({"others": more} if more else {}))


def _spelled(words: Any) -> dict[str, Any]:
    """How a tokenizer cuts words; padding and cutting off are told with every call."""
    told = json.loads(words.backend_tokenizer.to_str())
    return {name: part for name, part in told.items() if name not in ("padding", "truncation")}


@torch.no_grad()
def in_batches(
    judge: Judge,
    seen: Pictures | Latents,
    prompts: Sequence[str],
    level: Sequence[int],
    batch: int,
) -> Float64[np.ndarray, " n"]:
    """The scores of any number of things, a batch at a time."""
    parts = [
        judge(seen[i : i + batch], prompts[i : i + batch], level[i : i + batch]).cpu().numpy()
        for i in range(0, len(prompts), batch)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def tokens_of(words: Any, prompts: Sequence[str], length: int, device: torch.device) -> Any:
    """Token ids and mask [n, length]; words beyond the length are cut."""
    return words(
        list(prompts),
        padding="max_length",
        max_length=min(length, words.model_max_length),
        truncation=True,
        return_tensors="pt",
    ).to(device)


def cosine_score(
    seen: Float[Tensor, " n width"], prompt: Float[Tensor, " n width"], logit_scale: Tensor
) -> Float[Tensor, " n"]:
    """exp(s) times the cosine of the embeddings, in float64: CLIP's logit of a matching pair."""
    # CLIP's own order of roundings, so that what equals CLIP equals it to the last bit.
    left, right = ((x / x.pow(2).sum(-1, keepdim=True).pow(0.5)).double() for x in (seen, prompt))
    cosine = (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1))
    return cosine * logit_scale.double().exp()


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Inside, libraries are silent, and what they dislike becomes one error about the folder.

    The layers' own first weights come from the global generator; it is put back.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            yield
    except Problem:
        raise
    # A stranger's folder in libraries' hands: each has its own many ways of disliking one.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(
            got=f"{folder}: {reason[:300]}",
            need="weights and settings that fit each other",
            fix="Copy or download the folder again.",
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _step_clip(found: ScorerFolder, device: str | torch.device, batch: int) -> Learned:
    from palate.scorers.stepclip import StepCLIP

    return StepCLIP.restore(found, device=device, batch=batch)


def _latent(found: ScorerFolder, device: str | torch.device, batch: int) -> Learned:
    from palate.scorers.latent import LatentReward

    return LatentReward.restore(found, device=device, batch=batch)


_OPENERS: Mapping[str, Callable[[ScorerFolder, str | torch.device, int], Learned]] = {
    "step-clip": _step_clip,
    "latent": _latent,
}
