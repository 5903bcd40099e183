"""A reward model that reads noisy latents: the diffusion model's own encoder, taught to judge.

A denoising network has to understand noisy latents to do its work. Its downward half is kept: the
output of each stage (before it is made smaller) and of the middle block, averaged over space, go
through one linear layer; the score is exp(s) times the cosine with the prompt's end-of-text
embedding. The middle block's feature is guided, without + 7.5 · (given - without), so the prompt
counts. Neither a predicted picture nor the autoencoder is needed, and every level can be judged
(LPO's latent reward model: Zhang et al., 2025, arXiv:2502.01051, section 3 and code).

The authors take the text projection from the CLIP model whose text encoder Stable Diffusion uses;
a pipeline folder does not hold it, so it starts as the identity unless such a folder is named.

Read next: `learned.py`, its folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from palate.core.files import load_weights, read_json
from palate.core.hub import fetch
from palate.core.problems import WeightsError, require
from palate.core.streams import Streams
from palate.scorers.learned import (
    TOKENIZER,
    ScorerFolder,
    cosine_score,
    identity_of,
    in_batches,
    refusing,
    tokens_of,
    write_folder,
)
from palate.scorers.stepwise import Latents, Pictures, Reads, latents

GUIDANCE = 7.5
# CLIP's own starting temperature, log(1 / 0.07).
LOGIT_SCALE = 2.6592
_ARITHMETIC = 1
_PARTS = ("unet", "text_encoder", "tokenizer")
_PROJECTION = "text_projection.weight"
_NOTES = ("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path")


@final
class Network(nn.Module):
    """The downward half of a UNet beside its text encoder.

    Args:
        unet: diffusers' `UNet2DConditionModel`; its upward half is not kept.
        text: transformers' `CLIPTextModel`.
        guidance: Strength of the middle feature's guidance; the paper uses 7.5.
    """

    def __init__(self, unet: Any, text: Any, guidance: float) -> None:
        super().__init__()
        self.guidance = guidance
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.conv_in, self.down_blocks = unet.conv_in, unet.down_blocks
        self.mid_block, self.text = unet.mid_block, text
        widths = list(unet.config.block_out_channels)
        common = text.config.hidden_size
        self.project = _linear(sum(widths) + widths[-1], common)
        self.project_text = _linear(common, common)
        self.logit_scale = nn.Parameter(torch.tensor(LOGIT_SCALE))
        with torch.no_grad():
            drawn = Streams(0)("latent", "project").normal(tuple(self.project.weight.shape))
            self.project.weight.copy_(0.02 * drawn)
            self.project_text.weight.copy_(torch.eye(common))

    def forward(
        self,
        noisy: Float[Tensor, " n c h w"],
        level: Int[Tensor, " n"],
        ids: Int[Tensor, " prompts tokens"],
        mask: Int[Tensor, " prompts tokens"] | None,
        rows: Int[Tensor, " n"],
    ) -> Float[Tensor, " n"]:
        """The score of each row, float64. Prompt 0 is the empty one; `rows` says whose is whose."""
        told = self.text(input_ids=ids, attention_mask=mask)
        empty = torch.zeros_like(rows)
        condition = told.last_hidden_state[torch.cat([empty, rows])]
        seen = self.project(self.features(noisy, level, condition))
        said = self.project_text(told.pooler_output[rows])
        return cosine_score(seen, said, self.logit_scale)

    def features(
        self,
        noisy: Float[Tensor, " n c h w"],
        level: Int[Tensor, " n"],
        condition: Float[Tensor, " twice_n tokens width"],
    ) -> Float[Tensor, " n features"]:
        """Spatial means of every stage, and of the middle block with guidance."""
        states = torch.cat([noisy, noisy])
        time = self.time_proj(torch.cat([level, level])).to(noisy.dtype)
        time = self.time_embedding(time)
        states = self.conv_in(states)
        means: list[Tensor] = []
        for block in self.down_blocks:
            states, kept = _through(block, states, time, condition)
            # The last of its layers; what follows it, where something does, is the downsampling.
            stage = kept[len(block.resnets) - 1]
            means.append(stage.mean((2, 3)).chunk(2)[1])
        middle, _ = _through(self.mid_block, states, time, condition)
        without, given = middle.mean((2, 3)).chunk(2)
        return torch.cat([*means, without + self.guidance * (given - without)], dim=1)


@final
class LatentReward:
    """A step-aware scorer of noisy latents. Made by `from_pipeline` or `open_scorer`."""

    kind: str = "latent"
    reads: Reads = "latents"

    def __init__(
        self, *, name: str, network: Network, unet_config: Any, words: Any, batch: int = 32
    ) -> None:
        self.name, self.network = name, network
        self._unet_config, self._words, self._batch = unet_config, words, batch
        self._length = network.text.config.max_position_embeddings
        # Written by some folders of the 2.x line: padding must then be told apart.
        self._masked = bool(network.text.config.to_dict().get("use_attention_mask"))

    @classmethod
    def from_pipeline(
        cls,
        model: str | Path,
        *,
        projection: str | Path | None = None,
        guidance: float = GUIDANCE,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> "LatentReward":
        """Start from a Stable Diffusion 1.x or 2.x folder in diffusers' layout, or its Hub id.

        Args:
            model: The folder or id.
            projection: A CLIP folder or id whose text projection is taken, as the authors do.
            guidance: Strength of the middle feature's guidance; 1 is without.
            device: Where it computes, in float32.
            batch: Latents in memory at once.

        Raises:
            WeightsError: when a part is missing, or the UNet asks for more than time and text.
        """
        from transformers import CLIPTextModel, CLIPTokenizer

        folder = fetch(model, files=[f"{part}/*" for part in _PARTS], without=["*.bin", "*fp16*"])
        _require_parts(folder)
        safe: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        with refusing(folder):
            unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", **safe)
            text: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", **safe)
            words = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        network = Network(unet.float(), text.float(), guidance)
        if projection is not None:
            _take_projection(network, Path(fetch(projection, files=["model.safetensors"])))
        return cls(
            name=f"{folder.name} latent reward",
            network=network.requires_grad_(False).eval().to(device),
            unet_config=dict(unet.config),
            words=words,
            batch=batch,
        )

    @classmethod
    def restore(
        cls, found: ScorerFolder, *, device: str | torch.device = "cpu", batch: int = 32
    ) -> "LatentReward":
        """Build the scorer that a folder holds. Called by `open_scorer`."""
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        with refusing(found.path):
            settings = found.settings
            unet = UNet2DConditionModel.from_config(settings["unet"])
            text = CLIPTextModel(CLIPTextConfig.from_dict(settings["text"]))
            network = Network(unet, text, float(settings["guidance"]))
            place = found.path / TOKENIZER
            words = CLIPTokenizer.from_pretrained(place, local_files_only=True)
        found.fill(network)
        return cls(
            name=found.path.name,
            network=network.requires_grad_(False).eval().to(device),
            unet_config=settings["unet"],
            words=words,
            batch=batch,
        )

    @property
    def identity(self) -> str:
        """Digest of weights, settings, tokenizer and arithmetic, as they are now."""
        return identity_of(self.kind, _ARITHMETIC, self._settings(), self.network, self._words)

    def judge(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float[Tensor, " n"]:
        """The scores of one batch, float64, with their gradient.

        Raises:
            DataError: when the three differ in number, or what is seen are no latents.
        """
        noisy = latents(seen, prompts, level)
        device = self.network.logit_scale.device
        unique = list(dict.fromkeys(["", *prompts]))
        place = {prompt: row for row, prompt in enumerate(unique)}
        tokens = tokens_of(self._words, unique, self._length, device)
        return self.network(
            noisy.to(device, torch.float32),
            torch.tensor(list(level), device=device),
            tokens.input_ids,
            tokens.attention_mask if self._masked else None,
            torch.tensor([place[prompt] for prompt in prompts], device=device),
        )

    def score_steps(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float64[np.ndarray, " n"]:
        """The reward of each noisy latent with its prompt, at its level.

        Raises:
            DataError: when the three differ in number, or what is seen are no latents.
        """
        latents(seen, prompts, level)
        return in_batches(self.judge, seen, prompts, level, self._batch)

    def write(self, folder: Path) -> None:
        """Write config, weights and tokenizer into a folder that exists."""
        write_folder(folder, self.kind, self._settings(), self.network)
        self._words.save_pretrained(folder / TOKENIZER)

    def _settings(self) -> dict[str, Any]:
        text = self.network.text.config.to_dict()
        return {
            "guidance": self.network.guidance,
            "unet": {k: v for k, v in self._unet_config.items() if not k.startswith("_")},
            "text": {k: v for k, v in text.items() if k not in _NOTES},
        }


def _through(block: Any, states: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Any]:
    """A block's answer and, for a downward one, the outputs of its layers."""
    listens = isinstance(block, CrossAttnDownBlock2D | UNetMidBlock2DCrossAttn)
    answer = block(states, time, **({"encoder_hidden_states": condition} if listens else {}))
    return answer if isinstance(answer, tuple) else (answer, ())


def _require_parts(folder: Path) -> None:
    missing = [name for name in _PARTS if not (folder / name).is_dir()]
    require(
        not missing,
        got=f"{folder} without {', '.join(missing)}",
        need="a Stable Diffusion folder with unet, text_encoder and tokenizer",
        fix="Give the folder that diffusers' save_pretrained wrote.",
        kind=WeightsError,
    )
    config = read_json(folder / "unet" / "config.json")
    asked = [n for n in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
             if config.get(n) is not None]  # fmt: skip
    require(
        not asked,
        got=f"{folder}: a UNet with {', '.join(asked)}",
        need="a UNet that is conditioned on time and text only",
        fix="Use a Stable Diffusion 1.x or 2.x folder.",
        kind=WeightsError,
    )


def _take_projection(network: Network, folder: Path) -> None:
    """Start from the text projection of a CLIP model."""
    found = load_weights(folder / "model.safetensors").get(_PROJECTION)
    want = tuple(network.project_text.weight.shape)
    require(
        found is not None and tuple(found.shape) == want,
        got=f"{folder}: {_PROJECTION} {'missing' if found is None else list(found.shape)}",
        need=f"a CLIP model with a text projection of shape {list(want)}",
        fix="Use the CLIP model whose text encoder this is, or none.",
        kind=WeightsError,
    )
    if found is not None:
        network.project_text.weight.data.copy_(found)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer without bias whose weights are set by whoever asked for it."""
    layer: Any = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=False)
    return layer
