"""Who makes embeddings of people, by name; and the embeddings of everyone a run was trained with.

Wherever such an encoder is named (`personal.users`), it is opened here.

Read next: `book.py`, whose embedding a pair is learned with; `who.py`, whom pictures are drawn for.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.core.files import digest_json, load_weights, read_about, save_weights
from palate.core.problems import SettingError, WeightsError, nearest, require
from palate.scorers.users import Example, UserEncoder
from palate.train.personal import LEARNED, check_words

USERS = "users.safetensors"
_TENSOR, _FORMAT = "users", 1
# Tokens and width.
_ROW_AXES = 2
_FROM_HUB = ("clip", "vision")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Users(Mapping[str, Tensor]):
    """User embeddings by name, [tokens, width] each.

    Attributes:
        names: The people, in order.
        tensor: Their embeddings, [people, tokens, width], float32; or, of people with a vector
            each (`of_vectors`), which of these is theirs, [people], in whole numbers.
        about: Who made them: `identity`, `encoder`, and the settings it was opened with.
    """

    names: tuple[str, ...] = ()
    tensor: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0))
    about: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    _places: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {name: i for i, name in enumerate(self.names)})

    @classmethod
    def of_vectors(cls, names: tuple[str, ...], about: Mapping[str, Any]) -> "Users":
        """People with a learned vector each: what would be ones and zeros by the million."""
        return cls(names=names, tensor=torch.arange(len(names)), about=about)

    def __getitem__(self, name: str) -> Float[Tensor, " tokens width"]:
        found = self.tensor[self._places[name]]
        return found if found.ndim == _ROW_AXES else _one_hot(found[None], len(self))[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def of(self, name: str) -> Float[Tensor, " tokens width"]:
        """Somebody's embedding.

        Raises:
            SettingError: when nobody is called so, with the nearest name.
        """
        check_known(name, self._places)
        return self[name]


def check_known(name: str, names: Collection[str]) -> None:
    """Refuse a name that nobody of a run has.

    Raises:
        SettingError: with the nearest name.
    """
    guess = None if name in names else nearest(name, names)
    require(
        name in names,
        got=f"user {name!r}",
        need=f"one of the {len(names)} people it was trained with",
        fix=f"Did you mean {guess}?" if guess else "Give some of their pairs instead.",
    )


def write_users(folder: Path, users: Users) -> Path:
    """Write embeddings with their names beside trained weights.

    Raises:
        StateError: when the disk refuses.
    """
    about = {"format": _FORMAT, "names": list(users.names), **users.about}
    save_weights(folder / USERS, {_TENSOR: users.tensor}, about)
    return folder / USERS


def read_users(folder: Path) -> Users:
    """The people whose embeddings lie beside trained weights; nobody where there is no such file.

    Args:
        folder: An exported folder, or the file of weights in it.

    Raises:
        WeightsError: when the file is not as `write_users` writes it.
    """
    path = (folder if folder.is_dir() else folder.parent) / USERS
    if not path.is_file():
        return Users()
    about, tensors = read_about(path), load_weights(path)
    names, tensor = about.pop("names", None), tensors.get(_TENSOR)
    require(
        about.pop("format", None) == _FORMAT
        and isinstance(names, list)
        and tensor is not None
        and tensor.ndim in (1, 1 + _ROW_AXES)
        and len(names) == len(tensor),
        got=f"{path}, which does not say whose embeddings it holds",
        need="user embeddings as palate writes them",
        fix="Export again from the run's last checkpoint.",
        kind=WeightsError,
    )
    assert tensor is not None  # required just above
    rows = tensor if tensor.ndim == 1 else tensor.float()
    return Users(names=tuple(map(str, names or ())), tensor=rows, about=about)


def learned_from(about: Mapping[str, Any]) -> str:
    """Digest of the pairs whose answers an encoder was itself learned from; empty where of none.

    Args:
        about: What the encoder says of itself.
    """
    made = about.get("made", {})
    return str(made.get("data", "")) if isinstance(made, Mapping) else ""


@final
class Learned:
    """A vector of its own for everybody who is known beforehand, and none for anybody else.

    The embedding is one-hot, so that the columns of the shared projection are the learned vectors.

    Args:
        people: Everybody, in any order.
    """

    def __init__(self, people: Sequence[str]) -> None:
        self.people = tuple(sorted(people))
        self._places = {name: place for place, name in enumerate(self.people)}
        self.name = LEARNED
        self.tokens = 1
        self.width = max(len(self.people), 1)
        self.about: Mapping[str, Any] = {"encoder": LEARNED, "width": self.width}
        self.identity = digest_json([LEARNED, self.people])

    def known(self, names: Sequence[str]) -> Float[Tensor, " n 1 width"]:
        """The embeddings of people by name."""
        places = torch.tensor([self._places[name] for name in names], dtype=torch.long)
        return _one_hot(places, self.width)

    def embed(self, people: Sequence[Sequence[Example]]) -> Float[Tensor, " n tokens width"]:
        """Nobody is known by examples here.

        Raises:
            SettingError: always.
        """
        raise SettingError(
            got=f"examples of {len(people)} people for learned vectors",
            need="somebody the run was trained with",
            fix="Train with personal.users=looks, clip:FOLDER, vision:FOLDER or taste:FOLDER to "
            "draw for people who come later.",
        )


def _one_hot(places: Int[Tensor, " n"], width: int) -> Float[Tensor, " n 1 width"]:
    """A row for each place: a one there, and zeros elsewhere."""
    return torch.nn.functional.one_hot(places, width).float()[:, None]


def open_user_encoder(
    words: str,
    *,
    pooling: str | None = None,
    layer: float | None = None,
    prompt: str | None = None,
    dtype: str | None = None,
    examples: int = 4,
    device: str = "cpu",
    people: Sequence[str] = (),
) -> UserEncoder:
    """Who makes embeddings of people, by words such as `looks` or `clip:FOLDER`.

    Args:
        words: Its kind, and after a colon which one.
        pooling: How it joins what it sees; None for its own way.
        layer: Whose hidden states a vision model gives; None for its own.
        prompt: What a vision model is told; None for its own words.
        dtype: In what numbers a vision model computes, `float32` or `bfloat16`; None for the
            device's own. Another device finds the same embeddings only in the same numbers.
        examples: The most examples a person has.
        device: Where it computes, if it has a network.
        people: Everybody, for learned vectors.

    Raises:
        SettingError: for words that name none, or settings it does not know.
        WeightsError: when its folder cannot be used.
    """
    check_words(words)
    kind, _, which = words.partition(":")
    asked = {"pooling": pooling, "layer": layer, "prompt": prompt, "dtype": dtype}
    told = {name: value for name, value in asked.items() if value is not None}
    if kind == LEARNED:
        return Learned(people)
    return _OPENERS[kind](which, {"examples": examples, **told}, device)


def check_encoder(words: str) -> None:
    """Refuse words that `open_user_encoder` could not open, without opening anything large.

    Raises:
        SettingError: for words that name none, or a folder that is not there.
    """
    check_words(words)
    kind, _, which = words.partition(":")
    # A Hub name looks like owner/name; anything else that is not there is a typing mistake.
    require(
        not which
        or Path(which).expanduser().is_dir()
        or (kind in _FROM_HUB and not which.startswith(("/", ".", "~"))),
        got=f"users {words!r}, a folder that is not there",
        need="the model's folder",
        fix="Check the path.",
    )


def _looks(which: str, told: Mapping[str, Any], device: str) -> UserEncoder:
    from palate.scorers.users_looks import LooksUsers

    del which, device
    return LooksUsers(**told)


def _clip(which: str, told: Mapping[str, Any], device: str) -> UserEncoder:
    from palate.scorers.users_clip import CLIPUsers

    return CLIPUsers.open(which, device=device, **told)


def _vision(which: str, told: Mapping[str, Any], device: str) -> UserEncoder:
    from palate.scorers.users_vision import VisionUsers

    return VisionUsers.open(which, device=device, **told)


def _taste(which: str, told: Mapping[str, Any], device: str) -> UserEncoder:
    from palate.scorers.users_taste import TasteUsers

    del told
    return TasteUsers.open(which, lambda words: open_user_encoder(words, device=device))


_OPENERS: Mapping[str, Callable[[str, Mapping[str, Any], str], UserEncoder]] = {
    "looks": _looks,
    "clip": _clip,
    "vision": _vision,
    "taste": _taste,
}
