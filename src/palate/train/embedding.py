"""A person as a model knows them: a user embedding, who made it, and of which pairs.

It is made once of a handful of a person's own pairs and kept in a small safetensors file, which
draws for that person on any machine without the pairs and without what made it.

Read next: `finder.py`, which finds one by the words of a command line.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from palate.core.files import load_weights, read_about, save_weights
from palate.core.problems import DataError, WeightsError, require
from palate.data.examples import examples_for
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import UserFacts, named_user, survey, usable
from palate.scorers.users import Example, UserEncoder

SUFFIX = ".safetensors"
_TENSOR = "user"
_SINGLE = "known by a single pair, which says little"
# How many users a message lists.
_LISTED = 6


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UserEmbedding:
    """A person, as an encoder wrote them down.

    Attributes:
        embedding: float32 [tokens, width]; a token that is all zeros is absent.
        user: Who it is.
        identity: Digest of everything that the encoder's numbers depend on.
        examples: The pairs it was made of, by id; empty where they are not known.
        encoder: What the encoder says of itself.
        notes: What is unusual about how it was made, a sentence each.
    """

    embedding: Float[Tensor, "tokens width"]
    user: str
    identity: str
    examples: tuple[str, ...] = ()
    encoder: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write it as one safetensors file.

        Raises:
            SettingError: when the name does not end in .safetensors.
            StateError: when the disk refuses.
        """
        require(
            path.suffix == SUFFIX,
            got=f"a user embedding called {path}",
            need=f"a name that ends in {SUFFIX}",
            fix=f"Write for example {path.with_suffix(SUFFIX)}",
        )
        about = {
            "encoder": dict(self.encoder),
            "identity": self.identity,
            "user": self.user,
            "examples": list(self.examples),
        }
        save_weights(path, {_TENSOR: self.embedding.float()}, about)

    @classmethod
    def read(cls, path: Path) -> "UserEmbedding":
        """Read a file that `save` wrote.

        Raises:
            WeightsError: when it is none.
        """
        tensors, about = load_weights(path), read_about(path)
        found = tensors.get(_TENSOR)
        require(
            set(tensors) == {_TENSOR} and found is not None and found.ndim == 2
            and found.is_floating_point() and isinstance(about.get("identity"), str),
            got=f"{path}, which is no user embedding",
            need=f"one tensor {_TENSOR!r} of [tokens, width], and who made it",
            fix="Make one with: palate users embed SNAPSHOT --weights RUN --out FILE.safetensors",
            kind=WeightsError,
        )  # fmt: skip
        examples = tuple(str(each) for each in about.get("examples", ()))
        return cls(
            embedding=tensors[_TENSOR].float(),
            user=str(about.get("user", path.stem)),
            identity=str(about["identity"]),
            examples=examples,
            encoder=dict(about.get("encoder", {})),
            notes=(_SINGLE,) if len(examples) == 1 else (),
        )


def embedding_of(
    encoder: UserEncoder, snapshot: Path, *, user: str | None, count: int
) -> UserEmbedding:
    """What an encoder makes of a person's pairs in a snapshot.

    Of a person with more pairs than are wanted, the same ones are drawn every time.

    Args:
        encoder: Who makes embeddings.
        snapshot: A frozen snapshot.
        user: Whose pairs, by the whole name or by what follows its last `/`; None where the
            snapshot has only one person.
        count: Pairs to make it of, at most.

    Raises:
        DataError: when no pair of that person's says what they prefer.
        SettingError: when there is no such person, or there are several and none is named.
    """
    pairs = PreferencePairs.open(snapshot)
    facts = _person(pairs, user)
    mine = usable(pairs).pairs[facts.user]
    chosen = examples_for(mine, count=count, subsets=1, seed=0, user=facts.user)[0]
    made = encoder.embed([examples_of(pairs, chosen)])[0]
    return UserEmbedding(
        embedding=made.detach().float().cpu(),
        user=facts.user,
        identity=encoder.identity,
        examples=tuple(pair.id for pair in chosen),
        encoder=dict(encoder.about),
        notes=tuple(_notes(facts, len(chosen), empty=not bool(made.any()))),
    )


def _person(pairs: PreferencePairs, user: str | None) -> UserFacts:
    """The one who is meant, if anything can be learned of them."""
    everybody = survey(pairs)
    found = {facts.user: facts for facts in everybody.facts}
    # One person alone, of whom nothing can be learned, is told so by name.
    known = everybody.pairs if user is not None or len(found) == 1 else usable(pairs).pairs
    if user is None and len(found) == 1:
        user = next(iter(found))
    if user is None:
        require(
            len(known) == 1,
            got=f"{pairs.snapshot} with {len(known):,} users: {listed(known)}",
            need="a snapshot of one person's pairs, or the name of one of them",
            fix=f"Write for example {pairs.snapshot}@{next(iter(known))}",
        )
        return found[next(iter(known))]
    facts = found[named_user(user, found)]
    require(
        facts.user in known,
        got=f"{facts.user} in {pairs.snapshot}, with {_counts(facts)} and nothing else",
        need="pairs in which they preferred one of two pictures, and not the other one as well",
        fix="Have them choose between some more pictures.",
        kind=DataError,
    )
    return facts


def _counts(facts: UserFacts) -> str:
    """What of a person's judgements says nothing."""
    counts = {"ties": facts.ties, "contradictory pairs": facts.contradictory}
    return " and ".join(f"{many:,} {what}" for what, many in counts.items() if many)


def _notes(facts: UserFacts, made_of: int, *, empty: bool) -> Iterator[str]:
    """What is unusual about an embedding, a sentence each."""
    if empty:
        yield "nothing can be told from these pictures, and the base model is drawn"
    if made_of == 1:
        yield _SINGLE
    if facts.different > made_of:
        yield f"{made_of} of {facts.different:,} pairs are used, drawn once and for all"
    if facts.contradictory:
        yield f"{facts.contradictory:,} pairs that contradict each other are left out"


def listed(names: Collection[str]) -> str:
    """The first names, and dots where there are more."""
    return ", ".join([*list(names)[:_LISTED], *(["…"] if len(names) > _LISTED else [])])


def examples_of(pairs: PreferencePairs, chosen: Sequence[Pair]) -> list[Example]:
    """Pairs with their pictures, as encoders take them."""
    return [
        Example(
            prompt=pair.prompt,
            chosen=pairs.image(pair.chosen),
            rejected=pairs.image(pair.rejected),
        )
        for pair in chosen
    ]
