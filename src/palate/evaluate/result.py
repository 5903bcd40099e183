"""The result of an evaluation: every number once, with what it rests on.

`frame()` gives the single measurements, `to_json()` everything but the pictures, `save` and `load`
keep it all in a folder, so that a report can be made later and elsewhere.

Read next: `palate/report/report.py`, its three faces.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, final

from palate.core.files import damage, new_folder, read_json, write_json
from palate.core.plain import plain
from palate.core.problems import DataError, StateError, require
from palate.core.stats import Estimate
from palate.evaluate.drift import Drift
from palate.evaluate.measurements import Exhibit, Measurements
from palate.evaluate.plan import Plan
from palate.evaluate.winrate import Opinion, smallest_visible

FORMAT = 1
_FILE = "evaluation.json"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        plan: What was fixed beforehand.
        registered_at: When the plan was written down before drawing; None if it was not.
        opinions: One per scorer, the primary first.
        variety: How variety within a prompt changed; empty where not measured.
        style: How the pictures' plain statistics changed.
        measurements: What the numbers rest on.
        exhibits: Pictures to show, chosen by their place in the plan.
        before: Digests of the model before.
        after: Digests of the model after.
        seconds: Wall time of the evaluation.
        provenance: Versions, machine, code state.
        prompts_trained_on: How many of the prompts were trained on; None where nobody knows.
    """

    plan: Plan
    registered_at: str | None
    opinions: tuple[Opinion, ...]
    variety: tuple[Drift, ...]
    style: tuple[Drift, ...]
    measurements: Measurements
    exhibits: tuple[Exhibit, ...]
    before: Mapping[str, str]
    after: Mapping[str, str]
    seconds: float
    provenance: Mapping[str, Any]
    prompts_trained_on: int | None = None

    @property
    def primary(self) -> Opinion:
        """The opinion of the scorer that decides."""
        return self.opinions[0]

    @property
    def win_rates(self) -> dict[str, Estimate]:
        """The win rate of each scorer, the primary first."""
        return {opinion.scorer: opinion.win_rate for opinion in self.opinions}

    @property
    def broken(self) -> tuple[int, int]:
        """How many pictures behind the win rates were broken, before and after."""
        found = self.measurements
        return int(found.broken_before.sum()), int(found.broken_after.sum())

    @property
    def missing(self) -> tuple[str, ...]:
        """What keeps this from being confirmatory, in words; empty when nothing does."""
        points = self.plan.open_points()
        if self.registered_at is None:
            points.append("the plan was not registered before drawing")
        if self.prompts_trained_on:
            many = f"{self.prompts_trained_on} of {len(self.plan.prompts)}"
            points.append(f"{many} prompts were trained on")
        asked = {opinion.scorer for opinion in self.opinions}
        planned = set(self.plan.secondary) | {self.plan.primary or self.primary.scorer}
        points += [f"no plan named the scorer {name}" for name in sorted(asked - planned)]
        points += [f"the planned scorer {name} was not asked" for name in sorted(planned - asked)]
        points += [
            f"the scorer {opinion.scorer} has no digest or version"
            for opinion in self.opinions
            if not opinion.identity
        ]
        sides = {"before": self.before, "after": self.after}
        points += [f"no digests of the model {name}" for name, side in sides.items() if not side]
        return tuple(points)

    @property
    def standing(self) -> str:
        """`confirmatory` if all was fixed beforehand and is on record, else `exploratory`."""
        return "exploratory" if self.missing else "confirmatory"

    @property
    def smallest_visible(self) -> float | None:
        """The smallest true win rate this many prompts show in 80 % of repeats."""
        return smallest_visible(self.primary.win_rate.n)

    def frame(self) -> list[dict[str, Any]]:
        """One row per picture pair and scorer; `outcome` is 1 won, 0 lost, ½ tied."""
        return self.measurements.frame()

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as plain values."""
        values = {
            "format": FORMAT,
            "standing": self.standing,
            "missing": list(self.missing),
            "plan": self.plan.to_json(),
            "plan_digest": self.plan.digest,
            "registered_at": self.registered_at,
            "opinions": [asdict(opinion) for opinion in self.opinions],
            "variety": [asdict(drift) for drift in self.variety],
            "style": [asdict(drift) for drift in self.style],
            "smallest_visible": self.smallest_visible,
            "broken": {"before": self.broken[0], "after": self.broken[1]},
            "measurements": self.measurements.to_json(),
            "exhibits": [[exhibit.prompt, exhibit.index] for exhibit in self.exhibits],
            "before": dict(self.before),
            "after": dict(self.after),
            "seconds": self.seconds,
            "provenance": dict(self.provenance),
            "prompts_trained_on": self.prompts_trained_on,
        }
        return plain(values)

    def save(self, folder: Path) -> None:
        """Write numbers and shown pictures into a folder that appears whole or not at all.

        Raises:
            StateError: when the disk refuses.
        """
        with new_folder(folder, replace=True) as new:
            write_json(new / _FILE, self.to_json())
            for at, exhibit in enumerate(self.exhibits):
                exhibit.save(new / "pictures", at)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an evaluation that `save` wrote.

        Raises:
            DataError: when the folder holds no evaluation.
            StateError: when a file was damaged.
        """
        values = read_whole(folder, _FILE)
        exhibits = tuple(
            Exhibit.load(folder / "pictures", at, prompt, index)
            for at, (prompt, index) in enumerate(values.get("exhibits", []))
        )
        return cls.from_json(values, exhibits)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], exhibits: tuple[Exhibit, ...] = ()) -> Self:
        """Read an evaluation from plain values; what is missing there makes it exploratory.

        Raises:
            DataError: when it holds no opinion, or parts that cannot be read.
        """
        try:
            return cls(
                plan=Plan.from_json(values.get("plan", {})),
                registered_at=values.get("registered_at"),
                opinions=tuple(Opinion.from_json(one) for one in values["opinions"]),
                variety=tuple(_drift(one) for one in values.get("variety", [])),
                style=tuple(_drift(one) for one in values.get("style", [])),
                measurements=Measurements.from_json(values["measurements"]),
                exhibits=exhibits,
                before=values.get("before", {}),
                after=values.get("after", {}),
                seconds=float(values.get("seconds", 0.0)),
                provenance=values.get("provenance", {}),
                prompts_trained_on=values.get("prompts_trained_on"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                got=f"an evaluation that cannot be read ({type(error).__name__}: {error})",
                need=f"an {_FILE} written by palate evaluate",
                fix="Evaluate again.",
            ) from error


def _drift(values: Mapping[str, Any]) -> Drift:
    given: dict[str, Any] = {
        name: Estimate.from_json(value) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return Drift(**given)


def read_whole(folder: Path, file: str) -> Any:
    """The values in a file of a result's folder, once it is sure that none of it was damaged.

    Raises:
        DataError: when the file is not there.
        StateError: when something in the folder was damaged.
    """
    values = read_json(folder / file)
    wrong = damage(folder)
    require(
        wrong is None,
        got=f"{folder}: {wrong}",
        need="the folder as it was written",
        fix="Evaluate again, or restore the folder.",
        kind=StateError,
    )
    return values
