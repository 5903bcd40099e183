"""The result of an evaluation with users: how well a model follows people.

Everything that was measured, and what follows from it, in one value that is saved as a folder, so
that a report can be made later and elsewhere.

Read next: `palate/report/personal.py`, its three faces.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, final

import numpy as np
import torch

from palate.core.files import (
    load_weights,
    new_folder,
    save_weights,
    write_json,
)
from palate.core.plain import plain
from palate.core.problems import DataError
from palate.core.stats import Estimate
from palate.evaluate.crossed import Crossed
from palate.evaluate.identify import Identified
from palate.evaluate.ordering import Ordering
from palate.evaluate.personal import verdicts
from palate.evaluate.result import read_whole
from palate.evaluate.slide import Curve, Slide, curve
from palate.evaluate.two_way import two_way

FORMAT = 1
_FILE, _PICTURES = "following.json", "pictures.safetensors"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Following:
    """What was found of a personal model.

    Attributes:
        groups: By what a group of users is called, such as `seen` and `unseen`, their rewards: one
            table per training.
        slides: Ways between two users, all along the same shares.
        identified: How users were told apart by their embeddings.
        ordering: How held-out pairs were ordered; None where not asked.
        facts: Digests, seeds, settings, versions: what identifies this result.
    """

    groups: Mapping[str, tuple[Crossed, ...]]
    slides: tuple[Slide, ...] = ()
    identified: tuple[Identified, ...] = ()
    ordering: Ordering | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def verdicts(self) -> dict[str, dict[str, Estimate]]:
        """For each group, what follows for users like these."""
        return _verdicts(self)

    @property
    def two_way(self) -> dict[str, dict[str, Estimate]]:
        """The same for other prompts as well; without groups whose trainings differ in prompts."""
        return {
            name: two_way(trainings)
            for name, trainings in self.groups.items()
            if len({each.prompts for each in trainings}) == 1
        }

    @property
    def curve(self) -> Curve | None:
        """The trade-off along all slides; None without any."""
        return curve(self.slides) if self.slides else None

    def frame(self) -> list[dict[str, Any]]:
        """One row per user, picture and whom it was drawn for, with the user's reward."""
        return [
            {
                "group": group,
                "training": training,
                "judged_by": judge,
                "drawn_for": shown,
                "prompt": prompt,
                "picture": at,
                "reward": plain(float(rewards[at])),
            }
            for group, trainings in self.groups.items()
            for training, found in enumerate(trainings)
            for row, judge in enumerate(found.users)
            for shown, rewards in _drawn(found, row).items()
            for at, prompt in enumerate(found.prompts)
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as plain values."""
        told = {"verdicts": self.verdicts, "two_way": self.two_way}
        ordered = None if self.ordering is None else self.ordering.to_json()
        return {
            "format": FORMAT,
            **{
                face: {
                    group: {name: one.asdict() for name, one in each.items()}
                    for group, each in groups.items()
                }
                for face, groups in told.items()
            },
            "groups": {
                name: [each.to_json() for each in trainings]
                for name, trainings in self.groups.items()
            },
            "slides": [each.to_json() for each in self.slides],
            "identified": [each.to_json() for each in self.identified],
            "ordering": ordered,
            "facts": plain(dict(self.facts)),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read a result from plain values; estimates are made again from the measurements.

        Raises:
            DataError: when parts are missing or cannot be read.
        """
        try:
            ordered = values["ordering"]
            return cls(
                groups={
                    name: tuple(Crossed.from_json(each) for each in trainings)
                    for name, trainings in values["groups"].items()
                },
                slides=tuple(Slide.from_json(each) for each in values["slides"]),
                identified=tuple(Identified.from_json(each) for each in values["identified"]),
                ordering=None if ordered is None else Ordering.from_json(ordered),
                facts=values["facts"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                got=f"a result that cannot be read ({type(error).__name__}: {error})",
                need=f"a {_FILE} that `Following.save` wrote",
                fix="Evaluate again.",
            ) from error

    def save(self, folder: Path) -> None:
        """Write numbers and shown pictures into a folder that appears whole or not at all.

        Raises:
            StateError: when the disk refuses.
        """
        shown = {str(at): each.pictures for at, each in enumerate(self.slides)}
        with new_folder(folder, replace=True) as new:
            write_json(new / _FILE, self.to_json())
            tensors = {at: torch.from_numpy(each) for at, each in shown.items() if each is not None}
            if tensors:
                save_weights(new / _PICTURES, tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a result that `save` wrote.

        Raises:
            DataError: when the folder holds none.
            StateError: when a file was damaged.
        """
        values = read_whole(folder, _FILE)
        found = cls.from_json(values)
        path = folder / _PICTURES
        kept = load_weights(path) if path.exists() else {}
        slides = tuple(
            replace(each, pictures=kept[str(at)].numpy()) if str(at) in kept else each
            for at, each in enumerate(found.slides)
        )
        return replace(found, slides=slides)


@lru_cache(maxsize=4)
def _verdicts(found: Following) -> dict[str, dict[str, Estimate]]:
    """Every face asks for them, and they take a second of resampling."""
    return {name: verdicts(trainings) for name, trainings in found.groups.items()}


def _drawn(found: Crossed, row: int) -> dict[str, np.ndarray]:
    """One user's rewards by whom pictures were drawn for."""
    rows = {f"user {name}": found.personal[row, at] for at, name in enumerate(found.users)}
    rows["nobody"] = found.base[row]
    return rows if found.pooled is None else rows | {"everybody": found.pooled[row]}
