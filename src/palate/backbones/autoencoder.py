"""Pictures to latents and back, always in float32: known autoencoders overflow in half."""

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, UInt8
from torch import Tensor

from palate.backbones.folder import Part
from palate.backbones.sizes import row_of, sizes_of
from palate.core.problems import SettingError, WeightsError, require

# What networks have one number for, of each of their levels.
_LEVELS = "block_out_channels"


@final
class Autoencoder:
    """A diffusers autoencoder with its scaling.

    Args:
        network: Its network. Latents of unit variance are made by its configuration's
            `scaling_factor`, with a shift or, where it has them, a mean and spread per channel.

    Attributes:
        factor: Pixels to one latent, in each direction.
    """

    def __init__(self, network: AutoencoderKL) -> None:
        self._network = network
        self._decode: Any = network.decode
        self.factor = 2 ** (len(network.config[_LEVELS]) - 1)
        self._scale, self._shift = _scaling(network)

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """Mean and standard deviation of the posterior, in the scale the denoiser sees."""
        require(
            images.dtype == torch.uint8 and images.ndim == 4 and images.shape[-1] == 3,
            got=f"images {images.dtype} {tuple(images.shape)}",
            need="uint8 [b, h, w, 3]",
            fix="Stack pictures of one size, channels last, values 0 to 255.",
        )
        pixels = images.to(self._network.device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
            encoded: Any = self._network.encode(pixels.contiguous())
        posterior = encoded.latent_dist
        return (posterior.mean - self._shift) * self._scale, posterior.std * self._scale

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that scaled latents stand for."""
        plain = latents.to(self._network.device, torch.float32) / self._scale + self._shift
        with torch.no_grad(), torch.autocast(plain.device.type, enabled=False):
            pixels = self._decode(plain, return_dict=False)[0]
        unit = (pixels / 2 + 0.5).clamp(0, 1)
        return (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _scaling(network: AutoencoderKL) -> tuple[float | Tensor, float | Tensor]:
    """Scale and shift, numbers or [c, 1, 1]: scaled latents are (plain - shift) · scale.

    Raises:
        WeightsError: when they are no numbers, or mean and spread not one for each channel.
    """
    settings: Any = network.config
    scale, shift = settings["scaling_factor"], settings.get("shift_factor") or 0.0
    folder = settings.get("_name_or_path")
    require(
        all(_is_number(number) for number in (scale, shift)) and scale > 0,
        got=f"{folder}: scaling_factor {scale!r}, shift_factor {shift!r}",
        need="numbers, the scaling_factor above 0",
        fix="Correct config.json there, or fetch it again.",
        kind=WeightsError,
    )
    mean, spread = settings.get("latents_mean"), settings.get("latents_std")
    if mean is None or spread is None:
        return float(scale), float(shift)
    channels = [settings["latent_channels"]] * 2
    require(
        [len(row) for row in (mean, spread) if isinstance(row, list | tuple)] == channels
        and all(_is_number(number) for number in (*mean, *spread))
        and min(spread) > 0,
        got=f"{folder}: latents_mean {mean} and latents_std {spread}",
        need=f"{channels[0]} numbers each, the spreads above 0",
        fix="Correct config.json there, or fetch it again.",
        kind=WeightsError,
    )
    wide = [torch.tensor(row, dtype=torch.float32)[:, None, None] for row in (mean, spread)]
    return float(scale) / wide[1].to(network.device), wide[0].to(network.device)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Latents on a grid of squares of pixels, which is how most families have them.

    Attributes:
        channels: Of the latents.
        factor: Pixels to one latent, in each direction.
        resolution: Side of the pictures the model was made for, in pixels.
        probe: Side of latents that are just large enough to ask the network something.
    """

    channels: int
    factor: int
    resolution: int
    probe: int

    @classmethod
    def of_unet(cls, unet: Part, vae: Part) -> "Grid":
        """The grid of a UNet and an autoencoder, from their settings.

        Raises:
            WeightsError: when one of them does not say how large it is, or not in one number.
        """
        sizes = sizes_of(unet, UNet2DConditionModel, "in_channels", "sample_size")
        factor = factor_of(vae)
        return cls(
            channels=sizes["in_channels"],
            factor=factor,
            resolution=sizes["sample_size"] * factor,
            probe=2 ** len(row_of(unet, UNet2DConditionModel, _LEVELS)),
        )

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture; see `latent_shape`."""
        return latent_shape(height, width, channels=self.channels, factor=self.factor)

    def pixels(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture that latents of this size are of."""
        return height * self.factor, width * self.factor


def factor_of(vae: Part) -> int:
    """Pixels to one latent of an autoencoder, in each direction.

    Raises:
        WeightsError: when its configuration does not say.
    """
    return 2 ** (len(row_of(vae, AutoencoderKL, _LEVELS)) - 1)


def latent_shape(height: int, width: int, *, channels: int, factor: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of a picture.

    Raises:
        SettingError: when the size is not a multiple of the autoencoder's factor.
    """
    require(
        height > 0 and width > 0 and height % factor == 0 and width % factor == 0,
        got=f"pictures of {width}×{height} pixels",
        need=f"width and height in multiples of {factor}",
        fix=f"Use {_fitting(width, factor)}×{_fitting(height, factor)}.",
        kind=SettingError,
    )
    return channels, height // factor, width // factor


def _fitting(side: int, factor: int) -> int:
    """The multiple of the factor that is nearest to a side, and not zero."""
    return max(1, round(side / factor)) * factor
