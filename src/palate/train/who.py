r"""Whom pictures are drawn for, in the words of a command line, and as one user embedding.

A person is an embedding file, a snapshot of their pairs (`FOLDER`, or `FOLDER@USER` where it has
several people), or the name of somebody the run was trained with. Several people are mixed by
shares that sum to one, `anna:0.3,ben:0.7`: the embedding is $\sum_i a_i u_i$, as in PPD (Dang et
al., 2025, arXiv:2501.06655), whose abstract names the interpolation and not how it is computed;
the sum is our reconstruction.

Read next: `finder.py`, which finds them; `embedding.py`, one person.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.problems import require
from palate.train.embedding import UserEmbedding

_PART = re.compile(r"(?P<who>.+?):(?P<share>[-+.0-9eE]+)(?:,|$)")
# Shares are written by hand: a third is 0.333333.
_ROUNDING = 1e-6
_FORM = "WHO:SHARE,WHO:SHARE with shares that sum to 1, or one WHO"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One person of a mixture.

    Attributes:
        words: What names them.
        share: Their part of the mixture, from 0 to 1.
        person: Their embedding.
    """

    words: str
    share: float
    person: UserEmbedding


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Who:
    """Whom pictures are drawn for: one person, or a mixture of several.

    Attributes:
        words: What was asked for.
        parts: The people in it; their shares sum to one.
        notes: What a user should know of how it was made, a sentence each.
    """

    words: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def embedding(self) -> Float[Tensor, "tokens width"]:
        """The embedding of a person, or the sum of several weighted with their shares."""
        return _mixed(self.parts)

    def towards(self, other: "Who", share: float) -> Float[Tensor, "tokens width"]:
        """What lies on the straight way to another: 0 is here, 1 is there.

        Both ends are met to the bit.
        """
        here = [replace(part, share=part.share * (1 - share)) for part in self.parts]
        there = [replace(part, share=part.share * share) for part in other.parts]
        return _mixed([part for part in (*here, *there) if part.share])

    def facts(self) -> dict[str, Any]:
        """For the record of what was drawn."""
        people = [
            {
                "who": part.words,
                "share": part.share,
                "user": part.person.user,
                "examples": list(part.person.examples),
            }
            for part in self.parts
        ]
        return {"who": self.words, "people": people, "encoder": self.parts[0].person.identity}


def shares_of(words: str) -> dict[str, float]:
    """The people of a mixture and their shares; a single one without a share has all of it.

    Names may hold colons and commas, as long as no part of one looks like a share. What looks like
    a single share is one only if it is all: `pickapic:77` is a name.

    Args:
        words: `WHO:SHARE,WHO:SHARE`, or `WHO`.

    Raises:
        SettingError: when a share is missing or negative, a person comes twice, or the shares do
            not sum to one.
    """
    found = list(_PART.finditer(words))
    if not found or _is_name(found, words):
        require(bool(words.strip()), got="an empty user", need=_FORM, fix="Name somebody.")
        return {words: 1.0}
    rest = words[found[-1].end() :]
    require(
        not rest and not words.endswith(","),
        got=f"{rest or 'nothing'!r} without a share, in {words!r}",
        need=_FORM,
        fix="Give each of them a share.",
    )
    shares = [(each["who"], _number(each["share"], words)) for each in found]
    require(
        len({who for who, _ in shares}) == len(shares),
        got=f"somebody twice in {words!r}",
        need="each person once",
        fix="Add their shares up.",
    )
    total = math.fsum(share for _, share in shares)
    require(
        abs(total - 1) <= _ROUNDING,
        got=f"shares that sum to {total:g}, in {words!r}",
        need="shares that sum to 1",
        fix="Divide each by the sum; how strongly a user counts is --user-guidance.",
    )
    return dict(shares)


def _is_name(found: Sequence[re.Match[str]], words: str) -> bool:
    """Whether a lone part ends like a share and cannot be one: nobody has another share alone."""
    if len(found) > 1 or found[0].end() < len(words) or words.endswith(","):
        return False
    try:
        return float(found[0]["share"]) != 1
    except ValueError:
        return True


def _number(text: str, words: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    require(
        0 <= share < math.inf,
        got=f"a share of {text}, in {words!r}",
        need="shares from 0 to 1",
        fix="Write for example anna:0.3,ben:0.7",
    )
    return share


def _mixed(parts: Sequence[Part]) -> Tensor:
    """The sum of the embeddings, weighted; a lone one of share 1 stays as it is, to the bit.

    Of unlike numbers of tokens, those that somebody lacks are absent, which is zeros.
    """
    most = max(len(part.person.embedding) for part in parts)
    total = torch.zeros(most, parts[0].person.embedding.shape[1])
    for part in parts:
        tokens = part.person.embedding.float()
        total[: len(tokens)] += part.share * tokens
    return total
