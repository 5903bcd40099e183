"""Numbers that come with every pair, for the objectives that need them.

Read next: `batch.py`, which carries them along.
"""

from collections.abc import Callable, Mapping

from palate.core.problems import unknown
from palate.data.pairs import PreferencePairs
from palate.objectives import OBJECTIVES
from palate.train.run import Run

Numbers = Mapping[str, float]

FACTS: dict[str, Callable[[Run, PreferencePairs], Numbers]] = {}


def collect_facts(run: Run, pairs: PreferencePairs) -> dict[str, Numbers]:
    """What the run's objective needs to know of each pair: name → pair id → number.

    Raises:
        SettingError: when nobody knows how to find one of them.
    """
    found: dict[str, Numbers] = {}
    for name in OBJECTIVES.named(run.objective.name).needs.facts:
        if name not in FACTS:
            raise unknown("fact", name, FACTS)
        found[name] = FACTS[name](run, pairs)
    return found
