"""T002: pairs that show again, nearly to the pixel, what another pair shows."""

from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import cluster_share
from palate.data.folds import folded
from palate.data.votes import PairKey


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicatePairs:
    """Does a pair show again what another pair shows?

    What is asked. Are both pictures of a pair copies, to the eye, of both pictures of another
    pair? The same two pictures to the pixel, judged again for the same prompt, are one pair and
    are not meant here.

    Why it matters. Such a pair counts double in training, without anybody having looked twice.
    Where one of the copies is held out and the other is trained on, the held-out accuracy is too
    high. And where the copies were judged the other way round, they cancel.

    What to do. Keep one of each (`--drop T002` leaves out all but the first); then split.

    What it cannot see. Copies that were cropped, turned or mirrored, and copies with a detail
    changed. Every picture is compared with the first of its kind only, so in a chain of copies
    of copies the last may be missed.
    """

    code: ClassVar[str] = "T002"
    name: ClassVar[str] = "near-duplicate-pairs"
    question: ClassVar[str] = "Does a pair show again what another pair shows?"

    def ask(self, data: Audited) -> Finding:
        """Group pairs by what their pictures are copies of."""
        if len(data.groups) < 2:
            return answer(self, "not applicable", "There are fewer than two pairs.")
        leader = data.looks.leaders()
        kinds: dict[tuple[str, str], list[PairKey]] = {}
        for key in data.groups:
            one, other = sorted((leader[key[1]], leader[key[2]]))
            kinds.setdefault((one, other), []).append(key)
        again = {key: keys[0] for keys in kinds.values() for key in keys[1:]}
        rows = tuple(_row(data, key, first, leader) for key, first in again.items())
        share = cluster_share(
            [float(key in again) for key in data.groups], [key[0] for key in data.groups]
        )
        sentence = (
            f"{len(again):,} of {len(data.groups):,} pairs show again what another pair shows "
            f"(share {share}, prompts as the unit)."
        )
        figures = {"again": len(again), "pairs": len(data.groups), "share": share.asdict()}
        return answer(self, "issue" if rows else "passed", sentence, rows, figures)


def _row(data: Audited, key: PairKey, first: PairKey, leader: dict[str, str]) -> Row:
    """The later of two pairs, and which it repeats."""
    leads = [_lead(data, pair, leader) for pair in (key, first)]
    turned = leads[0] * leads[1] < 0
    where = "of the same prompt" if folded(key[0]) == folded(first[0]) else f"of “{first[0][:60]}”"
    note = f"shows again what a pair {where} shows ({data.ids_of(first)[0][:12]})"
    return Row(
        ids=data.ids_of(key),
        pictures=(*data.winner_first(key), *data.winner_first(first)),
        note=f"{note}, judged the other way" if turned else note,
        doubt=0.5 if turned else None,
        pairs=(key,),
    )


def _lead(data: Audited, pair: PairKey, leader: dict[str, str]) -> float:
    """The lead of the picture whose leader comes first, so that copies can be compared."""
    swapped = leader[pair[1]] > leader[pair[2]]
    return -data.lead(pair) if swapped else data.lead(pair)
