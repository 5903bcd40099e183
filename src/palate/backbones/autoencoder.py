"""Pictures to latents and back, always in float32: known autoencoders overflow in half."""

from typing import Any, final

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor

from palate.core.problems import SettingError, require


@final
class Autoencoder:
    """A diffusers autoencoder with its scaling.

    Args:
        network: Its network. The configuration's `scaling_factor` makes latents of unit variance.

    Attributes:
        factor: Pixels to one latent, in each direction.
    """

    def __init__(self, network: AutoencoderKL) -> None:
        self._network = network
        self._decode: Any = network.decode
        self._scale = float(network.config["scaling_factor"])
        self.factor = 2 ** (len(network.config["block_out_channels"]) - 1)
        self._shift = float(network.config.get("shift_factor") or 0.0)

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
