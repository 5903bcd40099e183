"""How far the five workers of the real human votes agree, and what their votes make of labels.

Run from the repository: `python lab/votes/agreement.py FOLDER`, where FOLDER holds the two public
files that `read.py` names and pins by digest. About a minute.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from palate.core.plain import plain
from palate.core.stats import Estimate, cluster_mean
from palate.data.agreement import (
    Ballot,
    alpha,
    ballots,
    contradictory,
    expected_flips,
    pairwise_agreement,
)
from palate.data.alpha import krippendorff_alpha
from palate.data.judges import judges_of
from palate.data.models import models_of
from palate.data.shares import pooled_share
from palate.data.skill import fit_skills
from palate.data.soft import AGGREGATIONS
from palate.data.votes import votes_of
from read import DIGESTS, METRICS, Rated, comparisons, pairs_of, read


def agreement(rated: list[Rated]) -> dict[str, Any]:
    """What the workers' orders and ratings say of their agreement."""
    rows = comparisons(rated)
    votes = votes_of(rows)
    judged = ballots(votes)
    strict = [Ballot(pair=each.pair, said=each.strict) for each in judged]
    ratings = [list(each.ratings.values()) for each in rated]
    items = [each.item for each in rated]
    skills = fit_skills(judged)
    opposite = sum(len(set(each.strict.values())) == 2 for each in judged)
    return {
        "pictures": len(rated),
        "pairs": len(judged),
        "votes": len(votes),
        "ties": sum(vote.first == 0.5 for vote in votes),
        "pairs_with_two_strict_votes": sum(len(each.strict) > 1 for each in judged),
        "pairs_with_opposite_votes": opposite,
        "contradictory": _plain(contradictory(judged)),
        "two_workers_agree": _plain(pairwise_agreement(judged)),
        "expected_flips": _plain(expected_flips(judged)),
        "alpha_of_pairs": _plain(alpha(judged)),
        "alpha_of_pairs_ties_between": _plain(alpha(judged, level="interval")),
        "alpha_of_strict_votes": _plain(alpha(strict)),
        "alpha_of_ratings": {
            level: _plain(krippendorff_alpha(ratings, items, level=level))
            for level in ("nominal", "ordinal", "interval")
        },
        "workers": [
            {**each.asdict(), "right_by_dawid_skene": skills.right(each.judge)}
            for each in judges_of(votes, judged)
        ],
        "models": [each.asdict() for each in models_of(rows, votes)],
    }


def metrics(rated: list[Rated]) -> dict[str, Any]:
    """How often each metric puts two pictures in the order of the workers' mean ratings."""
    pairs = [(a, b, a.mean - b.mean) for a, b in pairs_of(rated) if a.mean != b.mean]
    found = {}
    for name in METRICS:
        gaps = [(a.scores[name] - b.scores[name], order) for a, b, order in pairs]
        same = [0.5 if gap == 0 else float((gap > 0) == (order > 0)) for gap, order in gaps]
        found[name] = {
            "agrees": sum(value == 1.0 for value in same),
            "tied": sum(value == 0.5 for value in same),
            "pairs": len(same),
            "share": _plain(pooled_share(same, [a.item for a, _, _ in pairs])),
        }
    return found


def foretelling(rated: list[Rated]) -> dict[str, Any]:
    """Labels from four workers against the fifth's vote, each worker left out in turn.

    A tie is half a vote, as in the labels.
    """
    judged = ballots(votes_of(comparisons(rated)))
    whole = {each.pair: each for each in judged}
    workers = sorted({judge for each in judged for judge in each.said})
    errors: dict[str, list[float]] = {name: [] for name in (*AGGREGATIONS, "majority", "coin")}
    sure: dict[str, list[tuple[float, float]]] = {name: [] for name in AGGREGATIONS}
    prompts: list[str] = []
    for out in workers:
        rest = [each for each in (_without(each, out) for each in judged) if each.said]
        labels = {name: by.labels(rest)[0] for name, by in AGGREGATIONS.items()}
        for each in rest:
            side = whole[each.pair].sides.get(out)
            if side is None:
                continue
            for name in AGGREGATIONS:
                label = labels[name][each.pair]
                own = side if label >= 0.5 else 1 - side
                sure[name].append((max(label, 1 - label), own))
            prompts.append(each.pair[0])
            lead = np.sign(sum(each.sides.values()) - len(each.sides) / 2)
            for name in AGGREGATIONS:
                errors[name].append((labels[name][each.pair] - side) ** 2)
            errors["majority"].append((0.5 + 0.5 * lead - side) ** 2)
            errors["coin"].append((0.5 - side) ** 2)
    return {
        name: {
            "brier": _plain(cluster_mean(values, prompts, draws=2_000)),
            "against_votes": _plain(
                cluster_mean(np.array(values) - np.array(errors["votes"]), prompts, draws=2_000)
            ),
            **({"calibration": _calibration(sure[name])} if name in sure else {}),
        }
        for name, values in errors.items()
    }


def _without(ballot: Ballot, out: str) -> Ballot:
    said = {judge: side for judge, side in ballot.said.items() if judge != out}
    return Ballot(pair=ballot.pair, said=said)


def _calibration(sure: list[tuple[float, float]]) -> list[dict[str, float]]:
    """How sure labels are, and how often the fifth worker agrees, by steps of a tenth."""
    said, right = (np.array(column) for column in zip(*sure, strict=True))
    ends = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0 + 1e-9)
    return [
        {"from": low, "n": int(held.sum()), "said": float(said[held].mean()),
         "agreed": float(right[held].mean())}
        for low, high in pairwise(ends)
        for held in [(said >= low) & (said < high)]
        if held.any()
    ]  # fmt: skip


def _plain(estimate: Estimate | None) -> Any:
    return None if estimate is None else estimate.asdict()


def main() -> None:
    """Read, count, write."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("--out", type=Path, default=Path("lab/votes/agreement.json"))
    given = words.parse_args()
    rated = read(given.folder)
    found = {
        "files": DIGESTS,
        "agreement": agreement(rated),
        "metrics": metrics(rated),
        "foretelling": foretelling(rated),
    }
    given.out.write_text(json.dumps(plain(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
