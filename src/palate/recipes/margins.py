"""How well a model denoises the two pictures of a pair, at fixed levels and with fixed noise.

A draw of noise depends on the prompt and the two pictures, never on who was preferred: labels can
be changed, and nothing is computed again. Both pictures get the same noise. Errors are kept on a
rack, pair by pair, so that an interrupted call goes on where it stopped.

Read next: `doubts.py`, what two models' errors say of a label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from palate.backbones import Backbone
from palate.backbones.folder import network_of
from palate.core.contrast import mean_square
from palate.core.files import digest_json
from palate.core.streams import Streams
from palate.data.pairs import Pair, PreferencePairs
from palate.train.batch import Batches
from palate.train.cache import Cache, latent_factors, prompt_factors
from palate.train.groups import NoiseSettings, Pictures
from palate.train.noise import Fixed
from palate.train.rack import ROWS_PER_SHARD, Rack

DRAWS: Final = 8
# Every call has exactly so many pairs, the last ones repeated (see `train/cache.py`); fewer where
# a run's own settings say that more do not fit.
AT_ONCE: Final = 32
SEED: Final = 0
# Raise it when errors are computed differently: it is part of every key.
PREPARATION: Final = 1
Progress = Callable[[str, int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Desk:
    """Where models are asked about pairs.

    Attributes:
        cache: Latents and embeddings of the pairs.
        pictures: How pictures are prepared.
        noise: The part of the levels to use.
        draws: Levels, each with its noise, that every pair is asked at; spread from clean to noisy.
        at_once: Pairs per call of the network.
    """

    cache: Cache
    pictures: Pictures
    noise: NoiseSettings
    draws: int = DRAWS
    at_once: int = AT_ONCE

    def errors(
        self,
        backbone: Backbone,
        pairs: Sequence[Pair],
        room: Path,
        *,
        what: str,
        blank: bool = False,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "n 2 k"]:
        """Mean squared errors of each pair's first and second picture by digest, at each draw.

        Args:
            backbone: Who is asked.
            pairs: The pairs, n of them; their labels are not looked at.
            room: The folder that errors are kept in.
            what: Whose errors these are, for `progress`.
            blank: Ask with the empty prompt.
            progress: Told what is computed, how many pairs are done, and how many there are.
        """
        rack = Rack(room, self._factors(backbone, blank))
        turned = {each.id: each for each in map(by_digest, pairs)}
        if rack.missing(list(turned)):
            with rack.writing(_nobody):
                missing = rack.missing(list(turned))
                for start in range(0, len(missing), ROWS_PER_SHARD):
                    part = [turned[name] for name in missing[start : start + ROWS_PER_SHARD]]
                    rows = self._rows(backbone, part, blank)
                    rack.add([pair.id for pair in part], {"error": rows}, {})
                    if progress is not None:
                        done = len(turned) - len(missing) + start + len(part)
                        progress(what, done, len(turned))
        return rack.rows([by_digest(pair).id for pair in pairs])["error"].numpy()

    @torch.no_grad()
    def _rows(self, backbone: Backbone, pairs: Sequence[Pair], blank: bool) -> Tensor:
        streams = Streams(SEED)
        batches = Batches(cache=self.cache, pictures=self.pictures, streams=streams)
        found: list[Tensor] = []
        for start in range(0, len(pairs), self.at_once):
            few = list(pairs[start : start + self.at_once])
            asked = [*few, *[few[-1]] * (self.at_once - len(few))]
            shown = [replace(pair, prompt="") for pair in asked] if blank else asked
            batch = batches.plain(shown)
            each: list[Tensor] = []
            for draw in range(self.draws):
                source = Fixed(
                    streams=streams, path=backbone.path, settings=self.noise,
                    draw=draw, draws=self.draws,
                )  # fmt: skip
                question = source(batch)
                answers = question.ask(backbone, 2)
                target = torch.cat(question.target).to(answers.device)
                each.append(torch.stack(mean_square(answers, target).split(self.at_once), dim=1))
            found.append(torch.stack(each, dim=2)[: len(few)].double().cpu())
        return torch.cat(found)

    def _factors(self, backbone: Backbone, blank: bool) -> dict[str, Any]:
        """Everything errors depend on besides the pair."""
        return {
            "network": backbone.digests[network_of(backbone.digests)],
            "applied": backbone.applied,
            "precision": backbone.precision,
            "latents": latent_factors(backbone, self.cache.side),
            "prompts": prompt_factors(backbone),
            "scheduler": digest_json(dict(backbone.scheduler_config)),
            "noise": self.noise.model_dump(mode="json"),
            "draws": self.draws,
            "seed": SEED,
            "pairs at once": self.at_once,
            "blank": blank,
            "preparation": PREPARATION,
        }


def open_desk(
    backbone: Backbone,
    pairs: PreferencePairs,
    folder: Path,
    *,
    pictures: Pictures | None = None,
    noise: NoiseSettings | None = None,
    draws: int = DRAWS,
    at_once: int = AT_ONCE,
) -> Desk:
    """A desk for some pairs, with their latents and embeddings computed or found in `folder`."""
    prepared = pictures or Pictures()
    cache = Cache(folder, backbone, prepared.resolution or backbone.resolution)
    still = prepared.model_copy(update={"crop": "center", "flip": False, "latents": "mean"})
    cache.fill(backbone, pairs, still, pairs.image, _nobody)
    return Desk(
        cache=cache,
        pictures=still,
        noise=noise or NoiseSettings(),
        draws=draws,
        at_once=min(at_once, AT_ONCE),
    )


def by_digest(pair: Pair) -> Pair:
    """The pair with its pictures in the order of their digests, named by them and the prompt."""
    first, second = sorted((pair.chosen, pair.rejected))
    name = digest_json([pair.prompt, first, second])
    return replace(pair, id=name, chosen=first, rejected=second)


def model_scores(
    backbone: Backbone,
    pairs: PreferencePairs,
    desk: Desk,
    room: Path,
    *,
    progress: Progress | None = None,
) -> Mapping[str, Mapping[tuple[str, str], float]]:
    """What an untrained model's own errors say of each picture, as scores by level of noise.

    Two for each draw: how well it denoises the picture, and how much its prompt helps. A picture
    that fits its prompt is denoised better with the prompt than without.

    Returns:
        Name of a score → (prompt, picture) → number; a mean where a picture is in several pairs.
    """
    told = desk.errors(backbone, list(pairs), room, what="with prompts", progress=progress)
    bare = desk.errors(
        backbone, list(pairs), room, what="without prompts", blank=True, progress=progress
    )
    found: dict[str, Mapping[tuple[str, str], float]] = {}
    for draw in range(desk.draws):
        numbers = {"denoised": -np.log(told), "prompt helps": np.log(bare) - np.log(told)}
        for name, values in numbers.items():
            found[f"{name}, level {draw + 1} of {desk.draws}"] = _by_picture(
                pairs, values[:, :, draw]
            )
    return found


def _by_picture(
    pairs: Sequence[Pair] | PreferencePairs, values: Float[np.ndarray, "n 2"]
) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], list[float]] = {}
    for pair, two in zip(pairs, values.tolist(), strict=True):
        turned = by_digest(pair)
        for picture, value in zip((turned.chosen, turned.rejected), two, strict=True):
            sums.setdefault((pair.prompt, picture), []).append(value)
    return {name: sum(each) / len(each) for name, each in sums.items()}


def _nobody(_text: str) -> None:
    """Nobody listens."""
