"""T004: A better than B, B better than C, and C better than A."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import Estimate, cluster_share
from palate.data.synthetic import MACHINES
from palate.data.votes import Vote

# A picture of a prompt, or of a prompt as one judge sees it.
_Node = tuple[str, ...]
_Edges = Mapping[tuple[_Node, _Node], Sequence[Vote]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cycles:
    """Do the preferences among one prompt's pictures run in circles?

    What is asked. Take the pictures of one prompt, and an arrow from every preferred picture to
    the other one, by the majority of people's judgements on the two. Do arrows lead back to where
    they began? The same for each judge alone, machines too. And of three pictures that people all
    compared with each other, how many stand in a circle? Coin tosses make it a quarter.

    Why it matters. No score of pictures, and so no reward, can agree with a circle: at least one
    of its judgements is wrong, or judges answered different questions. One judge's circle is
    that judge's noise; a circle of the majority among judges who have none is a divided public.

    What to do. Look at the pictures. Leave the circle out (`--drop T004`) and audit again, ask
    again (`--relabel-queue T004`), or fit scores to all judgements (`palate data aggregate`).

    What it cannot see. Prompts of two pictures, and cycles through ties. Where several cycles
    hang together, the shortest is shown, and the others only after it is gone. The doubt of a
    circle of k judgements is one in k: that just one of them is wrong, and any as likely.
    """

    code: ClassVar[str] = "T004"
    name: ClassVar[str] = "cycles"
    question: ClassVar[str] = "Do the preferences among one prompt's pictures run in circles?"

    def ask(self, data: Audited) -> Finding:
        """Look for circles over all people, and of each judge alone."""
        strict = [vote for vote in data.votes if vote.first != 0.5]
        # One opinion of many machines would outvote the people, as in T003.
        people = [vote for vote in strict if vote.source not in MACHINES]
        over_all, alone = _arrows(people, by_judge=False), _arrows(strict, by_judge=True)
        triads = _triads(over_all)
        if triads is None and not _has_three(over_all) and not _has_three(alone):
            words = "No prompt has three pictures that were compared with each other."
            return answer(self, "not applicable", words)
        found, own = _circles(over_all), _circles(alone)
        rows = [_row(circle, over_all) for circle in found]
        rows += [_row(circle, alone) for circle in own]
        judges = sorted({circle[0][1] for circle in own})
        prompts = {circle[0][0] for circle in found}
        of_three = (
            "no three pictures were all compared with each other by people"
            if triads is None
            else f"of three pictures that people all compared with each other, a share of {triads} "
            "is a circle (prompts as the unit; coin tosses make it 0.25)"
        )
        sentence = (
            f"Preferences run in circles on {len(prompts):,} of "
            f"{len({node[0] for edge in over_all for node in edge}):,} prompts over all people, "
            f"and within {len(judges):,} of {len({vote.judge for vote in strict}):,} judges alone; "
            f"{of_three}."
        )
        figures = {
            "prompts_with_circles": len(prompts),
            "circles": len(found),
            "circles_within_a_judge": len(own),
            "judges_with_circles": judges[:50],
            "circular_triads": None if triads is None else triads.asdict(),
        }
        return answer(self, "issue" if rows else "passed", sentence, tuple(rows), figures)


def _arrows(votes: Iterable[Vote], *, by_judge: bool) -> dict[tuple[_Node, _Node], list[Vote]]:
    """From preferred to other, with the votes that say so; drawn pairs have no arrow."""
    said: dict[tuple[_Node, _Node], list[Vote]] = {}
    for vote in votes:
        prompt, one, other = vote.pair
        owner = (prompt, vote.judge) if by_judge else (prompt,)
        said.setdefault(((*owner, one), (*owner, other)), []).append(vote)
    arrows: dict[tuple[_Node, _Node], list[Vote]] = {}
    for (one, other), group in said.items():
        lead = sum(vote.first - 0.5 for vote in group)
        if lead:
            edge = (one, other) if lead > 0 else (other, one)
            arrows[edge] = [vote for vote in group if (vote.first > 0.5) == (lead > 0)]
    return arrows


def _numbered(edges: _Edges) -> tuple[list[_Node], csr_array]:
    """The nodes, and a matrix that is 1 where an arrow leads from row to column."""
    nodes = list(dict.fromkeys(node for edge in edges for node in edge))
    place = {node: at for at, node in enumerate(nodes)}
    rows, columns = ([place[edge[side]] for edge in edges] for side in (0, 1))
    shape = (len(nodes), len(nodes))
    return nodes, csr_array((np.ones(len(edges)), (rows, columns)), shape=shape)


def _has_three(edges: _Edges) -> bool:
    """Whether some prompt's (and judge's) arrows could lead back: as many as pictures, and 3."""
    pictures: dict[_Node, set[_Node]] = {}
    arrows: dict[_Node, int] = {}
    for one, other in edges:
        owner = one[:-1]
        pictures.setdefault(owner, set()).update((one, other))
        arrows[owner] = arrows.get(owner, 0) + 1
    return any(arrows[owner] >= len(seen) >= 3 for owner, seen in pictures.items())


def _triads(edges: _Edges) -> Estimate | None:
    """The share of circles among three pictures all compared; None where there are none."""
    if not edges:
        return None
    nodes, arrows = _numbered(edges)
    either = arrows + arrows.T
    circles = np.asarray(csr_array(arrows @ arrows).multiply(arrows.T).sum(axis=1)).ravel()
    compared = np.asarray(csr_array(either @ either).multiply(either).sum(axis=1)).ravel() / 2
    by_prompt: dict[str, list[float]] = {}
    for node, circle, closed in zip(nodes, circles, compared, strict=True):
        # A triangle is met once at each of its corners, in the one sense or the other.
        counts = by_prompt.setdefault(node[0], [0.0, 0.0])
        counts[0] += circle / 3
        counts[1] += closed / 3
    shares = {prompt: c / n for prompt, (c, n) in by_prompt.items() if n > 0.5}
    return cluster_share(list(shares.values()), list(shares)) if shares else None


def _circles(edges: _Edges) -> list[list[_Node]]:
    """The shortest circle of every knot of pictures that lead to each other."""
    if not edges:
        return []
    nodes, arrows = _numbered(edges)
    count, knot = connected_components(arrows, directed=True, connection="strong")
    sizes = np.bincount(knot, minlength=count)
    members: dict[int, list[int]] = {}
    for at in np.flatnonzero(sizes[knot] > 1):
        members.setdefault(int(knot[at]), []).append(int(at))
    found = [_shortest(arrows, knot, places) for places in members.values()]
    circles = [[nodes[at] for at in circle] for circle in found]
    return sorted(circles, key=lambda circle: (len(circle), circle))


def _shortest(arrows: csr_array, knot: np.ndarray, places: Sequence[int]) -> list[int]:
    """The shortest way from a member of a knot back to itself."""
    best: list[int] = []
    for start in places:
        way = _back(arrows, knot, start)
        if not best or len(way) < len(best):
            best = way
        if len(best) == 3:
            break
    return best


def _back(arrows: csr_array, knot: np.ndarray, start: int) -> list[int]:
    before: dict[int, int] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in arrows.indices[arrows.indptr[here] : arrows.indptr[here + 1]].tolist():
            if there == start:
                return _way(before, here)
            if knot[there] == knot[start] and there not in before:
                before[there] = here
                queue.append(there)
    raise AssertionError("a member of a knot leads back to itself")


def _way(before: Mapping[int, int], last: int) -> list[int]:
    """From the start, which nothing is before, to the last."""
    way = [last]
    while way[-1] in before:
        way.append(before[way[-1]])
    return way[::-1]


def _row(circle: Sequence[_Node], edges: _Edges) -> Row:
    steps = list(zip(circle, (*circle[1:], circle[0]), strict=True))
    votes = [vote for step in steps for vote in edges[step]]
    owner = f"by {circle[0][1]} alone" if len(circle[0]) == 3 else "over all people"
    return Row(
        ids=tuple(dict.fromkeys(vote.row for vote in votes)),
        pictures=tuple(node[-1] for node in circle),
        note=f"a circle of {len(circle)}, {owner}: each is preferred to the next, the last to "
        "the first",
        doubt=1 / len(circle),
        pairs=tuple(dict.fromkeys(vote.pair for vote in votes)),
    )
