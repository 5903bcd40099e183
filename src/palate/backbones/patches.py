"""Latents that a transformer reads in square patches.

Read next: `sd3.py`, a family of such networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from diffusers import SD3Transformer2DModel

from palate.backbones.autoencoder import factor_of, latent_shape
from palate.backbones.folder import Part
from palate.backbones.sizes import sizes_of
from palate.core.problems import require


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """Latents that a transformer reads in square patches, no more of them than it has places for.

    Attributes:
        channels: Of the latents.
        factor: Pixels to one latent, in each direction.
        patch: Latents to one patch, in each direction.
        places: The most patches along one side.
        resolution: Side of the pictures the model was made for, in pixels.
    """

    channels: int
    factor: int
    patch: int
    places: int
    resolution: int

    @classmethod
    def of(cls, parts: Mapping[str, Part]) -> "Patches":
        """The latents of a folder, from the settings of its network and autoencoder.

        Raises:
            WeightsError: when one of them does not say how large it is.
        """
        names = ("in_channels", "patch_size", "pos_embed_max_size", "sample_size")
        sizes = sizes_of(parts["transformer"], SD3Transformer2DModel, *names)
        factor = factor_of(parts["vae"])
        return cls(
            channels=sizes["in_channels"],
            factor=factor,
            patch=sizes["patch_size"],
            places=sizes["pos_embed_max_size"],
            resolution=sizes["sample_size"] * factor,
        )

    @property
    def probe(self) -> int:
        """Side of latents that are just large enough to ask the network something."""
        return 2 * self.patch

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture; sizes in pixels.

        Raises:
            SettingError: when sides are no multiples of a patch, or larger than the network knows.
        """
        patch = self.patch * self.factor
        _, rows, columns = latent_shape(height, width, channels=self.channels, factor=patch)
        require(
            max(rows, columns) <= self.places,
            got=f"pictures of {width}×{height} pixels",
            need=f"sides of at most {self.places * patch}, for which the network has places",
            fix=f"Use {self.resolution}×{self.resolution}, for which it was made.",
        )
        return self.channels, rows * self.patch, columns * self.patch

    def pixels(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture that latents of this size are of."""
        return height * self.factor, width * self.factor
