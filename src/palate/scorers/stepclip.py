"""CLIP that is told how unfinished a picture is: SPO's step-aware preference model.

Every block of the vision tower is modulated by the noise level, as adaptive layer norms do: after
each of its two norms the states are scaled and shifted, and what attention and perceptron add is
gated. Scale and shift start at 0 and the gate at 1, so the untrained scorer is the CLIP it was made
from, to the last bit; training teaches it what to distrust at which level. It is shown the picture
that the diffusion model predicts in one step from the noisy state (Liang et al., 2024, "Step-aware
Preference Optimization", arXiv:2406.04314, section 4 and code).

Read next: `learned.py`, its folder; `clip.py`, the scorer it equals at first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from palate.core.problems import require
from palate.core.streams import Streams
from palate.scorers.clip_folder import find_clip, load_clip
from palate.scorers.learned import (
    PROCESSOR,
    TOKENIZER,
    ScorerFolder,
    cosine_score,
    identity_of,
    in_batches,
    refusing,
    tokens_of,
    write_folder,
)
from palate.scorers.stepwise import Latents, Pictures, Reads, pictures

FREQUENCIES = 256
_ARITHMETIC = 1
_SLOWEST = 10_000.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The widths of a CLIP built from nothing, for a world in which there is none to start from.

    Attributes:
        side: Pictures are resized to this many pixels.
        patch: Pixels of a patch's side.
        width: Width of both towers and of the common space.
        layers: Blocks of the vision tower.
        text_layers: Blocks of the text tower.
        heads: Attention heads of both.
    """

    side: int = 64
    patch: int = 8
    width: int = 128
    layers: int = 4
    text_layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        require(
            self.side % self.patch == 0 and self.width % self.heads == 0,
            got=f"pictures of {self.side} in patches of {self.patch}, "
            f"width {self.width} in {self.heads} heads",
            need="whole patches and whole heads",
            fix="Use 64 pixels in patches of 8, width 128 in 4 heads.",
        )


@final
class Network(nn.Module):
    """A CLIP model whose vision blocks hear the noise level.

    Args:
        clip: transformers' `CLIPModel`.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip
        width = clip.config.vision_config.hidden_size
        self.time_in = _linear(FREQUENCIES, width)
        self.time_out = _linear(width, width)
        blocks = len(clip.vision_model.encoder.layers)
        self.modulations = nn.ModuleList(_silent(width, 6 * width) for _ in range(blocks))
        self.final_modulation = _silent(width, 2 * width)
        streams = Streams(0)
        for name, layer in (("time_in", self.time_in), ("time_out", self.time_out)):
            drawn = streams("step-clip", name).normal(tuple(layer.weight.shape))
            with torch.no_grad():
                layer.weight.copy_(0.02 * drawn)
                layer.bias.zero_()

    def forward(
        self,
        pixels: Float[Tensor, " n 3 h w"],
        ids: Int[Tensor, " n tokens"],
        mask: Int[Tensor, " n tokens"],
        level: Int[Tensor, " n"],
    ) -> Float[Tensor, " n"]:
        """CLIP's logit of each picture with its own prompt, float64."""
        text = self.clip.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        return cosine_score(self.embed(pixels, level), text, self.clip.logit_scale)

    def embed(
        self, pixels: Float[Tensor, " n 3 h w"], level: Int[Tensor, " n"]
    ) -> Float[Tensor, " n width"]:
        """The pictures' embeddings, not of length one yet."""
        tower = self.clip.vision_model
        time = silu(self.time_out(silu(self.time_in(waves(level)))))
        states = tower.pre_layrnorm(tower.embeddings(pixels))
        for block, modulation in zip(tower.encoder.layers, self.modulations, strict=True):
            shift, scale, gate, *rest = modulation(time)[:, None].chunk(6, dim=-1)
            inner = block.layer_norm1(states) * (1 + scale) + shift
            answer = block.self_attn(hidden_states=inner, attention_mask=None)[0]
            states = states + answer * (1 + gate)
            shift, scale, gate = rest
            inner = block.layer_norm2(states) * (1 + scale) + shift
            states = states + block.mlp(inner) * (1 + gate)
        shift, scale = self.final_modulation(time).chunk(2, dim=-1)
        pooled = tower.post_layernorm(states[:, 0]) * (1 + scale) + shift
        return self.clip.visual_projection(pooled)


@final
class StepCLIP:
    """A step-aware scorer of CLIP's shape. Made by `from_clip`, `untaught` or `open_scorer`."""

    kind: str = "step-clip"
    reads: Reads = "pictures"

    def __init__(
        self, *, name: str, network: Network, processor: Any, words: Any, batch: int = 32
    ) -> None:
        self.name, self.network = name, network
        self._processor, self._words, self._batch = processor, words, batch
        self._length = network.clip.config.text_config.max_position_embeddings

    @classmethod
    def from_clip(
        cls, model: str | Path, *, device: str | torch.device = "cpu", batch: int = 32
    ) -> "StepCLIP":
        """Start from a CLIP folder or Hub id, such as PickScore's.

        Raises:
            WeightsError: when it is not a whole CLIP model in safetensors.
        """
        folder = find_clip(model)
        clip, processor, words = load_clip(folder)
        network = Network(clip).to(device)
        name = f"{folder.name} step-clip"
        return cls(name=name, network=network, processor=processor, words=words, batch=batch)

    @classmethod
    def untaught(
        cls,
        tokenizer: Path,
        shape: Shape,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> "StepCLIP":
        """A small one with random weights, to be taught from nothing.

        Args:
            tokenizer: The folder of a CLIP tokenizer that knows the prompts' words.
            shape: Its widths.
            seed: Decides the weights.
            device: Where it computes.
            batch: Pictures in memory at once.

        Raises:
            WeightsError: when the tokenizer cannot be read.
        """
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        with refusing(tokenizer):
            words = CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True)
            clip = CLIPModel(_config(shape, words))
        _draw(clip, Streams(seed))
        size = {"height": shape.side, "width": shape.side}
        processor = CLIPImageProcessorPil(size={"shortest_edge": shape.side}, crop_size=size)
        network = Network(clip.eval()).to(device)
        return cls(name=cls.kind, network=network, processor=processor, words=words, batch=batch)

    @classmethod
    def restore(
        cls, found: ScorerFolder, *, device: str | torch.device = "cpu", batch: int = 32
    ) -> "StepCLIP":
        """Build the scorer that a folder holds. Called by `open_scorer`."""
        from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        with refusing(found.path):
            network = Network(CLIPModel(CLIPConfig.from_dict(found.settings["clip"])))
            place = found.path / PROCESSOR
            processor = CLIPImageProcessorPil.from_pretrained(place, local_files_only=True)
            place = found.path / TOKENIZER
            words = CLIPTokenizer.from_pretrained(place, local_files_only=True)
        found.fill(network)
        network = network.requires_grad_(False).eval().to(device)
        name = found.path.name
        return cls(name=name, network=network, processor=processor, words=words, batch=batch)

    @property
    def identity(self) -> str:
        """Digest of weights, settings, tokenizer and arithmetic, as they are now."""
        return identity_of(self.kind, _ARITHMETIC, self._settings(), self.network, self._words)

    def judge(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float[Tensor, " n"]:
        """The scores of one batch, float64, with their gradient.

        Raises:
            DataError: when the three differ in number, or what is seen is no picture.
        """
        shown = pictures(seen, prompts, level)
        device = self.network.clip.logit_scale.device
        pixels = self._processor(images=list(shown), return_tensors="pt").pixel_values
        tokens = tokens_of(self._words, prompts, self._length, device)
        return self.network(
            pixels.to(device, torch.float32),
            tokens.input_ids,
            tokens.attention_mask,
            torch.tensor(list(level), device=device),
        )

    def score_steps(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float64[np.ndarray, " n"]:
        """CLIP's logit of each predicted picture with its prompt, at its level.

        Raises:
            DataError: when the three differ in number, or what is seen is no picture.
        """
        pictures(seen, prompts, level)
        return in_batches(self.judge, seen, prompts, level, self._batch)

    def write(self, folder: Path) -> None:
        """Write config, weights, image processor and tokenizer into a folder that exists."""
        write_folder(folder, self.kind, {"clip": self.network.clip.config.to_dict()}, self.network)
        self._processor.save_pretrained(folder / PROCESSOR)
        self._words.save_pretrained(folder / TOKENIZER)

    def _settings(self) -> dict[str, Any]:
        config = self.network.clip.config
        return {
            "text": _told(config.text_config, "eos_token_id"),
            "vision": _told(config.vision_config, "patch_size"),
            "pictures": self._processor.to_dict(),
        }


def waves(level: Int[Tensor, " n"]) -> Float[Tensor, " n frequencies"]:
    """A level as cosines and sines of 128 frequencies, from 1 down to almost 1/10000."""
    half = FREQUENCIES // 2
    slower = torch.arange(half, device=level.device) / half
    angle = level[:, None].float() * torch.exp(-math.log(_SLOWEST) * slower)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def _told(config: Any, *more: str) -> dict[str, Any]:
    """What a tower's numbers depend on besides its weights."""
    names = ("hidden_act", "num_attention_heads", "layer_norm_eps", *more)
    return {name: getattr(config, name) for name in names}


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights are not drawn: whoever asked for it sets them."""
    layer: Any = nn.utils.skip_init(nn.Linear, inputs, outputs)
    return layer


def _silent(inputs: int, outputs: int) -> nn.Linear:
    """A layer that says zero until it has learned to say something else."""
    layer = _linear(inputs, outputs).requires_grad_(False)
    layer.weight.zero_()
    layer.bias.zero_()
    return layer.requires_grad_(True)


def _config(shape: Shape, words: Any) -> Any:
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

    common: dict[str, Any] = {
        "hidden_size": shape.width,
        "intermediate_size": 4 * shape.width,
        "num_attention_heads": shape.heads,
    }
    text = CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=words.model_max_length,
        num_hidden_layers=shape.text_layers,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **common,
    )
    vision = CLIPVisionConfig(
        image_size=shape.side, patch_size=shape.patch, num_hidden_layers=shape.layers, **common
    )
    return CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=shape.width
    )


@torch.no_grad()
def _draw(clip: nn.Module, streams: Streams) -> None:
    """Weights by name: what multiplies keeps the size of its input, tokens and places are small.

    Norms, biases and the logit scale are left as they are made, without chance.
    """
    for name, weight in clip.named_parameters():
        table = name.endswith(("_embedding.weight", "class_embedding")) and weight.ndim <= 2
        if table or weight.ndim >= 2:
            size = 0.02 if table else weight[0].numel() ** -0.5
            weight.copy_(size * streams("clip", name).normal(tuple(weight.shape)))
