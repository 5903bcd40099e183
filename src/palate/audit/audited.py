"""What checks may look at: a snapshot taken apart once, and whatever else the caller knows.

Rows, votes and pairs are read when it is opened. Pictures are read when a check asks for them.

Read next: `run.py`, which puts every question to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from palate.audit.looks import Looks, look
from palate.audit.minority import RunEvidence
from palate.data.comparison import Comparison
from palate.data.folds import folded
from palate.data.pack import Pack
from palate.data.pairs import PreferencePairs
from palate.data.snapshot import read_rows
from palate.data.store import digest_rows
from palate.data.synthetic import MACHINES
from palate.data.votes import PairKey, Vote, by_pair, votes_of


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the caller adds. A check that needs what was not given says how to give it.

    Attributes:
        evaluation_prompts: Name of an evaluation set → its prompts.
        run: What a training run says of the pairs.
        scores: Name of a scorer → (prompt, digest of a picture) → its score.
    """

    evaluation_prompts: Mapping[str, Sequence[str]] | None = None
    run: RunEvidence | None = None
    scores: Mapping[str, Mapping[tuple[str, str], float]] = field(
        default_factory=dict[str, Mapping[tuple[str, str], float]]
    )


@final
class Audited:
    """A frozen snapshot, as checks see it.

    Args:
        snapshot: Its folder.
        evidence: What else is known.

    Raises:
        DataError: when the folder is no snapshot or is damaged; the file is named.
    """

    def __init__(self, snapshot: Path | str, evidence: Evidence | None = None) -> None:
        self.snapshot = Path(snapshot)
        self.evidence = evidence if evidence is not None else Evidence()
        self.rows: tuple[Comparison, ...] = tuple(read_rows(self.snapshot))
        self.pairs = PreferencePairs.open(self.snapshot)

    @cached_property
    def digest(self) -> str:
        """The snapshot's digest."""
        return digest_rows(self.rows)

    @cached_property
    def groups(self) -> Mapping[PairKey, list[Comparison]]:
        """Records of two pictures each, by the pair they are about; unlabelled ones too."""
        return by_pair(self.rows)

    @cached_property
    def votes(self) -> tuple[Vote, ...]:
        """Every vote; ties are votes of one half, unlabelled records hold none."""
        return tuple(votes_of(self.rows))

    @cached_property
    def votes_on(self) -> Mapping[PairKey, list[Vote]]:
        """The votes on each pair that has one."""
        found: dict[PairKey, list[Vote]] = {}
        for vote in self.votes:
            found.setdefault(vote.pair, []).append(vote)
        return found

    @cached_property
    def by_id(self) -> Mapping[str, Comparison]:
        """The snapshot's rows by their id."""
        return {row.id: row for row in self.rows}

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The digests of all pictures, sorted."""
        return tuple(sorted({image.sha256 for row in self.rows for image in row.images}))

    @cached_property
    def prompts_of(self) -> Mapping[str, Mapping[str, str]]:
        """Digest of a picture → its prompts, as `folded` and as written."""
        found: dict[str, dict[str, str]] = {}
        for row in self.rows:
            for image in row.images:
                found.setdefault(image.sha256, {}).setdefault(folded(row.prompt), row.prompt)
        return found

    @cached_property
    def pairs_with(self) -> Mapping[str, tuple[PairKey, ...]]:
        """Digest of a picture → the pairs it is in, under whatever prompt."""
        found: dict[str, list[PairKey]] = {}
        for pair in self.groups:
            for name in pair[1:]:
                found.setdefault(name, []).append(pair)
        return {name: tuple(pairs) for name, pairs in found.items()}

    def pairs_in(self, name: str) -> tuple[PairKey, ...]:
        """The pairs that a row, by its id, is about: one of two pictures, six of four."""
        row = self.by_id[name]
        pictures = sorted(image.sha256 for image in row.images)
        return tuple((row.prompt, one, other) for one, other in combinations(pictures, 2))

    def ids_of(self, pair: PairKey) -> tuple[str, ...]:
        """Ids of the snapshot's rows that are about a pair, unlabelled ones too."""
        return self._ids_of[pair]

    @cached_property
    def _ids_of(self) -> Mapping[PairKey, tuple[str, ...]]:
        found: dict[PairKey, dict[str, None]] = {}
        for row in self.rows:
            for pair in self.pairs_in(row.id):
                found.setdefault(pair, {})[row.id] = None
        return {pair: tuple(ids) for pair, ids in found.items()}

    def lead(self, pair: PairKey) -> float:
        """How much more than half the mean vote gives a pair's first picture; 0 without votes.

        People's votes where there are any, otherwise machines'.
        """
        votes = self.votes_on.get(pair, [])
        votes = [vote for vote in votes if vote.source not in MACHINES] or votes
        return sum(vote.first - 0.5 for vote in votes) / max(len(votes), 1)

    def winner_first(self, pair: PairKey) -> tuple[str, str]:
        """A pair's two pictures, the one that votes prefer first, as `lead` counts them."""
        _, one, other = pair
        return (other, one) if self.lead(pair) < 0 else (one, other)

    @cached_property
    def looks(self) -> Looks:
        """How every picture looks. Reads all of them, the first time.

        Raises:
            DataError: when one is missing or damaged; the file is named.
        """
        pack = Pack(self.snapshot)
        return look(self.pictures, self.image, lambda name: len(pack.encoded(name)))

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """A picture's pixels, uint8 [height, width, 3].

        Raises:
            DataError: when it is missing or damaged; the file is named.
        """
        return self.pairs.image(sha256)
