"""Stable Cascade's stage C: text to 16×24×24 latents, which two more stages make pictures of.

Only stage C is trained (Pernias et al., 2023, arXiv:2306.00637). It hears one vector per token,
one pooled vector of the prompt, and an image that is left out, as in plain drawing. Its noise level
is a number t from 0 to 1 on a cosine path (arXiv:2102.09672, eq. 17).

A folder of stage C alone (`StableCascadePriorPipeline`) can be trained and asked, but has nothing
to make pictures with. A combined one (`StableCascadeCombinedPipeline`) has stage B and the
VQGAN, which are opened when a picture is first asked for. What makes latents of pictures is in
neither: it is read from a file beside the parts, when first needed; see `effnet.py`.

Read next: `latent.py`, what all families share; `effnet.py`, pictures to latents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from diffusers import DDPMWuerstchenScheduler
from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection

from palate.backbones.autoencoder import latent_shape
from palate.backbones.backbone import Condition
from palate.backbones.effnet import CHANNELS, FILE, PictureEncoder
from palate.backbones.folder import INDEX, Part
from palate.backbones.latent import Family
from palate.backbones.parts import load_network, quiet
from palate.backbones.schedule import COSINE_SCHEDULERS, cosine_path, cosine_times
from palate.backbones.text import TextEncoder
from palate.core.files import digest_file, digest_json, read_json
from palate.core.problems import WeightsError, require
from palate.core.streams import Streams

_PRIOR, _TEXT = ("StableCascadeUNet",), ("CLIPTextModelWithProjection",)
_TOKENIZER = ("CLIPTokenizer", "CLIPTokenizerFast")
PARTS = {
    "prior": _PRIOR,
    "text_encoder": _TEXT,
    "tokenizer": _TOKENIZER,
    "scheduler": COSINE_SCHEDULERS,
}
# In a combined folder, stage C's parts have a longer name and stage B's the plain one.
COMBINED_PARTS = {
    **{f"prior_{name}": classes for name, classes in PARTS.items()},
    "text_encoder": _TEXT,
    "tokenizer": _TOKENIZER,
    "decoder": ("StableCascadeUNet",),
    "scheduler": COSINE_SCHEDULERS,
    "vqgan": ("PaellaVQModel",),
}
# What a folder's index may say of its latents, and what it says.
MULTIPLE, PIXELS = "resolution_multiple", 42.67
_WHOLE = 128


@final
class PooledText:
    """The last layer of stage C's text encoder, with its pooled, projected answer."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    @classmethod
    def load(
        cls, parts: Mapping[str, Part], rules: Mapping[str, Any], device: torch.device
    ) -> "PooledText":
        """Open stage C's text encoder.

        Raises:
            WeightsError: when it does not fit the network.
        """
        del rules
        own = _stage_c(parts)
        encoder = _encoder(own["text_encoder"], own["tokenizer"], device)
        made = (encoder.network.config.hidden_size, encoder.network.config.projection_dim)
        heard = Heard.by(own["prior"])
        require(
            made == (heard.text, heard.pooled),
            got=f"{own['prior'].folder.parent}: a text encoder {made[0]} wide, pooled {made[1]}",
            need=f"{heard.text} wide and pooled {heard.pooled}, as the network hears it",
            fix="Copy or download the folder again; its parts are of different models.",
            kind=WeightsError,
        )
        return cls(encoder)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Per token `text`, [b, tokens, width], and of the whole `pooled`, [b, width]."""
        found = self._encoder(prompts, layers=True)
        return Condition({"text": found.hidden_states[-1], "pooled": found.text_embeds})

    def token_counts(self, prompts: Sequence[str]) -> tuple[list[int], int]:
        """Tokens of each prompt with its start and end, and how many are read."""
        return self._encoder.token_counts(prompts)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The text, its pooled vector and no image, as the network hears them.

    Attributes:
        text: Width of one token's vector.
        pooled: Width of the pooled vector.
        image: Width of the image's vector, which is zeros.
    """

    text: int
    pooled: int
    image: int

    @classmethod
    def by(cls, prior: Part) -> "Heard":
        """What a folder's stage C hears.

        Raises:
            WeightsError: when it hears other things, as stage B and other networks do.
        """
        names = ("clip_text_in_channels", "clip_text_pooled_in_channels", "clip_image_in_channels")
        widths = [prior.settings.get(name) for name in names]
        others = [prior.settings.get(f"{name}_in_channels") for name in ("effnet", "pixel_mapper")]
        channels = prior.settings.get("in_channels")
        require(
            all(type(width) is int for width in widths)
            and others == [None, None]
            and channels == CHANNELS,
            got=f"{prior.folder}: {', '.join(names)} {widths}, in_channels {channels}, "
            f"effnet_in_channels and pixel_mapper_in_channels {others}",
            need=f"a stage C: {CHANNELS} channels, text, pooled text and image, and nothing else",
            fix="Give stage C, which diffusers calls the prior; stage B draws from its answers.",
            kind=WeightsError,
        )
        text, pooled, image = (int(width) for width in widths if width is not None)
        return cls(text=text, pooled=pooled, image=image)

    def __call__(self, condition: Condition, height: int, width: int) -> Mapping[str, Any]:
        """Named inputs of the network; the size in pixels is in the latents already."""
        del height, width
        text, pooled = condition.tensors["text"], condition.tensors["pooled"]
        return {
            "clip_text_pooled": pooled[:, None],
            "clip_text": text,
            "clip_img": pooled.new_zeros(len(pooled), 1, self.image),
        }

    def question(self) -> Condition:
        """Two rows of eight tokens that no prompt has."""
        streams = Streams(0)
        return Condition(
            {
                "text": streams("reference probe text").normal((2, 8, self.text)),
                "pooled": streams("reference probe pooled").normal((2, self.pooled)),
            }
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Coarse:
    """Three latents to every 128 pixels: the sizes of which all stages make whole numbers.

    The pipelines speak of 42.67 pixels to a latent and round; they also take sizes between, and
    then draw pictures of another size than asked for.

    Attributes:
        channels: Of the latents.
        resolution: Side of the pictures the model was made for, in pixels.
        probe: Side of latents that are just large enough to ask the network something.
    """

    channels: int = CHANNELS
    resolution: int = 1024
    probe: int = 4

    @classmethod
    def of(cls, parts: Mapping[str, Part]) -> "Coarse":
        """The latents of a folder, whose index may say how coarse they are.

        Raises:
            WeightsError: when it says otherwise.
        """
        folder = next(iter(parts.values())).folder.parent
        told = read_json(folder / INDEX).get(MULTIPLE, PIXELS)
        require(
            told == PIXELS,
            got=f"{folder / INDEX}: {MULTIPLE} {told!r}",
            need=f"{PIXELS} pixels to one latent, of which stage B makes pictures",
            fix=f"Correct {INDEX}, or use a model that was trained so.",
            kind=WeightsError,
        )
        return cls()

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture.

        Raises:
            SettingError: when the size is not a multiple of 128.
        """
        channels, down, across = latent_shape(height, width, channels=self.channels, factor=_WHOLE)
        return channels, 3 * down, 3 * across

    def pixels(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture that latents of this size are of."""
        return height * _WHOLE // 3, width * _WHOLE // 3


@final
class StageB:
    """Stage C's latents to a picture: a few steps of a second network, and a VQGAN.

    Stage B hears the empty prompt: what a picture shows is in stage C's latents, and a picture then
    is a function of them alone. Its noise is the same for every picture, so that two pictures
    differ by their latents and not by luck.

    Args:
        network: Stage B.
        vqgan: Its latents to pixels.
        scheduler: Its noise levels.
        pooled: The pooled vector of the empty prompt, [1, width].
    """

    STEPS = 10
    # Stage B's latents to one of stage C's, in each direction: 24 become 256.
    FINER = 10.67

    def __init__(
        self,
        network: StableCascadeUNet,
        vqgan: PaellaVQModel,
        scheduler: DDPMWuerstchenScheduler,
        pooled: Float[Tensor, " 1 w"],
    ) -> None:
        self._network, self._vqgan, self._pooled = network, vqgan, pooled
        self._scheduler: Any = scheduler
        self._scheduler.set_timesteps(self.STEPS, device=pooled.device)

    @classmethod
    def load(cls, parts: Mapping[str, Part], device: torch.device) -> "StageB":
        """Open stage B and the VQGAN of a combined folder; the text encoder only to be asked once.

        Raises:
            WeightsError: when the folder has no stage B, or it cannot be used.
        """
        require(
            "decoder" in parts,
            got=f"a picture asked of {_stage_c(parts)['prior'].folder.parent}, which is stage C",
            need="a folder that can make pictures of stage C's latents",
            fix="Use the folder of a StableCascadeCombinedPipeline, which has all stages.",
            kind=WeightsError,
        )
        pooled = _encoder(parts["text_encoder"], parts["tokenizer"], device)([""]).text_embeds
        with quiet():
            scheduler = DDPMWuerstchenScheduler.from_config(dict(parts["scheduler"].settings))
        return cls(
            load_network(StableCascadeUNet, parts["decoder"], device),
            load_network(PaellaVQModel, parts["vqgan"], device),
            scheduler,  # pyright: ignore[reportArgumentType]
            pooled,
        )

    def __call__(self, latents: Float[Tensor, " c y x"]) -> UInt8[Tensor, " h w 3"]:
        """One picture: the network is large, and its answer must not depend on a batch."""
        streams, device = Streams(0), self._pooled.device
        patch = int(self._network.config["patch_size"])
        # As the pipeline rounds, and then to whole patches, of which it would refuse halves.
        size = [int(side * self.FINER) // patch * patch for side in latents.shape[1:]]
        channels = int(self._network.config["in_channels"])
        fine = streams("stage b").normal((1, channels, *size)).to(device)
        generator = streams("stage b", "steps").generator()
        given = {
            "clip_text_pooled": self._pooled[:, None],
            "effnet": latents[None].to(device, torch.float32),
        }
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            # The last time is where the last step arrives.
            for time in self._scheduler.timesteps[:-1, None]:
                answer = self._network(fine, time, **given, return_dict=False)[0]
                fine = self._scheduler.step(answer, time, fine, generator, return_dict=False)[0]
            scale = self._vqgan.config["scale_factor"]
            decode: Any = self._vqgan.decode
            pixels = decode(fine * scale, return_dict=False)[0]
        return (pixels[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


@final
class Stages:
    """Pictures to latents and back; both ways are opened when first asked for.

    Args:
        parts: Of the folder.
        device: Where the networks are to live.
    """

    def __init__(self, parts: Mapping[str, Part], device: torch.device) -> None:
        self._parts, self._device = parts, device
        self._geometry = Coarse.of(parts)
        self._encoder: PictureEncoder | None = None
        self._stage_b: StageB | None = None

    def encode(
        self, images: UInt8[Tensor, " b h w 3"]
    ) -> tuple[Float[Tensor, " b c y x"], Float[Tensor, " b c y x"]]:
        """The latents of pictures, and zeros: this encoder does not spread.

        Raises:
            WeightsError: when the folder lacks the encoder's file.
        """
        if self._encoder is None:
            self._encoder = PictureEncoder.load(_effnet(self._parts), self._device)
        mean = self._encoder.encode(images, self._geometry.shape(*images.shape[1:3])[1:])
        return mean, torch.zeros_like(mean)

    def decode(self, latents: Float[Tensor, " b c y x"]) -> UInt8[Tensor, " b h w 3"]:
        """The pictures that latents stand for, as stage B draws them.

        Raises:
            WeightsError: when the folder has no stage B.
        """
        if self._stage_b is None:
            self._stage_b = StageB.load(self._parts, self._device)
        return torch.stack([self._stage_b(row) for row in latents])


def digests(parts: Mapping[str, Part]) -> dict[str, str]:
    """SHA-256 of each part, under the same names for both kinds of folder.

    What makes latents of pictures counts as the autoencoder, although it is one file.
    """
    own = _stage_c(parts)
    further = {f"stage b {n}": part for n, part in parts.items() if part not in own.values()}
    file = _effnet(parts)
    made = digest_file(file) if file.is_file() else None
    return {
        **{name: part.digest for name, part in {**own, **further}.items()},
        "vae": digest_json({FILE: made}),
    }


def _stage_c(parts: Mapping[str, Part]) -> dict[str, Part]:
    """The parts of stage C under their plain names, from either kind of folder."""
    return {name: parts.get(f"prior_{name}") or parts[name] for name in PARTS}


def _effnet(parts: Mapping[str, Part]) -> Path:
    """Where the file of the encoder belongs: beside the parts."""
    return _stage_c(parts)["prior"].folder.parent / FILE


def _encoder(encoder: Part, tokenizer: Part, device: torch.device) -> TextEncoder:
    """A text encoder that is told which tokens are padding, as both pipelines do."""
    return TextEncoder.load(CLIPTextModelWithProjection, encoder, tokenizer, device, masked=True)


def _network() -> type[nn.Module]:
    return StableCascadeUNet


PRIOR = Family(
    kind="cascade",
    parts=PARTS,
    inputs=Heard.by,
    text=PooledText.load,
    rules={},
    unread={
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        MULTIPLE: PIXELS,
    },
    network="prior",
    network_class=_network,
    called=("sample", "timestep_ratio"),
    path=cosine_path,
    times=cosine_times,
    geometry=Coarse.of,
    coder=Stages,
    digests=digests,
    beside=(FILE,),
)
COMBINED = replace(
    PRIOR,
    parts=COMBINED_PARTS,
    unread={"prior_feature_extractor": [None, None], "prior_image_encoder": [None, None]},
    network="prior_prior",
    scheduler="prior_scheduler",
)
