"""Preference pairs as training sees them: chosen first, from a frozen snapshot, never changing.

A record of more than two pictures becomes every pair that its ranks put in a strict order. A tie
makes no pair unless asked for; then it is one with agreement one half, and still no win.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from palate.core.files import digest_bytes, digest_json
from palate.core.problems import require, unknown
from palate.core.streams import Streams
from palate.data.comparison import Comparison, Source
from palate.data.folds import folded
from palate.data.pack import Pack
from palate.data.snapshot import read_rows, refused

Ties = Literal["skip", "half"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two pictures for one prompt, the preferred one first.

    Attributes:
        id: Stable name; the record's own id where it has two pictures.
        prompt: What they were asked to show.
        chosen: Digest of the preferred picture.
        rejected: Digest of the other.
        agreement: Probability that `chosen` is preferred, at least one half.
        judge: Who said so.
        source: What kind of judge that was.
        chosen_first: Whether the preferred picture stood first where the judge saw it, or first
            in the record where the order shown is not known.
    """

    id: str
    prompt: str
    chosen: str
    rejected: str
    agreement: float
    judge: str
    source: Source
    chosen_first: bool = True


@final
class PreferencePairs:
    """An immutable view over a snapshot. Open one with `PreferencePairs.open`."""

    __slots__ = ("_pack", "_pairs", "_ties", "_unlabelled", "digest", "prompts", "snapshot")

    def __init__(
        self,
        snapshot: Path,
        pack: Pack,
        pairs: Sequence[Pair],
        ties: Sequence[Pair],
        unlabelled: Sequence[Pair] = (),
    ) -> None:
        self.snapshot = snapshot
        self._pack = pack
        self._pairs = tuple(pairs)
        self._ties = tuple(ties)
        self._unlabelled = tuple(unlabelled)
        self.prompts = tuple(dict.fromkeys(pair.prompt for pair in self._pairs))
        self.digest = digest_json(
            [[p.id, p.prompt, p.chosen, p.rejected, p.agreement] for p in self._pairs]
        )

    @classmethod
    def open(cls, path: Path | str, *, ties: Ties = "skip") -> "PreferencePairs":
        """The pairs of a frozen snapshot, after checking that it is whole.

        Rows are checked by digest now; packs of pictures by size now, each picture by content
        when it is read.

        Raises:
            DataError: when the folder is no snapshot or is damaged; the file is named.
            SettingError: when `ties` is neither `skip` nor `half`.
        """
        if ties not in ("skip", "half"):
            raise unknown("ties", str(ties), ("skip", "half"))
        folder = Path(path)
        rows = read_rows(folder)
        pairs, equal, unlabelled = list[Pair](), list[Pair](), list[Pair]()
        for row in rows:
            for pair in pairs_of(row):
                strict = pair.agreement > 0.5 or ties == "half"
                place = pairs if strict else equal
                (place if row.labelled else unlabelled).append(pair)
        pack = Pack(folder)
        for pair in (*pairs, *equal, *unlabelled):
            for name in (pair.chosen, pair.rejected):
                if name not in pack:
                    raise refused(folder, f"picture {name[:16]} is not in it")
        return cls(folder, pack, pairs, equal, unlabelled)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        return self._pairs[index]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    @property
    def ties(self) -> tuple[Pair, ...]:
        """Pairs that are left out because their judge preferred neither picture."""
        return self._ties

    @property
    def unlabelled(self) -> tuple[Pair, ...]:
        """Pairs that are left out because nobody judged them; which is `chosen` means nothing."""
        return self._unlabelled

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """A picture's pixels, uint8 [height, width, 3], checked against its digest.

        Raises:
            DataError: when it is missing or damaged; the file is named.
        """
        return self._pack.get(sha256)

    def images(self, names: Sequence[str]) -> list[NDArray[np.uint8]]:
        """Several pictures, in order."""
        return [self.image(name) for name in names]

    def filter(self, keep: Callable[[Pair], bool]) -> "PreferencePairs":
        """The pairs for which `keep` says yes."""
        every = (self._pairs, self._ties, self._unlabelled)
        return self._view(*([pair for pair in pairs if keep(pair)] for pairs in every))

    def subset(self, indices: Sequence[int]) -> "PreferencePairs":
        """The pairs at these places, in this order."""
        return self._view([self._pairs[index] for index in indices])

    def relabelled(self, pairs: Sequence[Pair]) -> "PreferencePairs":
        """Other pairs of the same pictures; whatever had been left out is gone."""
        return self._view(pairs)

    def split(
        self, *, by: Literal["prompt", "judge"], held_out: float, seed: int
    ) -> tuple["PreferencePairs", "PreferencePairs"]:
        """Training pairs and held-out pairs, with no prompt (or judge) on both sides.

        Prompts that differ only in case or spacing count as one. Which ones are held out
        depends on the seed and their text alone, not on their order.

        Args:
            by: What must not be on both sides.
            held_out: The share of prompts or judges to hold out, in [0, 1).
            seed: The run's seed.

        Raises:
            SettingError: when `by` or the share makes no sense.
        """
        if by not in _GROUPS:
            raise unknown("by", str(by), _GROUPS)
        require(
            0 <= held_out < 1,
            got=f"held_out={held_out}",
            need="a share from 0 to below 1",
            fix="0.1 holds out a tenth of the prompts.",
        )
        group = _GROUPS[by]
        names = {group(pair) for pair in self._pairs}
        count = 0
        if held_out > 0 and len(names) > 1:
            count = min(len(names) - 1, max(1, round(held_out * len(names))))
        streams = Streams(seed)
        away = set(sorted(names, key=lambda name: streams("split", by, name).seed)[:count])
        return (
            self.filter(lambda pair: group(pair) not in away),
            self.filter(lambda pair: group(pair) in away),
        )

    def contradictions(self) -> tuple[str, ...]:
        """Ids of pairs whose two pictures somebody put in the opposite order."""
        said = {(p.prompt, p.chosen, p.rejected) for p in self._strict()}
        return tuple(p.id for p in self._strict() if (p.prompt, p.rejected, p.chosen) in said)

    def summary(self) -> dict[str, Any]:
        """What is in here, as plain numbers: sources, judges, ties, contradictions, balance."""
        judges = Counter(pair.judge for pair in self._pairs)
        busiest = judges.most_common(1)[0] if judges else ("none", 0)
        total = max(len(self._pairs), 1)
        strict = list(self._strict())
        asked = Counter(
            (pair.prompt, *sorted((pair.chosen, pair.rejected))) for pair in self._pairs
        )
        return {
            "digest": self.digest,
            "pairs": len(self._pairs),
            "prompts": len(self.prompts),
            "pictures": len({s for pair in self._pairs for s in (pair.chosen, pair.rejected)}),
            "ties_kept": len(self._pairs) - len(strict),
            "ties_left_out": len(self._ties),
            "unlabelled": len(self._unlabelled),
            "soft_labels": sum(0.5 < pair.agreement < 1 for pair in self._pairs),
            "judged_again": sum(count - 1 for count in asked.values()),
            "contradictions": len(self.contradictions()),
            "chosen_first": {
                "share": sum(pair.chosen_first for pair in strict) / max(len(strict), 1),
                "pairs": len(strict),
            },
            "sources": dict(Counter(pair.source for pair in self._pairs).most_common()),
            "judges": len(judges),
            "busiest_judge": {"judge": busiest[0], "share": busiest[1] / total},
        }

    def _strict(self) -> Iterator[Pair]:
        return (pair for pair in self._pairs if pair.agreement > 0.5)

    def _view(
        self, pairs: Sequence[Pair], ties: Sequence[Pair] = (), unlabelled: Sequence[Pair] = ()
    ) -> "PreferencePairs":
        return PreferencePairs(self.snapshot, self._pack, pairs, ties, unlabelled)


def pairs_of(row: Comparison) -> Iterator[Pair]:
    """Every two pictures of a record, the better-ranked one first; otherwise with one half."""
    ranks = row.ranks if row.ranks is not None else (1,) * len(row.images)
    seen = row.shown if row.shown is not None else tuple(range(len(row.images)))
    place = {index: position for position, index in enumerate(seen)}
    for first, second in combinations(range(len(row.images)), 2):
        swap = ranks[second] < ranks[first]
        best, other = (second, first) if swap else (first, second)
        chosen, rejected = row.images[best].sha256, row.images[other].sha256
        alone = len(row.images) == 2
        yield Pair(
            id=row.id if alone else digest_bytes(f"{row.id} {chosen} {rejected}".encode()),
            prompt=row.prompt,
            chosen=chosen,
            rejected=rejected,
            agreement=_agreement(row, best, other),
            judge=row.judge,
            source=row.source,
            chosen_first=place[best] < place[other],
        )


def _prompt_group(pair: Pair) -> str:
    return folded(pair.prompt)


def _judge_group(pair: Pair) -> str:
    return pair.judge


_GROUPS: dict[str, Callable[[Pair], str]] = {"prompt": _prompt_group, "judge": _judge_group}


def _agreement(row: Comparison, best: int, other: int) -> float:
    if row.agreement is not None:
        return max(row.agreement, 1 - row.agreement)
    ranks = row.ranks
    return 0.5 if ranks is None or ranks[best] == ranks[other] else 1.0
