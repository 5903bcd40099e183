"""The shipped pictures with labels made anew, so that it is known which of them are wrong.

Two kinds: `flip05` … `flip40`, the true reward's labels of which a fixed share was turned round;
and `minority20`, labels by a population in which one judge in five has the opposite taste, with
Bradley-Terry noise and one wrong button in twenty. A label is wrong where it is not what most
people would say: there, the sign of the population's mean chance. Seeds move which labels.
"""

import csv
from pathlib import Path

from palate.core.streams import Streams
from palate.data.comparison import Comparison, compare
from palate.data.flips import flip, flipped_ids
from palate.data.pack import Pack
from palate.data.snapshot import read_rows
from palate.data.sources import import_comparisons
from palate.data.store import Store, write_snapshot
from palate.recipes.demo import PAIRS
from palate.world import MAJORITY, OPPOSITE, Judge, Preference, parts, population, weigh

FLIPS = {"flip05": 0.05, "flip10": 0.1, "flip20": 0.2, "flip30": 0.3, "flip40": 0.4}
MINORITY = "minority20"
CONDITIONS = ("flip20", MINORITY, "flip40", "flip10", "flip30", "flip05")
JUDGES, SHARE = 20, 0.2


def labelled(condition: str, seed: int, work: Path) -> tuple[Path, dict[str, dict[str, float]]]:
    """A snapshot, and of each record: whether it is wrong, by a dissenter, and how clear it is."""
    told, out = pictures(work), work / "data" / f"{condition}-{seed}"
    gaps = gaps_of(told, work / "gaps.csv")
    if condition in FLIPS:
        clean = work / "data" / "clean"
        if not clean.exists():
            rows = [_by_truth(row, gaps) for row in read_rows(told)]
            write_snapshot(clean, rows, Pack(told), [])
        if not out.exists():
            flip(clean, out, share=FLIPS[condition], seed=seed)
    elif not out.exists():
        rows = [_by_people(row, gaps, seed) for row in read_rows(told)]
        write_snapshot(out, rows, Pack(told), [])
    turned = flipped_ids(out)
    return out, {row.id: _truth(row, gaps, seed, turned, condition) for row in read_rows(out)}


def pictures(work: Path) -> Path:
    """The shipped pairs as a snapshot."""
    folder = work / "told-snapshot"
    if not folder.exists():
        store = Store(work / "told")
        import_comparisons(store, "pickapic", PAIRS, labels="world")
        store.freeze(folder)
    return folder


Gaps = dict[str, tuple[float, float]]


def _key(row: Comparison) -> str:
    return row.prompt


def gaps_of(told: Path, file: Path) -> Gaps:
    """By prompt: what the first picture by digest is worth more, to the majority and the others."""
    if not file.exists():
        pack, lines = Pack(told), []
        for row in read_rows(told):
            names = sorted(image.sha256 for image in row.images)
            one, other = (parts(pack.get(name), row.prompt) for name in names)
            lines.append([row.prompt, *(weigh(one, t) - weigh(other, t) for t in _TASTES)])
        with file.open("w", newline="") as opened:
            csv.writer(opened).writerows(lines)
    with file.open(newline="") as opened:
        return {prompt: (float(a), float(b)) for prompt, a, b in csv.reader(opened)}


_TASTES = (MAJORITY, OPPOSITE)


def first_by_digest(row: Comparison) -> bool:
    """Whether the record's first picture is the first by digest."""
    return row.images[0].sha256 < row.images[1].sha256


def _by_truth(row: Comparison, gaps: Gaps) -> Comparison:
    better = (gaps[_key(row)][0] > 0) == first_by_digest(row)
    return compare(prompt=row.prompt, images=row.images, ranks=(1, 2) if better else (2, 1),
                   judge="truth", source="world")  # fmt: skip


def _asked(row: Comparison, seed: int) -> Judge:
    people = population(JUDGES, seed, minority=SHARE, flip_rate=0.05)
    return people[Streams(seed)("who", row.prompt).integer(0, JUDGES)]


def _by_people(row: Comparison, gaps: Gaps, seed: int) -> Comparison:
    judge = _asked(row, seed)
    gap = gaps[_key(row)][judge.taste == OPPOSITE]
    answer = judge.prefer_by(gap, Streams(seed)("answer", row.prompt))
    better = (answer is Preference.A) == first_by_digest(row)
    return compare(prompt=row.prompt, images=row.images, ranks=(1, 2) if better else (2, 1),
                   judge=judge.id, source="world")  # fmt: skip


def more_votes(
    row: Comparison, count: int, condition: str, seed: int, gaps: Gaps
) -> list[tuple[str, bool]]:
    """Further judges of a record and whether each prefers the first picture by digest."""
    gap, streams = gaps[_key(row)], Streams(seed)
    found: list[tuple[str, bool]] = []
    for number in range(count):
        if condition in FLIPS:
            turned = streams("more flips", number, row.prompt).uniform() < FLIPS[condition]
            found.append((f"more {number}", (gap[0] > 0) != turned))
            continue
        people = population(JUDGES, seed, minority=SHARE, flip_rate=0.05)
        judge = people[streams("more who", number, row.prompt).integer(0, JUDGES)]
        said = judge.prefer_by(
            gap[judge.taste == OPPOSITE], streams("more answer", number, row.prompt)
        )
        found.append((f"more {number}", said is Preference.A))
    return found


def _truth(
    row: Comparison, gaps: Gaps, seed: int, turned: frozenset[str], condition: str
) -> dict[str, float]:
    majority, opposite = gaps[_key(row)]
    if condition in FLIPS:
        return {"wrong": float(row.id in turned), "dissent": 0.0, "clear": abs(majority)}
    one, other = (population(2, seed, minority=m, flip_rate=0.05)[0] for m in (0.0, 1.0))
    most = (1 - SHARE) * one.chance(majority) + SHARE * other.chance(opposite)
    said = (row.ranks == (1, 2)) == first_by_digest(row)
    return {
        "wrong": float(said != (most > 0.5)),
        "dissent": float(_asked(row, seed).taste == OPPOSITE),
        "clear": abs(majority),
    }
