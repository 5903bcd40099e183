r"""Whether a model puts pictures in the order their judge did, when told who that was.

$$\text{margin} = g(x^+, u) - g(x^-, u), \qquad
g(x, u) = \lVert\epsilon-\epsilon_\text{ref}(x_t)\rVert^2 -
\lVert\epsilon-\epsilon_\theta(x_t, u)\rVert^2$$

The margin is how much more the model has learned to denoise the chosen picture than the rejected
one (`palate/train/denoise.py`). It asks nothing but held-out pairs: no taste need be known, and no
picture is drawn, so it works on people. A pair counts as ordered where the mean margin over fixed
draws of noise is above 0.

With nobody's embedding a personal model is its own reference: every margin is 0, and ½ of the
pairs are ordered, whatever was learned. With another user's embedding it orders as many as that
which everybody agrees on allows. What one's own embedding adds to that is personal.

Each pair is shown the embeddings of a few other users, keyed by the pair, and the mean over them
counts. The unit is the user, as the one whose pairs are asked about. That a stranger's embedding
stands among several users' answers is not in the interval, unlike in `crossed.py`, where everybody
is shown everybody's: it speaks of other judges beside these strangers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from palate.backbones.backbone import Backbone
from palate.core.problems import DataError, require
from palate.core.stats import Estimate, cluster_share, outcomes
from palate.core.streams import Streams
from palate.data.pairs import Pair
from palate.evaluate.shares import mean_of
from palate.objectives import Needs
from palate.train.batch import Batch, Batches
from palate.train.cache import Cache
from palate.train.denoise import denoise
from palate.train.groups import NoiseSettings, Pictures
from palate.train.noise import Fixed

Array = NDArray[np.float64]
Embedding = Callable[[Pair], Float[Tensor, " tokens width"]]
Told = Callable[[int, int], None]
DRAWS: Final = 8
OTHERS: Final = 2
AT_ONCE: Final = 16
STILL: Final = Pictures(latents="mean")
_LEVELS: Final = NoiseSettings()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How often pairs are ordered as their judge did, users as the unit.

    Attributes:
        own: With the judge's embedding.
        shuffled: With other users' embeddings.
        own_minus_shuffled: The difference.
        pooled: By a model without users that learned from everybody's pairs; None without one.
        own_minus_pooled: The difference.
        pairs: How many pairs were asked about.
        left_out: Pairs whose pictures or prompt could not be used.
    """

    own: Estimate
    shuffled: Estimate
    own_minus_shuffled: Estimate
    pooled: Estimate | None
    own_minus_pooled: Estimate | None
    pairs: int
    left_out: int

    nobody: ClassVar[float] = 0.5

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        named = {
            "own": self.own,
            "shuffled": self.shuffled,
            "own_minus_shuffled": self.own_minus_shuffled,
            "pooled": self.pooled,
            "own_minus_pooled": self.own_minus_pooled,
        }
        told = {name: None if one is None else one.asdict() for name, one in named.items()}
        return {**told, "nobody": self.nobody, "pairs": self.pairs, "left_out": self.left_out}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read it back."""
        given: dict[str, Any] = {
            name: Estimate.from_json(value) if isinstance(value, dict) else value
            for name, value in values.items()
            if name != "nobody"
        }
        return cls(**given)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Margins:
    """What pairs are asked, the same for every model and embedding.

    Attributes:
        cache: Latents and prompt embeddings of the pairs, filled.
        pictures: How pictures became latents; nothing is drawn of it here.
        noise: The levels of noise to ask at.
        draws: Levels and noises per pair, spread evenly.
        seed: Names the noise.
    """

    cache: Cache
    pictures: Pictures = STILL
    noise: NoiseSettings = _LEVELS
    draws: int = DRAWS
    seed: int = 0

    def __call__(
        self,
        backbone: Backbone,
        pairs: Sequence[Pair],
        users: Sequence[Float[Tensor, " tokens width"]] | None = None,
    ) -> Float[np.ndarray, " n"]:
        """The mean margin of each pair with the user it is asked for; None asks without users."""
        means = [
            torch.stack(list(self._margins(backbone, batch))).double().mean(dim=0)
            for batch in self._batches(pairs, users)
        ]
        return torch.cat(means).cpu().numpy()

    def _batches(self, pairs: Sequence[Pair], users: Sequence[Tensor] | None) -> Iterator[Batch]:
        batches = Batches(cache=self.cache, pictures=self.pictures, streams=Streams(self.seed))
        for start in range(0, len(pairs), AT_ONCE):
            batch = batches.plain(pairs[start : start + AT_ONCE])
            if users is not None:
                heard = torch.stack(list(users[start : start + AT_ONCE]))
                chosen, rejected = batch.conditions
                conditions = (chosen.with_user(heard), rejected.with_user(heard))
                batch = replace(batch, conditions=conditions)
            yield batch

    @torch.no_grad()
    def _margins(self, backbone: Backbone, batch: Batch) -> Iterator[Tensor]:
        """The margins of a batch in each draw."""
        for draw in range(self.draws):
            source = Fixed(
                streams=Streams(self.seed),
                path=backbone.path,
                settings=self.noise,
                draw=draw,
                draws=self.draws,
            )
            yield denoise(backbone, batch, source(batch), Needs(reference=True)).margin


def ordering(
    backbone: Backbone,
    pairs: Sequence[Pair],
    whose: Embedding,
    margins: Margins,
    *,
    pooled: Backbone | None = None,
    others: int = OTHERS,
    told: Told | None = None,
) -> Ordering:
    """Ask for the order of held-out pairs with the judge's own and with others' embeddings.

    Args:
        backbone: The model that listens to users, with its reference.
        pairs: Strict pairs of at least two judges, which nothing was learned from.
        whose: A pair's judge as an embedding, made without that pair.
        margins: What is asked; its cache is filled with these pairs.
        pooled: A model of the same reference trained without users.
        others: How many other users' embeddings each pair is shown.
        told: Told (rounds done, rounds in all).

    Raises:
        DataError: when there are not two judges with usable pairs.
    """
    asked = [pair for pair in pairs if margins.cache.refusal(pair, margins.pictures) is None]
    judges = [pair.judge for pair in asked]
    require(
        len(set(judges)) >= 2 and others >= 1,
        got=f"{len(asked)} usable pairs of {len(set(judges))} judges, {others} others",
        need="pairs of at least two judges, and at least one other to shuffle with",
        fix="Take more people's held-out pairs.",
        kind=DataError,
    )
    rounds = 1 + others + (pooled is not None)

    def ordered(model: Backbone, users: Sequence[Tensor] | None, done: int) -> Array:
        found = outcomes(margins(model, asked, users), np.zeros(len(asked)))
        if told is not None:
            told(done, rounds)
        return found

    own = ordered(backbone, [whose(pair) for pair in asked], 1)
    swapped = [
        ordered(backbone, [whose(asked[at]) for at in strangers], 2 + turn)
        for turn, strangers in enumerate(_strangers(asked, others, margins.seed))
    ]
    shuffled = np.mean(swapped, axis=0)
    alone = None if pooled is None else ordered(pooled, None, rounds)
    return Ordering(
        own=cluster_share(own, judges),
        shuffled=cluster_share(shuffled, judges),
        own_minus_shuffled=mean_of(own - shuffled, judges),
        pooled=None if alone is None else cluster_share(alone, judges),
        own_minus_pooled=None if alone is None else mean_of(own - alone, judges),
        pairs=len(asked),
        left_out=len(pairs) - len(asked),
    )


def _strangers(pairs: Sequence[Pair], others: int, seed: int) -> list[list[int]]:
    """For each round, a pair of somebody else for every pair, keyed by it.

    Somebody else is drawn first and one of their pairs second, so that all others count alike.
    """
    by_user: dict[str, list[int]] = {}
    for at, pair in enumerate(pairs):
        by_user.setdefault(pair.judge, []).append(at)
    users = sorted(by_user)
    rounds: list[list[int]] = [[] for _ in range(others)]
    for pair in pairs:
        stream = Streams(seed)("stranger", pair.id)
        order = [users[at] for at in stream.permutation(len(users)) if users[at] != pair.judge]
        for turn, row in enumerate(rounds):
            theirs = by_user[order[turn % len(order)]]
            row.append(theirs[Streams(seed)("their pair", turn, pair.id).integer(0, len(theirs))])
    return rounds
