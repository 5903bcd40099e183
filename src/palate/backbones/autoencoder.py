"""Pictures to latents and back, always in float32: known autoencoders overflow in half."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor

from palate.core.problems import SettingError, WeightsError, require


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
        self.factor = 2 ** (len(network.config["block_out_channels"]) - 1)
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
        WeightsError: when mean and spread are not given for each channel.
    """
    settings = network.config
    scale = float(settings["scaling_factor"])
    mean, spread = settings.get("latents_mean"), settings.get("latents_std")
    if mean is None or spread is None:
        return scale, float(settings.get("shift_factor") or 0.0)
    channels = [settings["latent_channels"]] * 2
    require(
        [len(row) for row in (mean, spread) if isinstance(row, list | tuple)] == channels
        and all(isinstance(number, int | float) for number in (*mean, *spread))
        and min(spread) > 0,
        got=f"an autoencoder with latents_mean {mean} and latents_std {spread}",
        need=f"{channels[0]} numbers each, the spreads above 0",
        fix="Correct vae/config.json, or fetch it again.",
        kind=WeightsError,
    )
    wide = [torch.tensor(row, dtype=torch.float32)[:, None, None] for row in (mean, spread)]
    return scale / wide[1].to(network.device), wide[0].to(network.device)


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
    def of_unet(cls, network: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> "Grid":
        """The grid of a UNet and an autoencoder, from their settings.

        Raises:
            WeightsError: when one of them does not say how large it is.
        """
        wanted = {
            "unet": ("in_channels", "sample_size", "block_out_channels"),
            "vae": ("block_out_channels",),
        }
        for part, settings in (("unet", network), ("vae", autoencoder)):
            missing = [name for name in wanted[part] if settings.get(name) is None]
            require(
                not missing,
                got=f"{part}/config.json without {', '.join(missing)}",
                need="the sizes of the network",
                fix="Correct the file, or fetch it again.",
                kind=WeightsError,
            )
        factor = 2 ** (len(autoencoder["block_out_channels"]) - 1)
        return cls(
            channels=int(network["in_channels"]),
            factor=factor,
            resolution=int(network["sample_size"]) * factor,
            probe=2 ** len(network["block_out_channels"]),
        )

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture; see `latent_shape`."""
        return latent_shape(height, width, channels=self.channels, factor=self.factor)

    def pixels(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture that latents of this size are of."""
        return height * self.factor, width * self.factor


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
