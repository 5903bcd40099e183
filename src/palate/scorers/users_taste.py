"""What somebody likes, as a place among the tastes of many: few directions, learned from people.

Other encoders make many numbers of a choice, most of which tell people apart as little as their
shoes do. From the choices of the people a model is trained with, the directions in which they
disagree are learned first (`taste_space.py`), and somebody new is placed among these by their few
examples. Their embedding is the place z, in units that are usual among the people it was learned
from, and beside it a one, by which a network can also learn what all of them share. PPD
(arXiv:2501.06655) reads people through a vision-language model that was taught by many; this is
ours, for where there is none.

Read next: `taste_space.py`, what is computed; `users_looks.py` and `users_clip.py`, whose rows it
is made from.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.files import digest_file, digest_json
from palate.core.problems import WeightsError, require
from palate.scorers.taste_space import FILE, Space, read
from palate.scorers.users import Example, UserEncoder, checked

# Part of the identity: raised when the same file would give other numbers.
_ARITHMETIC: Final = 1


class Differences(UserEncoder, Protocol):
    """An encoder that can also give the row of each example by itself."""

    def differences(self, examples: Sequence[Example]) -> Float[Tensor, " n features"]:
        """Chosen minus rejected, one row per example, as they come."""
        ...


@final
class TasteUsers:
    """User embeddings as places among people's tastes. Opened from a folder of a fit.

    Args:
        space: The directions.
        inner: Who makes the rows.
        files: Digest of the folder's file.
        about: What the folder says of how it was made.
    """

    def __init__(
        self, space: Space, inner: Differences, *, files: str, about: Mapping[str, Any]
    ) -> None:
        self.name = f"taste of {inner.name}"
        self.tokens, self.width = 1, space.dimensions + 1
        self.about: Mapping[str, Any] = {
            "encoder": "taste",
            "tokens": self.tokens,
            "width": self.width,
            "file": files,
            "rows": inner.identity,
            "made": dict(about),
            "arithmetic": _ARITHMETIC,
        }
        self.identity = digest_json([files, inner.identity, _ARITHMETIC])
        self._space, self._inner = space, inner

    @classmethod
    def open(cls, folder: str | Path, encoder: Callable[[str], Any]) -> "TasteUsers":
        """Open a folder, and the encoder that its rows are made by.

        Args:
            folder: What `taste_space.save` wrote.
            encoder: Opens an encoder by the words that name it.

        Raises:
            WeightsError: when the folder is none, or the encoder is another one than then.
        """
        where = Path(folder).expanduser()
        space, about = read(where)
        inner = encoder(about["by"])
        require(
            inner.identity == about.get("rows"),
            got=f"{about['by']}, whose numbers are {inner.identity[:12]}",
            need=f"{str(about.get('rows'))[:12]}, as when {where / FILE} was made",
            fix="Put the same model back, or make the folder again.",
            kind=WeightsError,
        )
        return cls(space, inner, files=digest_file(where / FILE), about=about)

    def embed(self, people: Sequence[Sequence[Example]]) -> Float[Tensor, " n tokens width"]:
        """One embedding per person, float32: where they stand, and a one.

        Raises:
            DataError: when somebody has no example.
        """
        checked(people)
        rows = [self._inner.differences(mine) for mine in people]
        places = [self._space.place(mine) / self._space.usual for mine in rows]
        found = [torch.cat([place, torch.ones(1, dtype=torch.float64)]) for place in places]
        if not found:
            return torch.zeros(0, self.tokens, self.width)
        return torch.stack(found).float()[:, None]
