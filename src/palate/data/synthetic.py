"""People's labels and machines' labels on the same two pictures, side by side.

A snapshot may hold several comparisons of two pictures: by people, and by machines that label what
nobody looked at. Here they become one pair each, which knows what either side said.

Read next: `part.py`, which makes such a snapshot of any other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from palate.core.files import digest_json
from palate.data.comparison import Source
from palate.data.pairs import Pair, PreferencePairs
from palate.data.snapshot import read_imports

MACHINES: frozenset[Source] = frozenset(("scorer", "vlm", "self"))
# What a snapshot's record calls the draw of the pairs that kept their people's labels.
LABELLED_PART = "labelled_part"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """Two pictures for one prompt, and what people and machines said of them.

    Attributes:
        pair: The pair, turned as people said; as machines said, where no person judged it.
        people: Probability that `pair.chosen` is preferred, by people; None where nobody judged.
        machine: The same by machines.
    """

    pair: Pair
    people: float | None
    machine: float | None


def side_by_side(pairs: PreferencePairs) -> list[Both]:
    """Every two pictures once, with the means of what people and of what machines said.

    Ties count as one half on either side, and pairs that nobody judged are in it: which pairs
    have people's labels must not depend on the labels.
    """
    said: dict[tuple[str, str, str], list[tuple[Pair, bool]]] = {}
    for pair in (*pairs, *pairs.ties):
        said.setdefault(_key(pair), []).append((pair, True))
    for pair in pairs.unlabelled:
        said.setdefault(_key(pair), []).append((pair, False))
    return [_both(group) for group in said.values()]


def agreement_of(difference: float, sharpness: float | None) -> float:
    """Probability that the first of two pictures is preferred, from a difference of scores.

    Args:
        difference: The first picture's score minus the second's.
        sharpness: What a difference is multiplied by; None gives 0, one half or 1.
    """
    if sharpness is None:
        return 0.5 + 0.5 * ((difference > 0) - (difference < 0))
    return 1 / (1 + math.exp(-min(max(sharpness * difference, -700.0), 700.0)))


def manner(sharpness: float | None) -> str:
    """How scores became labels, for a machine's name in the records."""
    return "hard" if sharpness is None else f"at {exactly(sharpness)}"


def exactly(value: float) -> str:
    """A number as short as names have it, and with all its digits where fewer are another one."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def named(machine: str, identity: Any) -> str:
    """A machine in the records: its name, and the start of a digest of what it answers by."""
    return f"{machine} {digest_json(identity)[:12]}"


def toward(pair: Pair, agreement: float) -> Pair:
    """A pair with another label: turned round where that prefers the rejected picture."""
    if agreement >= 0.5:
        return replace(pair, agreement=agreement)
    return replace(
        pair,
        chosen=pair.rejected,
        rejected=pair.chosen,
        agreement=1 - agreement,
        chosen_first=not pair.chosen_first,
    )


def drawn_at_random(snapshot: Path) -> bool:
    """Whether a snapshot's record says that its labelled pairs are a random part of all.

    Raises:
        DataError: when the record cannot be read.
    """
    draws = [each[LABELLED_PART] for each in read_imports(snapshot) if LABELLED_PART in each]
    return bool(draws) and bool(draws[-1]["at_random"])


def _key(pair: Pair) -> tuple[str, str, str]:
    one, other = sorted((pair.chosen, pair.rejected))
    return pair.prompt, one, other


def _both(group: Sequence[tuple[Pair, bool]]) -> Both:
    """One pair from all that was said of two pictures."""
    first = group[0][0].chosen
    by_people = [pair for pair, judged in group if judged and pair.source not in MACHINES]
    by_machines = [pair for pair, judged in group if judged and pair.source in MACHINES]
    people, machine = _mean(by_people, first), _mean(by_machines, first)
    label = people if people is not None else machine if machine is not None else 0.5
    lead = (by_people or by_machines or [group[0][0]])[0]
    pair = toward(lead, label if lead.chosen == first else 1 - label)
    turned = pair.chosen != first
    return Both(pair=pair, people=_turn(people, turned), machine=_turn(machine, turned))


def _mean(pairs: Sequence[Pair], first: str) -> float | None:
    """The mean probability that the first picture is preferred."""
    said = [pair.agreement if pair.chosen == first else 1 - pair.agreement for pair in pairs]
    return sum(said) / len(said) if said else None


def _turn(agreement: float | None, turned: bool) -> float | None:
    return 1 - agreement if turned and agreement is not None else agreement
