"""Whom a personal model is asked about: everyone's embedding, and pairs it was not made of.

People the model was trained with are known by the embeddings that lie beside its weights; anybody
else by a few pairs in a snapshot of examples. What they are asked about lies in another snapshot.

Read next: `ordering.py`, which asks about pairs; `crossed.py`, which draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from palate.core.problems import DataError, require
from palate.data.examples import examples_for
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import usable
from palate.train.embedding import examples_of
from palate.train.finder import Finder


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """Whom a model is asked about.

    Attributes:
        embeddings: Everyone's, by name.
        pairs: Their pairs to ask about.
        known: Pairs left out because an embedding was made of them, or of the same two pictures.
        strangers: Users left out because nothing is known of them.
        trained: Whom the model was trained with, however their embedding was made.
    """

    embeddings: Mapping[str, Float[Tensor, "tokens width"]]
    pairs: tuple[Pair, ...]
    known: int
    strangers: int
    trained: frozenset[str]

    def of(self, pair: Pair) -> Float[Tensor, "tokens width"]:
        """The embedding of a pair's judge."""
        return self.embeddings[pair.judge]


def asked_of(find: Finder, data: PreferencePairs, examples: PreferencePairs | None) -> Asked:
    """Everyone who has pairs to ask about, and is known.

    Args:
        find: The run's people, and the encoder it was trained with.
        data: What to ask about.
        examples: A few pairs of everyone; None for the people the run was trained with.

    Raises:
        DataError: when nobody in the data is known.
        SettingError, WeightsError: when the run's encoder cannot be opened.
    """
    everybody = usable(data).pairs
    if examples is None:
        embeddings = {name: find.known[name] for name in everybody if name in find.known}
        made_of: set[frozenset[str]] = set()
    else:
        embeddings, made_of = _embedded(find, examples, set(everybody))
    require(
        bool(embeddings),
        got=f"{data.snapshot} with {len(everybody):,} users, of whom nobody is known",
        need="users the run was trained with, or a few pairs of each of them as examples",
        fix="Add for example --examples my-people/examples",
        kind=DataError,
    )
    mine = [pair for name in embeddings for pair in everybody[name]]
    pairs = [pair for pair in mine if frozenset((pair.chosen, pair.rejected)) not in made_of]
    judges = {pair.judge for pair in pairs}
    asked = {name: each for name, each in embeddings.items() if name in judges}
    return Asked(
        embeddings=asked,
        pairs=tuple(pairs),
        known=len(mine) - len(pairs),
        strangers=len(everybody) - len(embeddings),
        trained=frozenset(name for name in asked if name in find.known),
    )


def _embedded(
    find: Finder, examples: PreferencePairs, wanted: set[str]
) -> tuple[dict[str, Tensor], set[frozenset[str]]]:
    """Embeddings of wanted people by their examples, and the pictures these are made of."""
    chosen = {
        name: examples_for(mine, count=find.examples, subsets=1, seed=0, user=name)[0]
        for name, mine in usable(examples).pairs.items()
        if name in wanted
    }
    encoder = find.encoder()
    embeddings = {
        name: encoder.embed([examples_of(examples, mine)])[0] for name, mine in chosen.items()
    }
    shown = {frozenset((each.chosen, each.rejected)) for mine in chosen.values() for each in mine}
    return embeddings, shown
