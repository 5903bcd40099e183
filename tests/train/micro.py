"""The smallest backbone of real layers: a float64 UNet and a frozen copy of it as reference."""

import copy
import hashlib
from contextlib import contextmanager
from pathlib import Path as Folder

import torch
from diffusers import UNet2DConditionModel

from palate.backbones.backbone import Condition
from palate.core.path import Path
from palate.core.streams import Streams
from palate.train.batch import Batch
from palate.train.noise import Noised, add_noise

LEVELS = 50


class Micro:
    """A policy that may be moved away from its reference, in any floating type."""

    kind = "micro"
    device = torch.device("cpu")
    precision = "fp32"
    resolution = 8
    adapter = None
    applied = None
    digests = {"vae": "v", "text_encoder": "t", "tokenizer": "k", "unet": "u"}  # noqa: RUF012
    scheduler_config = {}  # noqa: RUF012

    def __init__(self, dtype: torch.dtype = torch.float64, prediction: str = "epsilon") -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = UNet2DConditionModel(
                sample_size=8, in_channels=2, out_channels=2, layers_per_block=1,
                block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",),
                up_block_types=("CrossAttnUpBlock2D",), mid_block_type="UNetMidBlock2DCrossAttn",
                cross_attention_dim=6, norm_num_groups=4, attention_head_dim=4,
            ).to(dtype)  # fmt: skip
        self.frozen = copy.deepcopy(self.network).requires_grad_(False)
        kept = torch.linspace(0.999, 0.01, LEVELS, dtype=torch.float64)
        self.path = Path.from_alphas_cumprod(kept, prediction)
        self._reference = False

    def move(self, amount: float) -> "Micro":
        """Move the policy away from the reference by keyed noise."""
        with torch.no_grad():
            for name, weight in self.trainable().items():
                weight += amount * Streams(0)("move", name).normal(tuple(weight.shape)).to(weight)
        return self

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 2, height, width

    def predict(self, noisy, level, condition):
        network = self.frozen if self._reference else self.network
        return network(noisy, level, encoder_hidden_states=condition.tensors["text"]).sample

    @contextmanager
    def as_reference(self):
        self._reference = True
        try:
            with torch.no_grad():
                yield
        finally:
            self._reference = False

    def trainable(self):
        return dict(sorted(self.network.named_parameters()))

    def state(self):
        return {name: weight.detach() for name, weight in self.trainable().items()}

    def load_state(self, tensors):
        with torch.no_grad():
            for name, weight in self.trainable().items():
                weight.copy_(tensors[name])

    def reference_probe(self) -> str:
        total = hashlib.sha256()
        for weight in self.frozen.parameters():
            total.update(weight.numpy().tobytes())
        return total.hexdigest()

    def encode(self, images):
        raise NotImplementedError

    def decode(self, latents):
        raise NotImplementedError

    def embed(self, prompts):
        raise NotImplementedError

    def token_counts(self, prompts):
        raise NotImplementedError

    def export(self, folder: Folder):
        raise NotImplementedError

    def release(self, *parts: str) -> None:
        """Nothing to forget."""


def batch(size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Batch:
    """Random pairs, different in every field."""
    streams = Streams(seed)

    def draw(name, *shape):
        return streams(name).normal(shape, dtype=torch.float64).to(dtype)

    condition = Condition({"text": draw("text", size, 3, 6)})
    return Batch(
        ids=tuple(f"pair {i}" for i in range(size)),
        visits=tuple(range(size)),
        chosen=draw("chosen", size, 2, 8, 8),
        rejected=draw("rejected", size, 2, 8, 8),
        conditions=(condition, condition),
        agreement=torch.linspace(0.6, 1.0, size).to(dtype),
    )


class Given:
    """A noise source that answers with keyed float64 noise, whatever else is in the batch."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Micro().path

    def __call__(self, batch: Batch) -> Noised:
        keys = [Streams(9)("given", name) for name in batch.ids]
        noise = torch.stack([k.normal((2, 8, 8), dtype=torch.float64) for k in keys])
        noise = noise.to(batch.chosen)
        level = torch.tensor([key.integer(0, LEVELS) for key in keys])
        return add_noise(self.path, batch, noise, noise, level)

    def noise(self, batch: Batch) -> torch.Tensor:
        """The noise itself, for restatements."""
        keys = [Streams(9)("given", name) for name in batch.ids]
        return torch.stack([k.normal((2, 8, 8), dtype=torch.float64) for k in keys])
