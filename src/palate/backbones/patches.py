"""Latents that a transformer reads in square patches, and the numbers of such a network.

Read next: `sd3.py`, a family of such networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from palate.backbones.autoencoder import latent_shape
from palate.backbones.folder import Part
from palate.core.problems import WeightsError, require


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
        """The latents of a folder, from the settings of its network and autoencoder."""
        settings, vae = sizes_of(parts["transformer"]), parts["vae"].settings
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        return cls(
            channels=settings["in_channels"],
            factor=factor,
            patch=settings["patch_size"],
            places=settings["pos_embed_max_size"],
            resolution=settings["sample_size"] * factor,
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


def sizes_of(transformer: Part) -> dict[str, Any]:
    """A network's configuration, with what diffusers has where a folder does not say.

    Raises:
        WeightsError: when a size is not a whole number above 0.
    """
    usual = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 96,
    }
    found = {name: transformer.settings.get(name, size) for name, size in usual.items()}
    wrong = {name: size for name, size in found.items() if type(size) is not int or size < 1}
    require(
        not wrong,
        got=f"{transformer.folder}: {wrong}",
        need="whole numbers above 0",
        fix="Copy or download the folder again.",
        kind=WeightsError,
    )
    return {**found, "out_channels": transformer.settings.get("out_channels", 16)}
