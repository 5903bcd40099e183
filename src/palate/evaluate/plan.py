"""What is fixed before anyone looks: prompts, noise, sampler, the one question, the tie rule.

A plan has a digest and is written down before the first picture is drawn. An evaluation whose plan
leaves something open, or was not written down, still gives its numbers, but is called exploratory.

Read next: `suite.py`, which carries a plan out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, final

from palate.backbones.sample import Sampler
from palate.core.files import digest_json, read_json, write_json
from palate.core.problems import DataError, StateError, require

TIES = "half"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be drawn and asked. Fields left None are open, and make the result exploratory.

    Attributes:
        prompts: The prompts, all different. They are the units of every interval.
        primary: Name of the scorer that answers the one question registered.
        secondary: Names of the other scorers that will be asked, all of which are reported.
        seed: Seed of the starting noise, shared by both models.
        ties: What a tie counts: "half" of a win is the only rule.
        pictures_per_prompt: Pictures of each prompt behind the win rates.
        variety_prompts: How many prompts, from the first, get more pictures to measure variety.
        variety_pictures: How many pictures those prompts get; 8 or more tell something.
        sampler: How both models draw.
        resolution: Side of the pictures in pixels; None is the models' own.
        held_out: Whether no prompt was used to train or to choose anything.
        labelled_by: Names of scorers whose opinion also made the training labels.
    """

    prompts: tuple[str, ...]
    primary: str | None = None
    secondary: tuple[str, ...] = ()
    seed: int | None = None
    ties: str | None = TIES
    pictures_per_prompt: int = 1
    variety_prompts: int = 0
    variety_pictures: int = 8
    sampler: Sampler = field(default_factory=Sampler)
    resolution: int | None = None
    held_out: bool = False
    labelled_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        twice = len(self.prompts) - len(set(self.prompts))
        require(
            twice == 0,
            got=f"{twice} prompts that appear more than once",
            need="every prompt once: it is the unit the intervals count",
            fix="Remove the duplicates; for more pictures of a prompt set pictures_per_prompt.",
        )
        require(
            self.pictures_per_prompt >= 1 and self.variety_pictures >= 2,
            got=f"pictures_per_prompt={self.pictures_per_prompt}, "
            f"variety_pictures={self.variety_pictures}",
            need="at least 1 picture per prompt, and at least 2 where variety is measured",
            fix="Raise the number.",
        )
        require(
            0 <= self.variety_prompts <= len(self.prompts),
            got=f"variety_prompts={self.variety_prompts} of {len(self.prompts)} prompts",
            need="a number between 0 and the number of prompts",
            fix="Lower it, or give more prompts.",
        )
        require(
            self.ties in (None, TIES),
            got=f"ties={self.ties!r}",
            need=f"ties={TIES!r}, the one rule every interval here uses",
            fix="Leave it out.",
        )

    @property
    def names(self) -> tuple[tuple[str, int], ...]:
        """Every picture to draw, as (prompt, index), in the order of the prompts."""
        return tuple(
            (prompt, index)
            for place, prompt in enumerate(self.prompts)
            for index in range(self.pictures_of(place))
        )

    def pictures_of(self, place: int) -> int:
        """How many pictures the prompt at this place gets."""
        more = self.variety_pictures if place < self.variety_prompts else 0
        return max(self.pictures_per_prompt, more)

    @property
    def drawing(self) -> dict[str, Any]:
        """The part that decides the pictures, whoever judges them afterwards."""
        return {
            "names": [list(name) for name in self.names],
            "seed": self.seed or 0,
            "sampler": asdict(self.sampler),
            "resolution": self.resolution,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the plan."""
        return digest_json(self.to_json())

    def open_points(self) -> list[str]:
        """What the plan leaves open, in words; empty when it is complete."""
        points = {
            "no prompts were fixed": not self.prompts,
            "no seed was fixed": self.seed is None,
            "no primary scorer was named": self.primary is None,
            "no tie rule was fixed": self.ties is None,
            "nobody said that the prompts were held out of training": not self.held_out,
        }
        return [words for words, is_open in points.items() if is_open]

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        values = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read a plan back. Parts that are missing stay open rather than getting a default.

        Raises:
            DataError: when a part cannot be read.
        """
        known = {one.name for one in fields(cls)}
        start: dict[str, Any] = {"prompts": (), "ties": None}
        given = {name: value for name, value in values.items() if name in known}
        lists = {name: tuple(v) for name, v in given.items() if isinstance(v, list)}
        try:
            sampler = Sampler(**(given.get("sampler") or {}))
            whole: dict[str, Any] = start | given | lists | {"sampler": sampler}
            return cls(**whole)
        except TypeError as error:
            raise DataError(
                got=f"a plan that cannot be read: {error}",
                need="a plan written by palate",
                fix="Write it again with Plan.register.",
            ) from error

    def register(self, path: Path) -> str:
        """Write the plan down before looking. Returns when it was first written down.

        Registering the same plan again keeps the first date.

        Raises:
            StateError: when another plan is registered under this name.
        """
        if path.exists():
            found = read_json(path)
            require(
                found.get("digest") == self.digest,
                got=f"another plan registered at {path}",
                need="the same prompts, seed, sampler and scorers as registered there",
                fix="Repeat those settings, or choose a new place (--out NEW): both are then told.",
                kind=StateError,
            )
            return str(found["registered_at"])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(path, {"registered_at": now, "digest": self.digest, "plan": self.to_json()})
        return now
