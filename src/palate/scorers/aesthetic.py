"""The aesthetic scorers of LAION: a small head on what CLIP sees, whatever the prompt.

A picture's embedding by CLIP ViT-L/14, brought to length one, goes through linear layers with
nothing between them; the result estimates the mark from 1 to 10 that people would give. Two heads
are known by their checkpoints' own names:

- five layers, `layers.0.weight` to `layers.7.bias` (the improved aesthetic predictor,
  `sac+logos+ava1-l14-linearMSE.pth`). The numbers between belong to its dropout, which only
  training has.
- one layer, `weight` and `bias` (the older one, `sa_0_4_vit_l_14_linear.pth`).

A head with activations between its layers (`…reluMSE.pth`) numbers them otherwise and is refused.
Pictures are prepared as OpenAI's CLIP prepares them: Pillow's bicubic resize, middle square. The
authors compute CLIP in half precision on a GPU; here everything is float32, the head float64.

Read next: `scorer.py`, the protocol.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from palate.core.files import load_weights, save_weights, write_json
from palate.core.problems import WeightsError, require
from palate.scorers.clip_folder import CONFIG, WEIGHTS, expected_of, load_named, weights_of
from palate.scorers.kept import identity_of, open_kept
from palate.scorers.open_clip import check_shapes
from palate.scorers.squares import in_batches, squares

KIND = "aesthetic"
HEAD = "head.safetensors"
_LAYERS = (tuple(f"layers.{place}." for place in (0, 2, 4, 6, 7)), ("",))
_ARITHMETIC = 1


@final
class AestheticScorer:
    """How beautiful people would find a picture. Opened from a folder; see `open`."""

    def __init__(
        self, *, name: str, identity: str, network: Any, head: Mapping[str, Tensor], batch: int
    ) -> None:
        self.name, self.identity = name, identity
        self._network, self._batch = network, batch
        self._device = next(network.parameters()).device
        self._head = [
            (weight.to(self._device).double(), bias.to(self._device).double())
            for weight, bias in layers_of(head)
        ]
        self._side = network.config.image_size

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        name: str | None = None,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> "AestheticScorer":
        """Open a folder that `palate scorer convert --kind aesthetic` wrote.

        Args:
            model: The folder, or `owner/name`, or `owner/name@revision`.
            name: What reports call it; the folder's name when left out.
            device: Where it computes.
            batch: Pictures in memory at once. It does not change the scores.

        Raises:
            WeightsError: when it is no such folder, or is not as it was written.
        """
        from transformers import CLIPVisionModelWithProjection

        folder = open_kept(model, KIND)
        network = load_named(CLIPVisionModelWithProjection, folder, "clip_vision_model")
        head = load_weights(folder / HEAD)
        check_head(head, network.config.projection_dim)
        return cls(
            name=name or folder.name,
            identity=identity_of(folder, KIND, _ARITHMETIC),
            network=network.to(device),
            head=head,
            batch=batch,
        )

    def score(
        self, images: Sequence[UInt8[np.ndarray, " _ _ 3"]], prompts: Sequence[str]
    ) -> Float64[np.ndarray, " n"]:
        """One mark for each picture, about 1 to 10; the prompts say nothing.

        Raises:
            DataError: when pictures and prompts differ in number, or a picture in form.
        """
        return in_batches(self._rows, images, prompts, self._batch)

    @torch.no_grad()
    def _rows(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """The marks of one batch."""
        del prompts
        pixels = squares(images, self._side).to(self._device)
        seen = self._network(pixel_values=pixels).image_embeds.double()
        seen = seen / seen.norm(dim=1, keepdim=True)
        for weight, bias in self._head:
            seen = seen @ weight.T + bias
        return seen[:, 0].cpu().numpy()


def layers_of(head: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, in order.

    Raises:
        WeightsError: when the names are not those of a head that is known.
    """
    for starts in _LAYERS:
        if set(head) == {f"{start}{end}" for start in starts for end in ("weight", "bias")}:
            return [(head[f"{start}weight"], head[f"{start}bias"]) for start in starts]
    names = sorted(head)
    raise WeightsError(
        got=f"a head of {len(names)} tensors: {', '.join(names[:6])}",
        need="layers.0, 2, 4, 6 and 7 with weight and bias, or one weight and bias",
        fix="Use an aesthetic head without activations, such as sac+logos+ava1-l14-linearMSE.pth.",
    )


def check_head(head: Mapping[str, Tensor], width: int) -> None:
    """Make sure that a head fits what CLIP sees, layer by layer, and ends in one number.

    Raises:
        WeightsError: when a name or a shape is wrong.
    """
    inside = width
    for place, (weight, bias) in enumerate(layers_of(head)):
        shape = tuple(weight.shape)
        require(
            len(shape) == 2 and shape[1] == inside and tuple(bias.shape) == shape[:1],
            got=f"layer {place} of the head, {shape} and {tuple(bias.shape)}",
            need=f"a layer that takes {inside} numbers",
            fix="Give --base the CLIP model that the head was taught on; most take ViT-L/14's 768.",
            kind=WeightsError,
        )
        inside = shape[0]
    require(
        inside == 1,
        got=f"a head that ends in {inside} numbers",
        need="one number, the mark",
        fix="Use the checkpoint as its authors published it.",
        kind=WeightsError,
    )


def write_aesthetic(head: Mapping[str, Tensor], base: Path, folder: Path) -> tuple[int, int]:
    """Write the head and the half of CLIP that sees into a folder that exists.

    Args:
        head: In the checkpoint's own names.
        base: The folder of the CLIP model that the head was taught on, in safetensors.
        folder: Where to.

    Returns:
        How many of CLIP's tensors were written, and how many left out.

    Raises:
        WeightsError: when the head or the model cannot be used, or do not fit.
    """
    config, expected = expected_of(base, only_sees=True)
    check_head(head, config["projection_dim"])
    clip: dict[str, Tensor] = {}
    for path in weights_of(base):
        clip |= load_weights(path)
    sees = {name: tensor for name, tensor in clip.items() if name in expected}
    check_shapes(sees, expected)
    write_json(folder / CONFIG, config)
    save_weights(folder / WEIGHTS, sees)
    save_weights(folder / HEAD, head)
    return len(sees), len(clip) - len(sees)
