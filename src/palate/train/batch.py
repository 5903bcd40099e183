"""One batch of pairs, ready to be noised. Every draw in it is named, so nothing has to be saved.

A *visit* counts how often a pair has come up: its n-th time through the data. Flip, window,
caption dropout and the latents' own draw depend on (seed, visit, pair), never on the step, the
batch size or on what was drawn before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, Self, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.backbones.backbone import Condition
from palate.core.problems import HealthStop, require
from palate.core.streams import Streams
from palate.data.pairs import Pair
from palate.train.book import Book
from palate.train.cache import MIDDLE, WINDOWS, Cache, View, prompt_name
from palate.train.groups import Pictures


class Rows(Protocol):
    """What one optimizer step learns from, whatever it is: named rows that can be split."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The pairs' ids, one per row."""
        ...

    @property
    def agreement(self) -> Float[Tensor, " b"]:
        """Probability that the chosen side is the preferred one."""
        ...

    @property
    def facts(self) -> Mapping[str, Tensor]:
        """Named numbers that come with the rows, [b] each."""
        ...

    @property
    def weight(self) -> Float[Tensor, " b"] | None:
        """How much each row counts; None means alike."""
        ...

    @property
    def judgements(self) -> int:
        """How many judgements the rows rest on; a row each, unless one judgement labels many."""
        ...

    @property
    def nothing(self) -> str:
        """Why there is nothing to learn from, where there is no row."""
        ...

    def __len__(self) -> int: ...

    def rows(self, index: Sequence[int]) -> Self:
        """The rows of the given numbers."""
        ...

    def parts(self, size: int) -> Sequence[Self]:
        """The rows in pieces of at most `size`; the last may be smaller."""
        ...

    def broken(self) -> dict[str, str]:
        """Ids of rows with values that are not finite, and where."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Pairs as tensors.

    Attributes:
        ids: The pairs' ids.
        visits: How often each has come up before.
        chosen: Latents of the chosen pictures, [b, c, h, w].
        rejected: Latents of the rejected pictures, [b, c, h, w].
        conditions: What the network needs to know of the chosen and of the rejected pictures,
            [b, …]: the same prompts, and each picture's own sizes.
        agreement: Probability that the chosen picture is the preferred one, [b].
        facts: Named numbers that come with the pairs, [b] each.
        weight: How much each pair counts, [b]; None means alike.
    """

    ids: tuple[str, ...]
    visits: tuple[int, ...]
    chosen: Float[Tensor, " b c h w"]
    rejected: Float[Tensor, " b c h w"]
    conditions: tuple[Condition, Condition]
    agreement: Float[Tensor, " b"]
    facts: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    weight: Float[Tensor, " b"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def judgements(self) -> int:
        """One per pair."""
        return len(self)

    @property
    def nothing(self) -> str:
        """Why no pair may be left."""
        return "no pair was finite"

    def rows(self, index: Sequence[int]) -> "Batch":
        """The pairs of the given numbers."""
        chosen = torch.tensor(list(index), dtype=torch.long)
        return Batch(
            ids=tuple(self.ids[i] for i in index),
            visits=tuple(self.visits[i] for i in index),
            chosen=self.chosen[chosen],
            rejected=self.rejected[chosen],
            conditions=(self.conditions[0].rows(chosen), self.conditions[1].rows(chosen)),
            agreement=self.agreement[chosen],
            facts={name: values[chosen] for name, values in self.facts.items()},
            weight=None if self.weight is None else self.weight[chosen],
        )

    def parts(self, size: int) -> list["Batch"]:
        """The batch in pieces of at most `size` pairs; the last may be smaller."""
        if len(self) <= size:
            return [self]
        return [
            self.rows(range(start, min(start + size, len(self))))
            for start in range(0, len(self), size)
        ]

    def broken(self) -> dict[str, str]:
        """Ids of pairs with values that are not finite, and where."""
        found: dict[str, str] = {}
        for i, name in enumerate(self.ids):
            if not bool(
                torch.isfinite(self.chosen[i]).all() & torch.isfinite(self.rejected[i]).all()
            ):
                found[name] = "latents are not finite"
            elif not _finite(self.conditions[0].with_user(None), i):
                found[name] = "prompt embedding is not finite"
            elif not _finite(self.conditions[0], i):
                found[name] = "user embedding is not finite"
            elif not all(bool(torch.isfinite(values[i])) for values in self.facts.values()):
                found[name] = "a number that comes with the pair is not finite"
        return found


def _finite(condition: Condition, row: int) -> bool:
    return all(bool(torch.isfinite(tensor[row]).all()) for tensor in condition.tensors.values())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Makes batches from cached rows.

    Attributes:
        cache: Latents and embeddings.
        pictures: How pictures are looked at.
        streams: The run's random streams.
        caption_dropout: Share of visits on the empty prompt. Nobody draws for somebody without a
            prompt, since guidance drops both together, so that the user is dropped with it.
        book: Whose embedding each pair is learned with; None where nobody's.
        facts: Numbers that come with the pairs: name → pair id → number.

    Raises:
        HealthStop: when captions are dropped and the empty prompt has no sound embedding.
    """

    cache: Cache
    pictures: Pictures
    streams: Streams
    caption_dropout: float = 0.0
    book: Book | None = None
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        empty = self.cache.prompts.refused.get(prompt_name(""))
        require(
            self.caption_dropout == 0 or empty is None,
            got=f"plan.caption_dropout={self.caption_dropout} and an embedding of the empty "
            f"prompt that cannot be used ({empty})",
            need="a text encoder that can embed the empty prompt",
            fix="Use plan.caption_dropout=0, or mend the text encoder.",
            kind=HealthStop,
        )

    def __call__(self, pairs: Sequence[Pair], visits: Sequence[int]) -> Batch:
        """The batch of these pairs at these visits."""
        looks = [self._view(pair, visit) for pair, visit in zip(pairs, visits, strict=True)]
        sides = [
            self._latents([pair.chosen for pair in pairs], looks, visits),
            self._latents([pair.rejected for pair in pairs], looks, visits),
        ]
        texts = [self._prompt(p, v) for p, v in zip(pairs, visits, strict=True)]
        told = Condition(self.cache.prompts.rows([prompt_name(text) for text in texts]))
        told = told.with_user(self._users(pairs, visits, texts))
        return Batch(
            ids=tuple(pair.id for pair in pairs),
            visits=tuple(visits),
            chosen=sides[0][0],
            rejected=sides[1][0],
            conditions=(told.with_sizes(sides[0][1]), told.with_sizes(sides[1][1])),
            agreement=torch.tensor([pair.agreement for pair in pairs], dtype=torch.float32),
            facts={
                name: torch.tensor([known[pair.id] for pair in pairs], dtype=torch.float32)
                for name, known in self.facts.items()
            },
        )

    def plain(self, pairs: Sequence[Pair]) -> Batch:
        """The same pairs without any draw: middle window, latent means, own prompts."""
        still = self.pictures.model_copy(
            update={"crop": "center", "flip": False, "latents": "mean"}
        )
        fixed = Batches(
            cache=self.cache,
            pictures=still,
            streams=self.streams,
            book=None if self.book is None else self.book.still(),
            facts=self.facts,
        )
        return fixed(pairs, [0] * len(pairs))

    def _view(self, pair: Pair, visit: int) -> View:
        # One view for both pictures of the pair: a mirrored rejected image would be its own clue.
        window, mirrored = MIDDLE, False
        if self.pictures.crop == "random":
            window = self.streams("crop", visit, pair.id).integer(0, WINDOWS)
        if self.pictures.flip:
            mirrored = self.streams("flip", visit, pair.id).uniform() < 0.5
        return View(window=window, mirrored=mirrored)

    def _prompt(self, pair: Pair, visit: int) -> str:
        if self.caption_dropout == 0:
            return pair.prompt
        dropped = self.streams("caption", visit, pair.id).uniform() < self.caption_dropout
        return "" if dropped else pair.prompt

    def _users(
        self, pairs: Sequence[Pair], visits: Sequence[int], texts: Sequence[str]
    ) -> Float[Tensor, " b tokens width"] | None:
        """Whom each pair is learned for; zeros without a caption, or where the user is dropped."""
        if self.book is None:
            return None
        rows = [
            self.book.of(pair, visit) if text else self.book.nobody
            for pair, visit, text in zip(pairs, visits, texts, strict=True)
        ]
        return torch.stack(rows)

    def _latents(
        self, pictures: Sequence[str], looks: Sequence[View], visits: Sequence[int]
    ) -> tuple[Float[Tensor, " b c h w"], Int[Tensor, " b 6"]]:
        """Latents of pictures at these visits, and what the pictures went through before."""
        names = [look.name(picture) for picture, look in zip(pictures, looks, strict=True)]
        rows = self.cache.latents.rows(names)
        if self.pictures.latents == "mean":
            return rows["mean"], rows["sizes"]
        shape = tuple(rows["mean"].shape[1:])
        draws = [
            self.streams("latents", visit, name).normal(shape)
            for visit, name in zip(visits, names, strict=True)
        ]
        return rows["mean"] + rows["std"] * torch.stack(draws), rows["sizes"]
