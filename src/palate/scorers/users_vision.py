"""What somebody likes, told from what a vision-language model holds of their choices.

The model reads the examples, each its caption, both pictures, and in words which of the two was
chosen, and then a request to say what the person likes. It says nothing; the hidden states after
one of its layers are the embedding, as in PPD (arXiv:2501.06655), which reads four examples with
LLaVA-OneVision. Which layer, which tokens and which words the paper used could not be found: what
is here by default is a reconstruction, and all three are settings.

The chosen picture is shown first in every other example, so that a place says nothing. Captions
are quoted as JSON text, so that none can end its line and speak of another choice. A few features
of such states are often hundreds of times larger than all others; they are the same for everybody
and stay in, divided with the rest by the row's root mean square. Rows of different people are
therefore near to each other, and equal pictures still give a row.

`pooling="turned"`, which is ours, takes away what people share: from the last token's state that
of the same examples is subtracted as if the other picture had been chosen each time. Opposite
choices then have opposite rows, and equal pictures say nothing. It costs a second reading.

Read next: `vision.py`, the model; `users.py`, what an embedding is.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.files import digest_json
from palate.core.problems import SettingError, require, unknown
from palate.scorers.fitted import fitted
from palate.scorers.users import Example, checked, scaled
from palate.scorers.users_pooled import enough
from palate.scorers.vision import Hidden, VisionModel

Reading = Literal["last", "turned", "mean", "pairs"]
Read = Callable[[Sequence[Example]], Hidden]
# The words and their version; a change of either changes the embeddings.
WORDING: Final = {
    "version": 1,
    "instruction": "One person was shown two pictures at a time, drawn for one caption, and chose "
    "the one they liked better. Find out what this person likes.",
    "example": "Choice {number}. Caption: {caption}. The person chose picture {chosen} and not "
    "picture {rejected}.\nPicture A:\n",
    "between": "\nPicture B:\n",
    "after": "\n",
}
PROMPT: Final = "Describe in a few words what this person likes in pictures."
# Three quarters up: deep enough to have read, not yet about to speak.
LAYER: Final = 0.75
# Part of the identity: raised when the same weights would give other numbers.
_ARITHMETIC: Final = 1


@final
class VisionUsers:
    """User embeddings of a vision-language model's hidden states. Opened from a folder or Hub id.

    Args:
        vision: The model.
        layer: A number of `hidden_states` as transformers counts them (0 for what goes into the
            first layer, −1 for what the last norm gives out), or a share of the layers, written
            with a point: 0.75 is three quarters up.
        pooling: `last` for the last token's state, where the answer would begin; `turned` for the
            same without what it would be after the opposite choices; `mean` for the mean over all
            tokens of all examples; `pairs` for one row per example, the mean over its tokens.
            Since a token sees only what stands before it, a row of `pairs` is of its example and
            those before it.
        examples: How many examples a person may have with `pairs`, which is its number of rows.
            The others take any number that the model has room for.
        prompt: What the model is asked for after the examples; `PROMPT` when left out.
        largest_side: Pictures are made smaller to fit it; None shows them as they are, within
            what the model's own image processor allows.

    Raises:
        SettingError: for an unknown pooling, a layer there is not, fewer than one example, or
            sides shorter than a pixel.
    """

    def __init__(
        self,
        vision: VisionModel,
        *,
        layer: int | float = LAYER,
        pooling: Reading = "last",
        examples: int = 4,
        prompt: str | None = None,
        largest_side: int | None = 512,
    ) -> None:
        _check(pooling, examples, largest_side)
        self.name = vision.name
        self.width = vision.width
        self.tokens = {"pairs": examples}.get(pooling, 1)
        self._vision, self._side = vision, largest_side
        self._layer = _layer(layer, vision)
        self._prompt = PROMPT if prompt is None else prompt
        self._rows = _ROWS[pooling]
        self._room = {"pairs": examples}.get(pooling)
        self.about: Mapping[str, Any] = {
            "encoder": "vision",
            "model": vision.identity,
            "dtype": vision.dtype,
            "layer": self._layer,
            "layers": vision.layers,
            "pooling": pooling,
            "prompt": self._prompt,
            "wording": dict(WORDING),
            "largest_side": largest_side,
            "tokens": self.tokens,
            "width": self.width,
            "arithmetic": _ARITHMETIC,
        }
        self.identity = digest_json(self.about)

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        layer: int | float = LAYER,
        pooling: Reading = "last",
        examples: int = 4,
        prompt: str | None = None,
        largest_side: int | None = 512,
        name: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | str | None = None,
    ) -> "VisionUsers":
        """Open a folder or Hub id of Qwen2.5-VL, Qwen3-VL or LLaVA-OneVision.

        Args:
            model: The folder, or `owner/name`, or `owner/name@revision`.
            layer: See the class, as for the settings that follow.
            pooling: See the class.
            examples: See the class.
            prompt: See the class.
            largest_side: See the class.
            name: What reports call it; the folder's name when left out.
            device: Where it computes.
            dtype: As `VisionModel.open` has it.

        Raises:
            SettingError: as the class does; of what needs no model, before one is read.
            WeightsError: when it is not a whole model of one of these families in safetensors.
        """
        _check(pooling, examples, largest_side)
        return cls(
            VisionModel.open(model, name=name, device=device, dtype=dtype),
            layer=layer,
            pooling=pooling,
            examples=examples,
            prompt=prompt,
            largest_side=largest_side,
        )

    def embed(self, people: Sequence[Sequence[Example]]) -> Float[Tensor, " n tokens width"]:
        """One embedding per person, float32. Examples are read in the order given.

        Raises:
            DataError: when somebody has no example, more than there are rows for, or more than the
                model can read at once.
            WeightsError: when the model holds no number.
        """
        checked(people, self._room)
        found = torch.zeros(len(people), self.tokens, self.width)
        for place, mine in enumerate(people):
            rows = scaled(self._rows(self._read, mine))
            found[place, : len(rows)] = rows
        return found

    def _read(self, mine: Sequence[Example]) -> Hidden:
        content = [part for number, each in enumerate(mine) for part in self._told(number, each)]
        instruction = str(WORDING["instruction"])
        return self._vision.hidden(instruction, [*content, self._prompt], layer=self._layer)

    def _told(self, number: int, example: Example) -> Iterator[str | np.ndarray]:
        """One example as the model reads it; the chosen picture is A in every other one."""
        chosen, rejected = ("A", "B") if number % 2 == 0 else ("B", "A")
        shown = {chosen: example.chosen, rejected: example.rejected}
        yield str(WORDING["example"]).format(
            number=number + 1,
            caption=json.dumps(example.prompt, ensure_ascii=False),
            chosen=chosen,
            rejected=rejected,
        )
        yield fitted(shown["A"], self._side)
        yield str(WORDING["between"])
        yield fitted(shown["B"], self._side)
        yield str(WORDING["after"])


def _last(read: Read, mine: Sequence[Example]) -> Float[Tensor, " 1 width"]:
    return read(mine).states[-1:]


def _turned(read: Read, mine: Sequence[Example]) -> Float[Tensor, " 1 width"]:
    other = [Example(prompt=e.prompt, chosen=e.rejected, rejected=e.chosen) for e in mine]
    return _last(read, mine) - _last(read, other)


def _mean(read: Read, mine: Sequence[Example]) -> Float[Tensor, " 1 width"]:
    found = read(mine)
    start, end = found.pictures[0][0], found.pictures[-1][1]
    return found.states[start:end].mean(0, keepdim=True)


def _pairs(read: Read, mine: Sequence[Example]) -> Float[Tensor, " examples width"]:
    """Every example has two pictures and the texts that lead to them."""
    found = read(mine)
    both = zip(found.pictures[::2], found.pictures[1::2], strict=True)
    return torch.stack([found.states[start:end].mean(0) for (start, _), (_, end) in both])


_ROWS: Final[Mapping[str, Callable[[Read, Sequence[Example]], Tensor]]] = {
    "last": _last,
    "turned": _turned,
    "mean": _mean,
    "pairs": _pairs,
}


def _layer(layer: int | float, vision: VisionModel) -> int:
    """The number of a layer, 0 to the number of layers there are."""
    last = vision.layers
    share = isinstance(layer, float)
    there = 0 <= layer <= 1 if share else -last - 1 <= layer <= last
    require(
        there,
        got=f"layer={layer} of {vision.name}, which has {last}",
        need=f"a whole number from {-last - 1} to {last}, or a share from 0.0 to 1.0",
        fix=f"Take {LAYER} for three quarters up.",
    )
    place = round(layer * last) if share else int(layer)
    return place if place >= 0 else last + 1 + place


def _check(pooling: str, examples: int, largest_side: int | None) -> None:
    """Refuse what can be refused without a model."""
    if pooling not in get_args(Reading):
        raise unknown("pooling", pooling, get_args(Reading))
    enough(examples)
    require(
        largest_side is None or largest_side >= 1,
        got=f"largest_side={largest_side}",
        need="at least 1 pixel, or None",
        fix="Take 512.",
        kind=SettingError,
    )
