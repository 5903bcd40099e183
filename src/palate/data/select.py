"""A smaller snapshot of the pairs that are clear, well asked for and unlike each other.

After FiFA (arXiv:2410.10166), which trains on the 5,000 pairs of Pick-a-Pic that are best by a
preference margin, the quality of the prompt and the diversity of prompts, the last one by the
entropy of nearest neighbours. How the three are weighed was not found, and the paper asks a
language model for the quality of a prompt: weights, scaling, the greedy order and the measure of
length are RECONSTRUCTED or ours, and a snapshot's record says so.

With a scorer the margin is how far it sets the two pictures apart, whichever it prefers: no label
is looked at, so that a random part of labelled pairs stays one. Without a scorer the margin is how
clear the labels are, and a labelled part is no random one any more.

Read next: `taste.py`, by what; `spread.py`, distances between texts and the greedy order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.comparison import Comparison
from palate.data.machine import Groups, Machine, Told, mean_of, opinions_of
from palate.data.pack import Pack
from palate.data.snapshot import read_imports, read_rows
from palate.data.spread import FLOOR, NEIGHBOUR, Array, entropy, pick
from palate.data.store import Snapshot, digest_rows, write_snapshot
from palate.data.synthetic import LABELLED_PART
from palate.data.taste import Taste
from palate.data.votes import PairKey, by_pair

SELECTED: Final = "selected"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a choice of pairs is like.

    Attributes:
        margin: Its mean margin.
        quality: Its prompts' mean quality.
        entropy: Of its prompts, without constants: 0 where they are unrelated, lower where alike.
        prompts: How many different ones.
    """

    margin: float
    quality: float
    entropy: float
    prompts: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was made.

    Attributes:
        snapshot: The new snapshot.
        pairs: Different pairs of pictures in it.
        of: How many there were.
        unknown: Pairs that could not be taken, because a score or a quality is missing.
        chosen: What the pairs taken are like; None where they were drawn by lot.
        lot: What as many pairs drawn by lot are like; None where these are they.
    """

    snapshot: Snapshot
    pairs: int
    of: int
    unknown: int = 0
    chosen: Figures | None = None
    lot: Figures | None = None


def select(
    snapshot: Path, out: Path, *, keep: float, taste: Taste, told: Told | None = None
) -> Selection:
    """Keep the pairs that are best together, taken one by one; their labels stay as they are.

    Records of more than two pictures become pairs.

    Args:
        snapshot: A frozen snapshot.
        out: The new snapshot's folder.
        keep: How many pairs; below 1 a share of them.
        taste: By what they are chosen.
        told: Told (done, total) pictures scored.

    Raises:
        SettingError: when `keep` makes no sense.
        DataError: when the snapshot is damaged, or holds too few pairs.
        StateError: when `out` exists.
    """
    rows, groups, pack = _open(snapshot)
    count = _count(keep, len(groups))
    offer = _offered(groups, taste, pack, told)
    known = np.isfinite(offer.worth)
    _enough(count, int(known.sum()), len(groups))
    taken = pick(
        np.where(known, offer.worth, -np.inf),
        offer.place,
        offer.vectors,
        count=count,
        diversity=taste.weights.diversity,
    )
    keys = tuple(groups)
    chosen, lot = offer.figures(taken), offer.figures(_drawn(keys, count, 0))
    about = {
        "by": "margin, quality and diversity",
        "margin": "clarity of the labels" if taste.machine is None else taste.machine.judge,
        "quality": taste.quality.name,
        "texts": taste.texts.name,
        "weights": {**asdict(taste.weights), "source": "ours; the paper's were not found"},
        "neighbour": NEIGHBOUR,
        "floor": FLOOR,
        "unknown": int((~known).sum()),
        "chosen": asdict(chosen),
        "by lot": asdict(lot),
    }
    kept = [keys[index] for index in taken]
    made = _write(snapshot, out, rows, groups, kept, pack, about, reads=taste.machine is None)
    return Selection(
        snapshot=made,
        pairs=count,
        of=len(groups),
        unknown=int((~known).sum()),
        chosen=chosen,
        lot=lot,
    )


def select_by_lot(snapshot: Path, out: Path, *, keep: float, seed: int) -> Selection:
    """Keep pairs drawn at random: what a choice has to be better than.

    Raises:
        SettingError: when `keep` makes no sense.
        DataError: when the snapshot is damaged, or holds too few pairs.
        StateError: when `out` exists.
    """
    rows, groups, pack = _open(snapshot)
    count = _count(keep, len(groups))
    _enough(count, len(groups), len(groups))
    keys = tuple(groups)
    kept = [keys[index] for index in _drawn(keys, count, seed)]
    about = {"by": "lot", "seed": seed}
    made = _write(snapshot, out, rows, groups, kept, pack, about, reads=False)
    return Selection(snapshot=made, pairs=count, of=len(groups))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Offer:
    """What is known of the pairs there are, [n] each; NaN where it is not known.

    Attributes:
        worth: What a pair is worth by itself.
        margin: How far its pictures are set apart.
        quality: How good its prompt is.
        place: Which of the texts is its prompt.
        vectors: [m, d] the texts' vectors.
    """

    worth: Array
    margin: Array
    quality: Array
    place: NDArray[np.int64]
    vectors: Any

    def figures(self, which: Sequence[int]) -> Figures:
        """What these pairs are like."""
        here = list(which)
        return Figures(
            margin=float(np.nanmean(self.margin[here])),
            quality=float(np.nanmean(self.quality[here])),
            entropy=entropy(self.place[here], self.vectors),
            prompts=len(set(self.place[here].tolist())),
        )


def _offered(groups: Groups, taste: Taste, pack: Pack, told: Told | None) -> _Offer:
    prompts = list(dict.fromkeys(key[0] for key in groups))
    at = {prompt: index for index, prompt in enumerate(prompts)}
    place = np.array([at[key[0]] for key in groups], np.int64)
    margin = _margin(groups, taste.machine, pack, told)
    quality = np.asarray(taste.quality.of(prompts), np.float64)[place]
    return _Offer(
        worth=taste.weights.margin * _scaled(margin) + taste.weights.quality * _scaled(quality),
        margin=margin,
        quality=quality,
        place=place,
        vectors=taste.texts.embed(prompts),
    )


def _open(snapshot: Path) -> tuple[list[Comparison], dict[PairKey, list[Comparison]], Pack]:
    rows = read_rows(snapshot)
    groups = by_pair(rows)
    return rows, {key: groups[key] for key in sorted(groups)}, Pack(snapshot)


def _count(keep: float, pairs: int) -> int:
    """How many pairs `keep` means."""
    require(
        np.isfinite(keep) and keep > 0 and (keep < 1 or keep == int(keep)),
        got=f"{keep} pairs to keep",
        need="a whole number of pairs, or a share below 1",
        fix="5000 keeps as many pairs; 0.5 half of them.",
    )
    return int(keep) if keep >= 1 else max(1, round(keep * pairs))


def _enough(count: int, known: int, pairs: int) -> None:
    require(
        count <= known,
        got=f"{pairs:,} pairs, {known:,} of which can be taken",
        need=f"at least {count:,}",
        fix="Keep fewer.",
        kind=DataError,
    )


def _drawn(keys: Sequence[PairKey], count: int, seed: int) -> list[int]:
    """Places of pairs drawn by lot; the same ones for the same seed, whatever their order."""
    streams = Streams(seed)
    return sorted(range(len(keys)), key=lambda i: streams("selected", *keys[i]).seed)[:count]


def _margin(
    groups: Groups, machine: Machine | None, pack: Pack, told: Told | None
) -> NDArray[np.float64]:
    """How far the two pictures of each pair are set apart; NaN where a score is missing."""
    if machine is not None:
        return np.abs(opinions_of(groups, [machine], pack, told).values[:, 0])
    said = [mean_of(rows, key) for key, rows in groups.items()]
    return np.array([0.0 if each is None else abs(2 * each - 1) for each in said], np.float64)


def _scaled(values: Array) -> Array:
    """Standard deviations from the mean of those that are known; 0 where all are alike."""
    known = values[np.isfinite(values)]
    spread = float(known.std()) if len(known) else 0.0
    return (values - (known.mean() if len(known) else 0.0)) / (spread or 1.0)


def _write(
    snapshot: Path,
    out: Path,
    rows: Sequence[Comparison],
    groups: Mapping[PairKey, Sequence[Comparison]],
    kept: Sequence[PairKey],
    pack: Pack,
    about: Mapping[str, Any],
    *,
    reads: bool,
) -> Snapshot:
    """The new snapshot; where labels decided, a labelled part in it is no random one."""
    imports = read_imports(snapshot)
    facts = {"original": digest_rows(rows), "pairs": len(kept), "of": len(groups)}
    note: dict[str, Any] = {SELECTED: {**facts, **about, "reads_labels": reads}}
    parts = [each[LABELLED_PART] for each in imports if LABELLED_PART in each]
    if reads and parts:
        note[LABELLED_PART] = {**parts[-1], "at_random": False}
    left = [row for key in kept for row in groups[key]]
    return write_snapshot(out, left, pack, [*imports, note])
