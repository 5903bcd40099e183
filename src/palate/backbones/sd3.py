"""Stable Diffusion 3 and 3.5: a transformer on the straight path of rectified flow.

What the network is told of a prompt (Esser et al., 2024, arXiv:2403.03206, section 4): the layer
before the last of two CLIP encoders, side by side; after these tokens those of T5; and one vector
of both CLIP encoders' pooled answers. It predicts the flow ε − x₀, and its time is the share of
noise in thousandths.

Read next: `latent.py`, what all families share; `schedule.py`, the straight path.
"""

from collections.abc import Callable, Mapping
from typing import Any, final

from diffusers import SD3Transformer2DModel
from torch import Tensor

from palate.backbones.backbone import Condition
from palate.backbones.folder import ABSENT, Part
from palate.backbones.latent import Family
from palate.backbones.patches import Patches
from palate.backbones.schedule import FLOW_SCHEDULERS, flow_path, flow_times
from palate.backbones.sd3_text import ThreeTexts
from palate.backbones.sizes import configured, sizes_of
from palate.core.problems import WeightsError, require
from palate.core.streams import Streams

PARTS = {
    "transformer": ("SD3Transformer2DModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModelWithProjection",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "text_encoder_3": ("T5EncoderModel", ABSENT),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_3": ("T5Tokenizer", "T5TokenizerFast", ABSENT),
    "scheduler": FLOW_SCHEDULERS,
}


@final
class Joint:
    """The text and its pooled vector, as the transformer hears them; sizes it was not taught.

    Args:
        text: Width of one token's vector.
        pooled: Width of the pooled vector.
    """

    def __init__(self, *, text: int, pooled: int) -> None:
        self.text, self.pooled = text, pooled

    @classmethod
    def by(cls, transformer: Part) -> "Joint":
        """What a folder's network hears.

        Raises:
            WeightsError: when it sees more than noisy latents, or does not say how wide they are.
        """
        names = ("in_channels", "joint_attention_dim", "pooled_projection_dim")
        sizes = sizes_of(transformer, SD3Transformer2DModel, *names)
        given = configured(transformer, SD3Transformer2DModel, "out_channels")
        require(
            given in (None, sizes["in_channels"]),
            got=f"{transformer.folder}: in_channels {sizes['in_channels']}, out_channels {given}",
            need="a network that sees noisy latents and nothing else",
            fix="Use a text-to-image model; those for editing see more.",
            kind=WeightsError,
        )
        return cls(text=sizes["joint_attention_dim"], pooled=sizes["pooled_projection_dim"])

    def __call__(self, condition: Condition, height: int, width: int) -> Mapping[str, Any]:
        """Text and pooled vector; the size in pixels is in the latents already."""
        del height, width
        return {
            "encoder_hidden_states": condition.tensors["text"],
            "pooled_projections": condition.tensors["pooled"],
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


def _times(scheduler: Part) -> Callable[[Tensor], Tensor]:
    """The network's own time for indices into the path."""
    times = flow_times(scheduler)
    return lambda level: times.to(level.device)[level]


def _transformer() -> type[SD3Transformer2DModel]:
    return SD3Transformer2DModel


FAMILY = Family(
    kind="sd3",
    parts=PARTS,
    inputs=Joint.by,
    text=ThreeTexts.load,
    rules={},
    unread={"feature_extractor": [None, None], "image_encoder": [None, None]},
    network="transformer",
    network_class=_transformer,
    called=("hidden_states", "timestep"),
    path=flow_path,
    times=_times,
    geometry=Patches.of,
)
