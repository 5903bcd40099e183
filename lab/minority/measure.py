"""How well each detector finds the wrong labels: order, precision, calibration, and where it fails.

Run from the repository, at any time after `adaptive.py` has begun; what is not there yet is left
out: `python lab/minority/measure.py --work runs/minority --out lab/minority`.

All detectors of a condition and seed are measured on the same pairs: those the adaptive run of
that seed visited after its warm-up. Intervals per seed resample pairs (each has a prompt of its
own); `table.py` takes means over seeds with Student's interval.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from labels import CONDITIONS, FLIPS, first_by_digest, gaps_of, labelled, more_votes, pictures

from palate.audit.calibration import FLIPS as FLIPPED
from palate.audit.calibration import PEOPLE
from palate.audit.crossfit import picture_numbers
from palate.audit.minority import (
    PairEvidence,
    RunEvidence,
    doubts_by_foretelling,
    doubts_by_margins,
    doubts_by_votes,
)
from palate.backbones import load
from palate.core.files import read_json, write_json
from palate.core.streams import Streams
from palate.data.comparison import Comparison
from palate.data.pack import Pack
from palate.data.pairs import PreferencePairs
from palate.data.snapshot import read_rows
from palate.data.votes import Vote, key_of
from palate.recipes.margins import model_scores, open_desk

torch.set_num_threads(1)
PRODUCT, WARM_UP, DRAWS = "adaptive: product u", 2, 1000
FEWER, SIZES = ("flip20", "minority20"), (100, 250, 500, 1000, 2000)
BEST = "pictures + model"
Array = np.ndarray


def features(work: Path) -> dict[str, dict[str, Array]]:
    """Name of a set → prompt → what is known of the first picture by digest minus the second."""
    told = pictures(work)
    pairs, base = PreferencePairs.open(told, ties="half"), load("shipped")
    desk = open_desk(base, pairs, work / "cache")
    scores = model_scores(base, pairs, desk, work / "cache" / "errors")
    pack, found = Pack(told), {"pictures": {}, "model": {}}
    for row in read_rows(told):
        one, other = sorted(image.sha256 for image in row.images)
        plain = [np.array([*picture_numbers(pack.get(name)).values()]) for name in (one, other)]
        found["pictures"][row.prompt] = plain[0] - plain[1]
        found["model"][row.prompt] = np.array(
            [known[row.prompt, one] - known[row.prompt, other] for known in scores.values()]
        )
    return found


def scores_of(
    condition: str, seed: int, work: Path, known: dict[str, dict[str, Array]]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], dict[str, Any]]:
    """Detector → record → doubt (or a ranking alone); the truth; estimated rates."""
    data, truth = labelled(condition, seed, work)
    rows = read_rows(data)
    ids, prompts = [row.id for row in rows], [row.prompt for row in rows]
    first = np.array([float((row.ranks == (1, 2)) == first_by_digest(row)) for row in rows])
    found: dict[str, dict[str, float]] = dict(_adaptive(work, condition, seed))
    sets = {name: np.stack([known[name][prompt] for prompt in prompts]) for name in known}
    sets[BEST] = np.concatenate([sets["pictures"], sets["model"]], axis=1)
    crossed = _margins(work, "cross", condition, seed)
    rates: dict[str, Any] = {}
    # Doubts are made under the assumption that holds in this condition, and once under the other.
    noise, other = (FLIPPED, PEOPLE) if condition in FLIPS else (PEOPLE, FLIPPED)
    votes = _votes(rows, first, 0, condition, seed, work)
    if crossed is not None:
        held = doubts_by_margins(crossed, noise)
        found["cross-fitted: margins"], rates["cross-fitted: margins"] = held.doubt, held.rate
        signs = np.where(first > 0.5, 1.0, -1.0)
        margin = np.array([crossed.pairs[name].margin for name in ids]) * signs
        sets["pictures + model + margins"] = np.column_stack([sets[BEST], margin])
    for name, table in sets.items():
        made = doubts_by_foretelling(votes, table, detector=name, noise=noise, seed=seed)
        found[f"foretold: {name}"], rates[f"foretold: {name}"] = made.doubt, made.rate
    made = doubts_by_foretelling(votes, sets[BEST], detector=BEST, noise=other, seed=seed)
    name = f"foretold: {BEST}, the other assumption"
    found[name], rates[name] = made.doubt, made.rate
    own = _margins(work, "own", condition, seed)
    if own is not None:
        found["adaptive: margin, 8 draws at the end"] = {
            name: -each.margin for name, each in own.pairs.items()
        }
    for extra in (2, 4):
        several = _votes(rows, first, extra, condition, seed, work)
        alone, known_too = (
            doubts_by_votes(several),
            np.repeat(sets[BEST], extra + 1, axis=0),
        )
        made = doubts_by_foretelling(several, known_too, detector="both", noise=noise, seed=seed)
        assert alone is not None
        name = f"{extra + 1} votes per pair"
        found[f"votes: {name}"], rates[f"votes: {name}"] = alone.doubt, alone.rate
        name = f"foretold: {BEST}, {name}"
        found[name], rates[name] = made.doubt, made.rate
    return found, truth, rates


def _adaptive(work: Path, condition: str, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """What an adaptive run recorded, means over visits after the warm-up."""
    log = work / "adaptive" / f"{condition}-{seed}" / "pairs.jsonl"
    if not (log.parent / "export").exists():
        return
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    parts = {
        PRODUCT: ("minority", 1),
        "adaptive: bias alone": ("bias", 1),
        "adaptive: spread alone": ("spread", 1),
        "adaptive: margin, as seen": ("seen", -1),
    }
    for name, (key, sign) in parts.items():
        said: dict[str, list[float]] = {}
        for row in (row for row in rows if row["step"] > WARM_UP):
            said.setdefault(row["pair"], []).append(sign * row[key])
        yield name, {pair: float(np.mean(values)) for pair, values in said.items()}
    late = {row["pair"]: row["minority"] for row in rows if row["step"] > 30}
    yield "adaptive: product u, second half", late


def _margins(work: Path, kind: str, condition: str, seed: int) -> RunEvidence | None:
    file = work / "margins" / f"{kind}-{condition}-{seed}.json"
    if not file.exists():
        return None
    told = json.loads(file.read_text())
    pairs = {name: PairEvidence(**each) for name, each in told["pairs"].items()}
    return RunEvidence(run=told["run"], draws=8, pairs=pairs)


def _votes(
    rows: list[Comparison], first: Array, extra: int, condition: str, seed: int, work: Path
) -> list[Vote]:
    """The recorded label of each pair and some more people's."""
    gaps, votes = gaps_of(pictures(work), work / "gaps.csv"), []
    for row, own in zip(rows, first, strict=True):
        said = [(row.id, float(own))]
        said += [(f"{row.id} {who}", float(one))
                 for who, one in more_votes(row, extra, condition, seed, gaps)]  # fmt: skip
        votes += [
            Vote(
                pair=key_of(row), judge=name, source="world", first=one, shown_first=None, row=name
            )
            for name, one in said
        ]
    return votes


def resampled(n: int, seed: int) -> Array:
    """How often each pair is drawn, [draws + 1, n]; the first row is every pair once."""
    generator = Streams(seed)("measure", n).numpy()
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    return np.concatenate([np.ones((1, n)), drawn])


def order(scores: Array, wrong: Array, counts: Array) -> tuple[Array, Array]:
    """Area under the curve, and share of wrong ones in the first tenth, for every resampling."""
    falling = np.argsort(-scores, kind="stable")
    weight, bad = counts[:, falling], wrong[falling]
    positive, negative = weight * bad, weight * (1 - bad)
    above = np.cumsum(negative[:, ::-1], axis=1)[:, ::-1] - negative / 2
    area = (positive * above).sum(1) / (positive.sum(1) * negative.sum(1))
    head = np.cumsum(weight, axis=1) <= 0.1 * weight.sum(1, keepdims=True)
    return area, (positive * head).sum(1) / (weight * head).sum(1)


def ends(values: Array) -> list[float]:
    """The value, and the middle 95 % of its resamplings."""
    return [round(float(v), 4) for v in (values[0], *np.percentile(values[1:], [2.5, 97.5]))]


def reliability(doubt: Array, wrong: Array) -> list[tuple[float, float, int]]:
    """Ten bins of equal size: mean doubt, share of wrong labels, labels."""
    parts = np.array_split(np.argsort(doubt, kind="stable"), 10)
    return [(float(doubt[p].mean()), float(wrong[p].mean()), len(p)) for p in parts]


def measured(
    condition: str, seed: int, work: Path, known: dict[str, dict[str, Array]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the table of detectors, of reliability, and of where they fail."""
    found, truth, rates = scores_of(condition, seed, work, known)
    common = sorted(found.get(PRODUCT, truth))
    wrong = np.array([truth[name]["wrong"] for name in common])
    dissent = np.array([truth[name]["dissent"] for name in common])
    clear = np.array([truth[name]["clear"] for name in common])
    quarter = np.searchsorted(np.quantile(clear, [0.25, 0.5, 0.75]), clear)
    counts = resampled(len(common), seed)
    areas: dict[str, tuple[Array, Array]] = {}
    table, bins, failures = [], [], []
    for name in sorted(found, key=lambda each: (each != PRODUCT, each)):
        has = np.array([pair in found[name] for pair in common])
        scores = np.array([found[name].get(pair, 0.0) for pair in common])[has]
        areas[name] = order(scores, wrong[has], counts[:, has])
        row: dict[str, Any] = {
            "condition": condition, "seed": seed, "detector": name, "pairs": int(has.sum()),
            "wrong": round(float(wrong[has].mean()), 4),
        }  # fmt: skip
        row |= dict(zip(("auc", "auc_low", "auc_high"), ends(areas[name][0]), strict=True))
        row |= dict(zip(("top10", "top10_low", "top10_high"), ends(areas[name][1]), strict=True))
        probable = name in rates or name == PRODUCT
        gap = reliability(scores, wrong[has])
        row["brier"] = round(float(np.square(scores - wrong[has]).mean()), 4) if probable else ""
        row["calibration_error"] = (
            round(float(np.mean([abs(d - w) for d, w, _ in gap])), 4) if probable else ""
        )
        rate = rates.get(name)
        if probable:
            bins += [
                {"condition": condition, "seed": seed, "detector": name, "bin": at,
                 "doubt": round(d, 4), "wrong": round(w, 4), "pairs": n}
                for at, (d, w, n) in enumerate(gap)
            ]  # fmt: skip
        told = ["", "", ""] if rate is None else [round(rate.value, 4), rate.low, rate.high]
        row |= dict(zip(("rate", "rate_low", "rate_high"), told, strict=True))
        over = ["", "", "", ""]
        if PRODUCT in areas and has.all():
            over = [*ends(areas[name][0] - areas[PRODUCT][0])]
            over += [ends(areas[name][1] - areas[PRODUCT][1])[0]]
        row |= dict(zip(("auc_over_u", "over_low", "over_high", "top10_over_u"), over, strict=True))
        table.append(row)
        for part in range(4):
            mine = quarter[has] == part
            area = order(scores[mine], wrong[has][mine], np.ones((1, int(mine.sum()))))[0][0]
            failures.append(
                {"condition": condition, "seed": seed, "detector": name,
                 "part": f"clearness, quarter {part + 1}", "pairs": int(mine.sum()),
                 "wrong": round(float(wrong[has][mine].mean()), 4), "auc": round(float(area), 4)}
            )  # fmt: skip
        if condition not in FLIPS:
            area = order(scores, dissent[has], np.ones((1, int(has.sum()))))[0][0]
            failures.append(
                {"condition": condition, "seed": seed, "detector": name, "part": "by a dissenter",
                 "pairs": int(has.sum()), "wrong": round(float(dissent[has].mean()), 4),
                 "auc": round(float(area), 4)}
            )  # fmt: skip
    return table, bins, failures


def once(
    condition: str, seed: int, work: Path, known: dict[str, dict[str, Array]]
) -> list[list[dict[str, Any]]]:
    """The rows of `measured`, from a file where the same runs were measured before."""
    there = [work / "adaptive" / f"{condition}-{seed}" / "export"]
    there += [work / "margins" / f"{kind}-{condition}-{seed}.json" for kind in ("cross", "own")]
    name = "".join(str(int(each.exists())) for each in there)
    file = work / "measured" / f"{condition}-{seed}-{name}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        write_json(file, list(measured(condition, seed, work, known)))
    return read_json(file)


def smaller(
    seed: int, work: Path, known: dict[str, dict[str, Array]], condition: str
) -> Iterator[dict[str, Any]]:
    """The same with fewer pairs: how many it takes to foretell anything."""
    data, truth = labelled(condition, seed, work)
    rows = read_rows(data)
    order_of = np.array(Streams(seed)("fewer", condition).permutation(len(rows)))
    for size in SIZES:
        few = [rows[int(at)] for at in order_of[:size]]
        first = np.array([float((row.ranks == (1, 2)) == first_by_digest(row)) for row in few])
        table = np.stack(
            [np.concatenate([known[k][row.prompt] for k in ("pictures", "model")]) for row in few]
        )
        votes = _votes(few, first, 0, condition, seed, work)
        noise = FLIPPED if condition in FLIPS else PEOPLE
        made = doubts_by_foretelling(votes, table, detector="fewer", noise=noise, seed=seed)
        doubt = np.array([made.doubt[row.id] for row in few])
        wrong = np.array([truth[row.id]["wrong"] for row in few])
        areas, heads = order(doubt, wrong, resampled(size, seed))
        yield {
            "condition": condition, "seed": seed, "pairs": size, "wrong": round(wrong.mean(), 4),
            **dict(zip(("auc", "auc_low", "auc_high"), ends(areas), strict=True)),
            "top10": ends(heads)[0],
            "brier": round(float(np.square(doubt - wrong).mean()), 4),
            "rate": round(made.rate.value, 4), "rate_low": made.rate.low,
            "rate_high": made.rate.high,
        }  # fmt: skip


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """A table, whole."""
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Measure what is there, and write four tables."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--work", type=Path, default=Path("runs/minority"))
    asked.add_argument("--out", type=Path, required=True)
    told = asked.parse_args()
    known = features(told.work)
    written: dict[str, list[dict[str, Any]]] = {"detectors": [], "reliability": [], "failures": []}
    for condition in sorted(CONDITIONS):
        for seed in told.seeds:
            parts = once(condition, seed, told.work, known)
            for name, rows in zip(tuple(written), parts, strict=True):
                written[name] += rows
                write(told.out / f"{name}.csv", written[name])
            print(condition, seed, flush=True)  # noqa: T201
    few = [
        row for condition in FEWER for seed in told.seeds
        for row in smaller(seed, told.work, known, condition)
    ]  # fmt: skip
    write(told.out / "sizes.csv", few)


if __name__ == "__main__":
    main()
