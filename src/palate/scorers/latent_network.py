"""The downward half of a denoising network, with a linear layer on what its stages see.

Read next: `latent.py`, the scorer it is.
"""

from typing import Any, final

import torch
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn
from jaxtyping import Float, Int
from torch import Tensor, nn

from palate.core.streams import Streams
from palate.scorers.latent_text import Texts, Told
from palate.scorers.learned import cosine_score

# CLIP's own starting temperature, log(1 / 0.07).
LOGIT_SCALE = 2.6592


@final
class Network(nn.Module):
    """The downward half of a UNet beside its text encoders.

    Args:
        unet: diffusers' `UNet2DConditionModel`; its upward half is not kept.
        texts: Who reads prompts for it.
        guidance: Strength of the middle feature's guidance; the paper uses 7.5.
        factor: Pixels per latent, along each side.
    """

    def __init__(self, unet: Any, texts: Texts, guidance: float, factor: int) -> None:
        super().__init__()
        self.guidance = guidance
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.conv_in, self.down_blocks = unet.conv_in, unet.down_blocks
        self.mid_block = unet.mid_block
        for name, encoder in texts.encoders.items():
            self.add_module(name, encoder)
        self.sizes = Sizes(unet, factor) if unet.config.addition_embed_type else None
        widths = list(unet.config.block_out_channels)
        self.project = _linear(sum(widths) + widths[-1], texts.common)
        self.project_text: nn.Module = nn.Identity()
        if not texts.projected:
            self.project_text = _linear(texts.common, texts.common)
            nn.init.eye_(self.project_text.weight)
        self.logit_scale = nn.Parameter(torch.tensor(LOGIT_SCALE))
        with torch.no_grad():
            drawn = Streams(0)("latent", "project").normal(tuple(self.project.weight.shape))
            self.project.weight.copy_(0.02 * drawn)

    def forward(
        self,
        noisy: Float[Tensor, " n c h w"],
        level: Int[Tensor, " n"],
        told: Told,
        rows: Int[Tensor, " n"],
    ) -> Float[Tensor, " n"]:
        """The score of each row, float64. Prompt 0 is the empty one; `rows` says whose is whose."""
        seen = self.project(self.features(noisy, level, told, rows))
        return cosine_score(seen, self.project_text(told.said[rows]), self.logit_scale)

    def features(
        self,
        noisy: Float[Tensor, " n c h w"],
        level: Int[Tensor, " n"],
        told: Told,
        rows: Int[Tensor, " n"],
    ) -> Float[Tensor, " n features"]:
        """Spatial means of every stage, and of the middle block with guidance."""
        states = torch.cat([noisy, noisy])
        prompts = torch.cat([torch.zeros_like(rows), rows])
        condition = told.text[prompts]
        time = self.time_proj(torch.cat([level, level])).to(noisy.dtype)
        time = self.time_embedding(time)
        if self.sizes is not None and told.pooled is not None:
            time = time + self.sizes(told.pooled[prompts], noisy.shape[2], noisy.shape[3])
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
class Sizes(nn.Module):
    """What Stable Diffusion XL adds to its time: a prompt's pooled vector and a picture's sizes.

    Every picture counts as uncropped and made at the size it has.

    Args:
        unet: diffusers' `UNet2DConditionModel`.
        factor: Pixels per latent, along each side.
    """

    def __init__(self, unet: Any, factor: int) -> None:
        super().__init__()
        self.add_time_proj, self.add_embedding = unet.add_time_proj, unet.add_embedding
        self._factor = factor

    def forward(
        self, pooled: Float[Tensor, " n pooled"], height: int, width: int
    ) -> Float[Tensor, " n time"]:
        """One vector per row; height and width in latents."""
        whole = [height * self._factor, width * self._factor]
        numbers = torch.tensor([*whole, 0, 0, *whole], device=pooled.device)
        sizes = self.add_time_proj(numbers).flatten().to(pooled.dtype)
        return self.add_embedding(torch.cat([pooled, sizes.expand(len(pooled), -1)], dim=-1))


def _through(block: Any, states: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Any]:
    """A block's answer and, for a downward one, the outputs of its layers."""
    listens = isinstance(block, CrossAttnDownBlock2D | UNetMidBlock2DCrossAttn)
    answer = block(states, time, **({"encoder_hidden_states": condition} if listens else {}))
    return answer if isinstance(answer, tuple) else (answer, ())


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer without bias whose weights are set by whoever asked for it."""
    layer: Any = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=False)
    return layer
