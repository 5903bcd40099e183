"""How unevenly people judge: a few make most pairs, and most make few.

Pick-a-Pic's activity is heavy-tailed (arXiv:2501.06655 trains on 5,000 of its users). Trained pair
by pair, a model follows the busiest; these numbers say how far, before a cap or an even order
(`loader.ByUser`) is chosen.
"""

from dataclasses import asdict, dataclass
from math import ceil
from statistics import median
from typing import Any, final

from palate.data.people import FEW, Everybody


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """How many usable pairs are whose.

    Attributes:
        users: Users with any.
        pairs: All of them.
        median: Pairs of the user in the middle.
        busiest: Who has most.
        busiest_share: Their share of all pairs.
        top_users: How many make up the busiest hundredth, rounded up.
        top_share: Their share of all pairs.
        enough: Users with `few` different pairs or more.
        few: How many that is.
        alone: Users with one pair of pictures, for which no other can be an example.
    """

    users: int
    pairs: int
    median: float
    busiest: str
    busiest_share: float
    top_users: int
    top_share: float
    enough: int
    few: int
    alone: int

    def asdict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def activity(found: Everybody, *, few: int = FEW) -> Activity | None:
    """How unevenly the usable pairs are spread; None where there is none.

    Args:
        found: The users.
        few: How many different pairs stand for a user.
    """
    counts = [len(mine) for mine in found.pairs.values()]
    if not counts:
        return None
    top = ceil(len(counts) / 100)
    return Activity(
        users=len(counts),
        pairs=sum(counts),
        median=float(median(counts)),
        busiest=next(iter(found.pairs)),
        busiest_share=counts[0] / sum(counts),
        top_users=top,
        top_share=sum(counts[:top]) / sum(counts),
        enough=sum(each.different >= few for each in found.facts),
        few=few,
        alone=sum(each.different == 1 for each in found.facts),
    )
