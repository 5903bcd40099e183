"""The single measurements an evaluation rests on, and the pictures it keeps to show.

Read next: `result.py`, which holds them beside the numbers they lead to.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from palate.core.files import write_atomic
from palate.core.plain import plain
from palate.core.stats import outcomes

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Picture = NDArray[np.uint8]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurements:
    """What was measured on each pair of pictures [n].

    Attributes:
        prompts: The prompt of each pair.
        indices: Which of the prompt's pictures it is.
        scores: Scorer name to its scores (before, after), each [n]; NaN where it gave none.
        broken_before: Pictures before that are black or of one colour.
        broken_after: The same after.
    """

    prompts: tuple[str, ...]
    indices: tuple[int, ...]
    scores: Mapping[str, tuple[Array, Array]]
    broken_before: Flags
    broken_after: Flags

    def valid(self, scorer: str) -> tuple[Array, Array]:
        """A scorer's scores before and after; NaN for broken pictures, which therefore lose."""
        before, after = self.scores[scorer]
        return (
            np.where(self.broken_before, np.nan, before),
            np.where(self.broken_after, np.nan, after),
        )

    def outcomes(self, scorer: str) -> Array:
        """For each pair 1 where after won, 0 where it lost, ½ for a tie."""
        before, after = self.valid(scorer)
        return outcomes(after, before)

    def frame(self) -> list[dict[str, Any]]:
        """One row per pair of pictures and scorer."""
        return [
            {
                "prompt": prompt,
                "index": self.indices[at],
                "scorer": scorer,
                "before": plain(float(before[at])),
                "after": plain(float(after[at])),
                "outcome": float(won[at]),
                "broken_before": bool(self.broken_before[at]),
                "broken_after": bool(self.broken_after[at]),
            }
            for scorer, (before, after) in self.scores.items()
            for won in (self.outcomes(scorer),)
            for at, prompt in enumerate(self.prompts)
        ]

    def to_json(self) -> dict[str, Any]:
        """The measurements as plain values."""
        return {
            "prompts": list(self.prompts),
            "indices": list(self.indices),
            "scores": {
                name: {"before": plain(old.tolist()), "after": plain(new.tolist())}
                for name, (old, new) in self.scores.items()
            },
            "broken_before": self.broken_before.tolist(),
            "broken_after": self.broken_after.tolist(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read measurements back. Raises KeyError or TypeError where they are not whole."""
        return cls(
            prompts=tuple(values["prompts"]),
            indices=tuple(values["indices"]),
            scores={
                name: (_scores(pair["before"]), _scores(pair["after"]))
                for name, pair in values["scores"].items()
            },
            broken_before=np.array(values["broken_before"], dtype=bool),
            broken_after=np.array(values["broken_after"], dtype=bool),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exhibit:
    """One prompt's two pictures from the same noise, kept to be shown.

    Attributes:
        prompt: The prompt.
        index: Which of the prompt's pictures.
        before: uint8 [height, width, 3].
        after: uint8 [height, width, 3].
    """

    prompt: str
    index: int
    before: Picture
    after: Picture

    def save(self, folder: Path, place: int) -> None:
        """Write both pictures as PNG files."""
        write_atomic(folder / f"{place:03d}-before.png", png(self.before))
        write_atomic(folder / f"{place:03d}-after.png", png(self.after))

    @classmethod
    def load(cls, folder: Path, place: int, prompt: str, index: int) -> Self:
        """Read an exhibit that `save` wrote."""
        before, after = (
            _picture(folder / f"{place:03d}-{side}.png") for side in ("before", "after")
        )
        return cls(prompt=prompt, index=index, before=before, after=after)


def png(picture: Picture) -> bytes:
    """A picture [height, width, 3] as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _picture(path: Path) -> Picture:
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _scores(numbers: list[float | None]) -> Array:
    return np.array([np.nan if number is None else number for number in numbers], np.float64)
