"""The picture encoder of Stable Cascade's stage C: EfficientNetV2-S and one layer on top.

Stage C works in a space of 16 channels and 24×24 places for a picture of 1024×1024 pixels. What
makes those numbers of a picture is not in any pipeline folder, because drawing does not need it; it
is published beside them as `effnet_encoder.safetensors`. The network is that of the file: the
convolutional part of EfficientNetV2-S (Tan & Le, 2021, arXiv:2104.00298, table 4) under `backbone`,
and under `mapper` one 1×1 convolution whose answer is normalised to mean 0 and spread 1. Names are
those of the file. The encoder is deterministic, never trained, and computes in float32.

Read next: `cascade.py`, which trains in these latents.
"""

from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from palate.core.files import load_weights
from palate.core.problems import WeightsError, require

FILE = "effnet_encoder.safetensors"
SOURCE = "stabilityai/stable-cascade"
CHANNELS = 16
# Pixels to one latent, in each direction, of the picture as the network sees it.
STRIDE = 32
# Of the pictures the network was first trained on (ImageNet), per colour, from 0 to 1.
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FIRST, _LAST, _EPS = 24, 1280, 1e-3
# Per stage: widening inside a block, stride of the first, channels, blocks, and whether the
# depthwise convolution is fused into the widening one.
_STAGES = (
    (1, 1, 24, 2, True),
    (4, 2, 48, 4, True),
    (4, 2, 64, 4, True),
    (4, 2, 128, 6, False),
    (6, 1, 160, 9, False),
    (6, 2, 256, 15, False),
)


def _convolution(
    inside: int, outside: int, *, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, normalised, and active or not."""
    layers: list[nn.Module] = [
        nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside, eps=_EPS),
    ]
    return nn.Sequential(*layers, nn.SiLU()) if active else nn.Sequential(*layers)


@final
class _Squeeze(nn.Module):
    """Weighs the channels by what the whole picture holds of them (arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_bcyx: Tensor) -> Tensor:
        """The channels, each times a number between 0 and 1."""
        whole = x_bcyx.mean((2, 3), keepdim=True)
        return x_bcyx * torch.sigmoid(self.fc2(nn.functional.silu(self.fc1(whole))))


@final
class _Block(nn.Module):
    """Widen, look around, narrow; added to what came in where the shapes allow it."""

    def __init__(self, inside: int, outside: int, widening: int, stride: int, fused: bool) -> None:
        super().__init__()
        wide = inside * widening
        self.added = stride == 1 and inside == outside
        narrow = _convolution(wide, outside, kernel=1, active=False)
        if fused and widening == 1:
            layers = [_convolution(inside, outside, kernel=3, stride=stride)]
        elif fused:
            layers = [_convolution(inside, wide, kernel=3, stride=stride), narrow]
        else:
            around = _convolution(wide, wide, kernel=3, stride=stride, groups=wide)
            layers = [
                _convolution(inside, wide, kernel=1),
                around,
                _Squeeze(wide, max(1, inside // 4)),
                narrow,
            ]
        self.block = nn.Sequential(*layers)

    def forward(self, x_bcyx: Tensor) -> Tensor:
        """The features of the next layer."""
        return self.block(x_bcyx) + x_bcyx if self.added else self.block(x_bcyx)


def _backbone() -> nn.Sequential:
    """EfficientNetV2-S without its head: three colours to 1280 features, 32 times smaller."""
    parts: list[nn.Module] = [_convolution(3, _FIRST, kernel=3, stride=2)]
    before = _FIRST
    for widening, stride, channels, blocks, fused in _STAGES:
        first = _Block(before, channels, widening, stride, fused)
        rest = [_Block(channels, channels, widening, 1, fused) for _ in range(blocks - 1)]
        parts.append(nn.Sequential(first, *rest))
        before = channels
    return nn.Sequential(*parts, _convolution(before, _LAST, kernel=1))


@final
class PictureEncoder(nn.Module):
    """Pictures to stage C's latents."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _backbone()
        self.mapper = nn.Sequential(
            nn.Conv2d(_LAST, CHANNELS, 1, bias=False), nn.BatchNorm2d(CHANNELS, affine=False)
        )

    @classmethod
    def load(cls, file: Path, device: torch.device) -> "PictureEncoder":
        """Read the published file: whole, finite, frozen and in evaluation mode.

        Raises:
            WeightsError: when the file is missing, damaged or of another network.
        """
        require(
            file.is_file(),
            got=f"no {FILE} in {file.parent}",
            need="the encoder that makes stage C's latents of pictures",
            fix=f"Put {FILE} of {SOURCE} on the Hub into that folder. Drawing does not need it.",
            kind=WeightsError,
        )
        with torch.device("meta"):
            encoder = cls()
        tensors = load_weights(file)
        wanted = encoder.state_dict()
        # A count of training batches, which evaluation never reads and some savers leave out.
        counts = {name for name in wanted if name.endswith("num_batches_tracked")}
        wrong = sorted((set(wanted) ^ set(tensors)) - counts) or sorted(
            name for name in set(wanted) - counts if wanted[name].shape != tensors[name].shape
        )
        require(
            not wrong,
            got=f"{file} with {len(wrong)} other weights, such as {', '.join(wrong[:3])}",
            need="EfficientNetV2-S under `backbone` and one layer under `mapper`",
            fix=f"Fetch {FILE} of {SOURCE} again.",
            kind=WeightsError,
        )
        zeros = {name: torch.zeros((), dtype=torch.long) for name in counts}
        # Copied, not kept as read: answers would depend on where in the file a weight begins.
        encoder.to_empty(device=device).load_state_dict({**tensors, **zeros})
        return encoder.requires_grad_(False).eval()

    def forward(self, x_bcyx: Float[Tensor, " b 3 h w"]) -> Float[Tensor, " b c y x"]:
        """Latents of pictures whose colours are already normalised."""
        return self.mapper(self.backbone(x_bcyx))

    @torch.no_grad()
    def encode(
        self, images: UInt8[Tensor, " b h w 3"], size: tuple[int, int]
    ) -> Float[Tensor, " b c y x"]:
        """Latents of pictures.

        The picture is resized (bilinear, antialiased, as in the network's own training) to 32
        pixels per latent: 768×768 for the 24×24 latents of a picture of 1024×1024.

        Args:
            images: Pictures of one size, values 0 to 255.
            size: Height and width of the latents.
        """
        require(
            images.dtype == torch.uint8 and images.ndim == 4 and images.shape[-1] == 3,
            got=f"images {images.dtype} {tuple(images.shape)}",
            need="uint8 [b, h, w, 3]",
            fix="Stack pictures of one size, channels last, values 0 to 255.",
        )
        weight = next(self.parameters())
        pixels = images.to(weight.device).permute(0, 3, 1, 2).float() / 255
        seen = (size[0] * STRIDE, size[1] * STRIDE)
        if pixels.shape[-2:] != seen:
            pixels = interpolate(pixels, seen, mode="bilinear", antialias=True)
        mean, spread = (torch.tensor(row, device=weight.device) for row in (_MEAN, _SPREAD))
        with torch.autocast(weight.device.type, enabled=False):
            return self((pixels - mean[:, None, None]) / spread[:, None, None])
