"""A reward model that reads noisy latents: the diffusion model's own encoder, taught to judge.

A denoising network has to understand noisy latents to do its work. Its downward half is kept: the
output of each stage (before it is made smaller) and of the middle block, averaged over space, go
through one linear layer; the score is exp(s) times the cosine with the prompt's end-of-text
embedding. The middle block's feature is guided, without + 7.5 · (given - without), so the prompt
counts. Neither a predicted picture nor the autoencoder is needed, and every level can be judged
(LPO's latent reward model: Zhang et al., 2025, arXiv:2502.01051, section 3 and code).

The authors take the text projection from the CLIP model whose text encoder Stable Diffusion uses;
a pipeline folder does not hold it, so it starts as the identity unless such a folder is named. The
second text encoder of Stable Diffusion XL brings its own.

Read next: `latent_network.py`, what learns; `latent_text.py`, what it hears of prompts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Float64
from torch import Tensor, nn

from palate.core.files import load_weights, read_json
from palate.core.hub import fetch
from palate.core.problems import DataError, WeightsError, require
from palate.scorers.latent_network import Network
from palate.scorers.latent_text import OneText, Texts, TwoTexts
from palate.scorers.learned import (
    ScorerFolder,
    identity_of,
    in_batches,
    refusing,
    write_folder,
)
from palate.scorers.stepwise import Latents, Pictures, Reads, latents

GUIDANCE = 7.5
_ARITHMETIC = 1
_UNET, _VAE, _OWN = "unet", "vae", ("guidance", "unet", "factor")
_PROJECTION = "text_projection.weight"
# What a network adds to its time, by its configuration's word for it, and who says it.
_TEXTS: Mapping[str | None, type[OneText] | type[TwoTexts]] = {None: OneText, "text_time": TwoTexts}
# Other things that a network may be told of, which nobody tells it here.
_UNTOLD = ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


@final
class LatentReward:
    """A step-aware scorer of noisy latents. Made by `from_pipeline` or `open_scorer`."""

    kind: str = "latent"
    reads: Reads = "latents"

    def __init__(
        self,
        *,
        name: str,
        network: Network,
        texts: Texts,
        settings: Mapping[str, Any],
        batch: int = 32,
    ) -> None:
        self.name, self.network = name, network
        self._texts, self._told, self._batch = texts, dict(settings), batch

    @classmethod
    def from_pipeline(
        cls,
        model: str | Path,
        *,
        projection: str | Path | None = None,
        guidance: float = GUIDANCE,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> "LatentReward":
        """Start from a Stable Diffusion 1.x, 2.x or XL folder in diffusers' layout, or its Hub id.

        Args:
            model: The folder or id.
            projection: A CLIP folder or id whose text projection is taken, as the authors do;
                for an XL folder there is none to take.
            guidance: Strength of the middle feature's guidance; 1 is without.
            device: Where it computes, in float32.
            batch: Latents in memory at once.

        Raises:
            WeightsError: when a part is missing, or the UNet asks for more than it is told.
        """
        wanted = [f"{part}/*" for part in (_UNET, *TwoTexts.parts)]
        wanted += [f"{_VAE}/config.json", "model_index.json"]
        folder = fetch(model, files=wanted, without=["*.bin", "*fp16*"])
        texts_of = _texts_of(folder)
        with refusing(folder):
            unet: Any = UNet2DConditionModel.from_pretrained(
                folder / _UNET, use_safetensors=True, local_files_only=True
            )
            texts = texts_of.open(folder)
        settings = {
            "guidance": guidance,
            "unet": {k: v for k, v in dict(unet.config).items() if not k.startswith("_")},
            **({"factor": _factor(folder)} if unet.config.addition_embed_type else {}),
        }
        network = _build(unet.float(), texts, settings)
        if projection is not None:
            _take_projection(network, Path(fetch(projection, files=["model.safetensors"])))
        return cls(
            name=f"{folder.name} latent reward",
            network=network.requires_grad_(False).eval().to(device),
            texts=texts,
            settings=settings,
            batch=batch,
        )

    @classmethod
    def restore(
        cls, found: ScorerFolder, *, device: str | torch.device = "cpu", batch: int = 32
    ) -> "LatentReward":
        """Build the scorer that a folder holds. Called by `open_scorer`."""
        with refusing(found.path):
            settings = {k: v for k, v in found.settings.items() if k in _OWN}
            unet: Any = UNet2DConditionModel.from_config(settings["unet"])
            kind = _TEXTS[unet.config.addition_embed_type]
            texts = kind.restore(found.settings, found.path)
            network = _build(unet, texts, settings)
        found.fill(network)
        return cls(
            name=found.path.name,
            network=network.requires_grad_(False).eval().to(device),
            texts=texts,
            settings=settings,
            batch=batch,
        )

    @property
    def identity(self) -> str:
        """Digest of weights, settings, tokenizer and arithmetic, as they are now."""
        words = self._texts.tokenizers().values()
        return identity_of(self.kind, _ARITHMETIC, self._settings(), self.network, *words)

    def judge(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float[Tensor, " n"]:
        """The scores of one batch, float64, with their gradient.

        Raises:
            DataError: when the three differ in number, or what is seen are no latents of its UNet.
        """
        noisy = self._fitting(latents(seen, prompts, level))
        device = self.network.logit_scale.device
        unique = list(dict.fromkeys(["", *prompts]))
        place = {prompt: row for row, prompt in enumerate(unique)}
        return self.network(
            noisy.to(device, torch.float32),
            torch.tensor(list(level), device=device),
            self._texts(unique, device),
            torch.tensor([place[prompt] for prompt in prompts], device=device),
        )

    def score_steps(
        self, seen: Pictures | Latents, prompts: Sequence[str], level: Sequence[int]
    ) -> Float64[np.ndarray, " n"]:
        """The reward of each noisy latent with its prompt, at its level.

        Raises:
            DataError: when the three differ in number, or what is seen are no latents of its UNet.
        """
        self._fitting(latents(seen, prompts, level))
        return in_batches(self.judge, seen, prompts, level, self._batch)

    def _fitting(self, noisy: Latents) -> Latents:
        """Latents, once it is sure that they have the channels of the scorer's own model."""
        channels = self.network.conv_in.in_channels
        require(
            noisy.shape[1] == channels,
            got=f"latents of {noisy.shape[1]} channels for a scorer made from a UNet of {channels}",
            need="latents of the model that the scorer was made from",
            fix="Let a scorer of pictures judge, such as steps:FOLDER or pickscore.",
            kind=DataError,
        )
        return noisy

    def write(self, folder: Path) -> None:
        """Write config, weights and tokenizers into a folder that exists."""
        write_folder(folder, self.kind, self._settings(), self.network)
        for name, words in self._texts.tokenizers().items():
            words.save_pretrained(folder / name)

    def _settings(self) -> dict[str, Any]:
        return {**self._told, **self._texts.settings()}


def _build(unet: Any, texts: Texts, settings: Mapping[str, Any]) -> Network:
    return Network(unet, texts, float(settings["guidance"]), int(settings.get("factor", 1)))


def _texts_of(folder: Path) -> type[OneText] | type[TwoTexts]:
    """Who reads prompts for a folder's UNet.

    Raises:
        WeightsError: when the UNet asks for more, or a part is missing.
    """
    _require_parts(folder, (_UNET, *OneText.parts))
    config = read_json(folder / _UNET / "config.json")
    kind = config.get("addition_embed_type")
    asked = [name for name in _UNTOLD if config.get(name) is not None]
    asked += [] if kind in _TEXTS else [f"addition_embed_type {kind}"]
    require(
        not asked,
        got=f"{folder}: a UNet with {', '.join(asked)}",
        need="a UNet that is conditioned on time and text, and at most on sizes",
        fix="Use a folder of Stable Diffusion 1.x, 2.x or XL; not of a refiner or an LCM.",
        kind=WeightsError,
    )
    found = _TEXTS[kind]
    _require_parts(folder, (*found.parts, *((_VAE,) if found is TwoTexts else ())))
    return found


def _require_parts(folder: Path, parts: Sequence[str]) -> None:
    missing = [name for name in parts if not (folder / name).is_dir()]
    require(
        not missing,
        got=f"{folder} without {', '.join(missing)}",
        need=f"a Stable Diffusion folder with {', '.join(parts)}",
        fix="Give the folder that diffusers' save_pretrained wrote.",
        kind=WeightsError,
    )


def _factor(folder: Path) -> int:
    """Pixels per latent: the autoencoder halves once between its levels."""
    levels = read_json(folder / _VAE / "config.json").get("block_out_channels", ())
    return 2 ** (len(levels) - 1)


def _take_projection(network: Network, folder: Path) -> None:
    """Start from the text projection of a CLIP model."""
    layer = network.project_text
    if not isinstance(layer, nn.Linear):
        raise WeightsError(
            got=f"a text projection from {folder} for a folder of Stable Diffusion XL",
            need="none: its second text encoder brings its own",
            fix="Leave it out.",
        )
    found = load_weights(folder / "model.safetensors").get(_PROJECTION)
    want = tuple(layer.weight.shape)
    require(
        found is not None and tuple(found.shape) == want,
        got=f"{folder}: {_PROJECTION} {'missing' if found is None else list(found.shape)}",
        need=f"a CLIP model with a text projection of shape {list(want)}",
        fix="Use the CLIP model whose text encoder this is, or none.",
        kind=WeightsError,
    )
    if found is not None:
        layer.weight.data.copy_(found)
