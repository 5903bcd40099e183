"""Drawing a plan's pictures: the same noise for whichever model draws.

The starting noise of a picture is a function of (seed, prompt, index). Whatever differs between
two drawings of one plan therefore comes from the models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from palate.backbones.backbone import Backbone
from palate.backbones.sample import sample, starting_noise
from palate.core.files import digest_json, digest_tensors, load_weights, save_weights
from palate.core.problems import StateError, require
from palate.core.streams import Streams
from palate.evaluate.plan import Plan

Images = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
BATCH = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """What one model drew for a plan.

    Attributes:
        images: uint8 [n, height, width, 3], in the order of `Plan.names`.
        key: Digest of the model and of the part of the plan that decides the pictures.
        model: Digests of the model's parts.
    """

    images: Images
    key: str
    model: Mapping[str, str]

    def save(self, path: Path) -> None:
        """Keep the pictures for a later evaluation, as one safetensors file."""
        save_weights(path, {self.key: torch.from_numpy(self.images)})

    @staticmethod
    def load(path: Path, backbone: Backbone, plan: Plan) -> "Pictures":
        """Read kept pictures of this very model and plan.

        Raises:
            StateError: when the file holds the pictures of another model or plan.
        """
        model = identity(backbone)
        key = drawing_key(model, plan)
        tensors = load_weights(path)
        require(
            set(tensors) == {key},
            got=f"{path}, drawn by another model or for another plan",
            need=f"pictures with the key {key[:12]}",
            fix="Remove the file; the pictures are then drawn again.",
            kind=StateError,
        )
        return Pictures(images=tensors[key].numpy(), key=key, model=model)


def identity(backbone: Backbone) -> dict[str, str]:
    """Digests of what decides a model's pictures: its base, what was trained, and how it answers.

    The answer to one fixed question tells models apart that load their training in another way.
    """
    state = backbone.state()
    shape = (1, *backbone.latent_shape(backbone.resolution, backbone.resolution))
    noisy = Streams(0)("identity").normal(shape)
    with torch.no_grad():
        middle = torch.tensor([backbone.path.levels // 2])
        answer = backbone.predict(noisy, middle, backbone.embed([""]))
    return dict(backbone.digests) | {
        "trained": digest_tensors(state) if state else backbone.applied or "nothing",
        "answer": digest_tensors({"prediction": answer}),
    }


def drawing_key(model: Mapping[str, str], plan: Plan) -> str:
    """Two drawings with one key show the same pictures."""
    return digest_json({"model": dict(model), "drawing": plan.drawing})


def draw(
    backbone: Backbone, plan: Plan, *, what: str = "draw", progress: Progress | None = None
) -> Pictures:
    """Let a model draw every picture of a plan, each from the noise its name gives it."""
    names, side = plan.names, plan.resolution or backbone.resolution
    images = np.empty((len(names), side, side, 3), dtype=np.uint8)
    for start in range(0, len(names), BATCH):
        block = names[start : start + BATCH]
        noise = starting_noise(backbone, block, plan.seed or 0, (side, side))
        prompts = [prompt for prompt, _ in block]
        drawn = sample(backbone, prompts, noise, plan.sampler, batch=BATCH)
        images[start : start + len(block)] = drawn.cpu().numpy()
        if progress is not None:
            progress(what, start + len(block), len(names))
    model = identity(backbone)
    return Pictures(images=images, key=drawing_key(model, plan), model=model)
