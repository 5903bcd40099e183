"""What checks may look at: a snapshot taken apart once, and whatever else the caller knows.

Rows, votes and pairs are read when it is opened. Pictures are read when a check asks for them.

Read next: `run.py`, which puts every question to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from palate.data.comparison import Comparison
from palate.data.pairs import PreferencePairs
from palate.data.snapshot import read_rows
from palate.data.store import digest_rows
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
    run: Any = None
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
    def pictures(self) -> tuple[str, ...]:
        """The digests of all pictures, sorted."""
        return tuple(sorted({image.sha256 for row in self.rows for image in row.images}))

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """A picture's pixels, uint8 [height, width, 3].

        Raises:
            DataError: when it is missing or damaged; the file is named.
        """
        return self.pairs.image(sha256)
