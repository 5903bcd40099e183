"""Settings of a run that follows many people's tastes: whose embeddings, and how they are drawn.

Read next: `users.py`, where the embeddings come from; `book.py`, which of them a pair is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from palate.core.problems import SettingError, nearest, require, unknown
from palate.train.strict import Strict

LEARNED = "learned"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of encoder.

    Attributes:
        folder: Whether a folder follows after a colon.
        poolings: How it can join what it sees; empty where it has one way only.
        reads: Which further settings it reads.
    """

    folder: bool = False
    poolings: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


_ROWS = ("mean", "pairs")
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "looks": Kind(poolings=_ROWS),
        "clip": Kind(folder=True, poolings=_ROWS),
        "vision": Kind(
            folder=True,
            poolings=("last", "turned", *_ROWS),
            reads=("layer", "prompt"),
        ),
        "taste": Kind(folder=True),
        LEARNED: Kind(),
    }
)
FORMS = "looks, clip:FOLDER, vision:FOLDER, taste:FOLDER or learned"


@final
class PersonalSettings(Strict):
    """People's pairs teach attention to an embedding of whoever judged them (PPD).

    Only the new attention is trained, from zero, so that learning rates of adapters are a place to
    begin and those of whole networks are too small; `plan.learning_rate` is as ever and no part of
    this group. PPD's is 1e-5, for 1,042 steps of 768 pairs.
    """

    group: ClassVar[str] = "personal"
    users: str = Field(
        default="looks",
        min_length=1,
        description="who makes embeddings of people: looks, clip:FOLDER, vision:FOLDER, "
        "taste:FOLDER (of palate users fit), or learned (a vector each, none for anybody new)",
    )
    examples: int = Field(default=4, ge=1, le=64, description="pairs an embedding is made from")
    subsets: int = Field(
        default=8, ge=1, le=1000, description="choices of examples for each person"
    )
    pooling: str | None = Field(
        default=None, description="how an encoder joins what it sees; none means its own way"
    )
    layer: int | float | None = Field(
        default=None, description="whose hidden states a vision model gives; none means its own"
    )
    prompt: str | None = Field(
        default=None, description="what a vision model is told; none means its own words"
    )
    width: int = Field(
        default=256, ge=1, le=8192, description="what an embedding is projected to, for all layers"
    )
    dropout: float = Field(
        default=0.1, ge=0, le=1, description="share of visits for nobody, which teach nothing"
    )
    order: Literal["uniform", "activity"] = Field(
        default="activity", description="who comes up: everyone alike, or by their pairs"
    )
    cap: int | None = Field(
        default=None, ge=1, description="pairs of a person that are trained; none means all"
    )

    @property
    def learned(self) -> bool:
        """Whether every person has a vector that is trained, and no examples are read."""
        return self.users == LEARNED

    @property
    def kind(self) -> str:
        """The kind of encoder."""
        return self.users.partition(":")[0]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        check_words(self.users)
        kind = KINDS[self.kind]
        read = (*kind.reads, *(("pooling",) if kind.poolings else ()))
        told = [n for n in ("pooling", "layer", "prompt") if getattr(self, n) is not None]
        unread = [name for name in told if name not in read]
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        if self.learned:
            unread += [n for n in ("examples", "subsets") if getattr(self, n) != usual[n]]
        listed = ", ".join(f"personal.{name}={getattr(self, name)}" for name in unread)
        require(
            not unread,
            got=f"{listed} with personal.users={self.users}",
            need="settings that it reads",
            fix=f"Leave out {' and '.join(f'personal.{name}' for name in unread)}.",
        )
        if self.pooling is not None and self.pooling not in kind.poolings:
            raise unknown("personal.pooling", self.pooling, kind.poolings)
        return self


def check_words(words: str) -> None:
    """Refuse words that name no encoder of people, without opening anything.

    Raises:
        SettingError: with the nearest form.
    """
    kind, colon, which = words.partition(":")
    if kind in KINDS and bool(which) == KINDS[kind].folder and bool(colon) == bool(which):
        return
    guess = kind if kind in KINDS else nearest(kind, KINDS)
    form = None if guess is None else f"{guess}:FOLDER" if KINDS[guess].folder else guess
    raise SettingError(
        got=f"users {words!r}", need=FORMS, fix=f"Did you mean {form}?" if form else "Use looks."
    )
