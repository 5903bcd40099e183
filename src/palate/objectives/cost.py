"""What a step of each method costs, beside a step of Diffusion-DPO.

Only the denoising network is counted: everything else of a step is small beside it. The numbers
are not thought out but counted, by `palate.train.cost`, in steps of the methods as they come; a
test counts them again.
"""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import final

from palate.core.problems import DataError
from palate.objectives.base import Objective

COSTS = Path(__file__).parent / "pages" / "costs.json"
# A backward pass takes about twice the arithmetic of a forward pass when all weights are trained.
BACKWARD = 2
_ONE = "dpo"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """How often the network sees a picture, per pair; per prompt, where the policy draws them.

    Attributes:
        learned: Forward passes with gradient.
        backward: Backward passes.
        asked: Forward passes without gradient, of reference, averages and drawing policy.
        once: Forward passes that are made the first time only, and then kept.
    """

    learned: float
    backward: float
    asked: float
    once: float = 0

    @property
    def passes(self) -> float:
        """A step in forward passes, a backward pass being two of them."""
        return self.learned + self.asked + BACKWARD * self.backward

    def asdict(self) -> dict[str, float]:
        """All of it by name, for JSON."""
        return asdict(self)


@cache
def read_costs() -> dict[str, Cost]:
    """What was counted, by the method's name.

    Raises:
        DataError: when the file is missing.
    """
    try:
        told = json.loads(COSTS.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            got=f"no {COSTS.name}",
            need="the counted costs of all methods",
            fix="Install palate again.",
        ) from error
    return {name: Cost(**counted) for name, counted in told.items()}


def cost_of(objective: type[Objective]) -> Cost:
    """What a step of a method costs.

    Raises:
        DataError: when nobody counted it.
    """
    found = read_costs().get(objective.name)
    if found is None:
        raise DataError(
            got=f"no cost of {objective.title}",
            need="one per objective",
            fix=f"Count it with `palate.train.cost.count` and add it to {COSTS.name}.",
        )
    return found


def relative(objective: type[Objective]) -> float:
    """How many steps of Diffusion-DPO on as many pairs a step costs."""
    return cost_of(objective).passes / read_costs()[_ONE].passes


def relative_once(objective: type[Objective]) -> float:
    """What is made the first time only, in steps of Diffusion-DPO on as many pairs."""
    return cost_of(objective).once / read_costs()[_ONE].passes


def in_words(objective: type[Objective]) -> str:
    """Both, such as `0.38×`, or `1×, and 12.5× once`."""
    once = relative_once(objective)
    return f"{relative(objective):.3g}×" + (f", and {once:.3g}× once" if once else "")
