"""DeDPO's estimator on real human votes: is it unbiased, does its interval cover, is it worth it?

Run from the repository: `python lab/votes/debiased.py FOLDER --out lab/votes/debiased`, with FOLDER
the one that holds the two files `read.py` names. Five models drew each of 160 prompts; the 1,600
pairs of two models' pictures of one prompt are the population, people's label z of a pair is the
share of workers who prefer the first picture (ties half), and the *full human answer* uses all of
them. 1,000 times a quarter of the pairs is drawn at random; only these keep z. A synthetic labeler
answers on all pairs. Two kinds of answer are estimated: the win share of each of ten pairs of
models, and five Bradley-Terry strengths (sum zero, in logits).

Estimators:
  people      the drawn quarter's own labels
  coin        DeDPO's formula with a labeler that always says one half: what the formula costs
  synthetic   the labeler alone
  pooled      people's label where drawn, the labeler's elsewhere ("DPO + synthetic")
  debiased    DeDPO: targets w = g + (n/n_l)(z − g) where drawn, g elsewhere

Intervals (95 %) of `people`, `coin` and `debiased` are those of a simple random sample from a finite
population: SE² = (1 − n_l/n) · Var(z − g) / n_l, with Student's quantile. `synthetic` and `pooled` have no sampling error
of that kind: they are given the wider interval of a fresh sample of n labels, which is what
training on them believes.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from palate.core.files import digest_json
from palate.core.stats import cluster_share
from palate.core.streams import Streams
from palate.data.tuned import FOLDS, LOOSENESS, answers, fold_of, tune
from palate.data.worth import worth_of

sys.path.insert(0, str(Path(__file__).parent))
from read import METRICS, MODELS, pairs_of, read, votes_on

SHARE, SUBSETS, SEED = 0.25, 1000, 0
CLIP, TIFA = "clipscore_vitb32", "tifa_mplug-large"
# Of Student's t: a duel has 40 labels in a draw, give or take, and the strengths rest on all 400.
QUANTILE = {"share": 2.022691, "strength": 1.965927}
NAMES = sorted(MODELS.values())
DUELS = list(combinations(range(5), 2))
# What a difference of TIFA's share of right answers is multiplied by for soft labels: ours, chosen
# before looking at any result. CLIPScore is in the unit of CLIP's own logits: 1.
TIFA_SHARPNESS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """The population.

    Attributes:
        people: [n] share of workers who prefer the first picture.
        gaps: By metric, [n] the first picture's score minus the second's.
        duel: [n] which of the ten pairs of models.
        prompts: [n] the prompt.
    """

    people: np.ndarray
    gaps: Mapping[str, np.ndarray]
    duel: np.ndarray
    prompts: Sequence[str]


def load(folder: Path) -> Votes:
    """The 1,600 pairs, the first picture by the model whose name comes first."""
    pairs = pairs_of(read(folder))
    votes = [list(votes_on(*pair).values()) for pair in pairs]
    return Votes(
        people=np.array([0.5 + 0.5 * np.mean(each) for each in votes]),
        gaps={
            name: np.array([a.scores[name] - b.scores[name] for a, b in pairs]) for name in METRICS
        },
        duel=np.array(
            [DUELS.index((NAMES.index(a.model), NAMES.index(b.model))) for a, b in pairs]
        ),
        prompts=[a.item for a, _ in pairs],
    )


def draws(count: int, pairs: int, share: float = SHARE) -> np.ndarray:
    """[count, pairs] which pairs people labelled: as many each time, all sets equally likely."""
    streams, drawn = Streams(SEED), np.zeros((count, pairs), bool)
    for which in range(count):
        drawn[which, streams("votes", which).permutation(pairs)[: round(share * pairs)]] = True
    return drawn


def labelers(votes: Votes, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """[1 or subsets, n] what each labeler says; tuned ones depend on what was drawn."""
    clip, tifa = votes.gaps[CLIP], votes.gaps[TIFA]
    every = np.stack([votes.gaps[name] for name in METRICS], 1)
    return {
        "clip hard": (0.5 + 0.5 * np.sign(clip))[None],
        "clip soft": answers(clip[:, None], np.ones(1))[None],
        "clip tuned": crossed(clip[:, None], votes, drawn),
        "tifa hard": (0.5 + 0.5 * np.sign(tifa))[None],
        "tifa soft": answers(tifa[:, None], np.array([TIFA_SHARPNESS]))[None],
        "tifa tuned": crossed(tifa[:, None], votes, drawn),
        "ten metrics tuned": crossed(every, votes, drawn),
    }


def crossed(opinions: np.ndarray, votes: Votes, drawn: np.ndarray) -> np.ndarray:
    """[subsets, n] cross-fitted answers for every subset: `palate.data.tuned.tune`, all at once.

    The folds are those of one seed throughout. Checked against `tune` on the first subset.
    """
    fold = fold_of(votes.prompts, seed=SEED)
    scaled = opinions / np.sqrt(np.square(opinions).mean(0))
    said = np.empty(drawn.shape)
    for which in range(FOLDS):
        weights = fitted(scaled, votes.people, drawn & (fold != which))
        mine = fold == which
        said[:, mine] = 1 / (1 + np.exp(-weights @ scaled[mine].T))
    first = tune(opinions, np.where(drawn[0], votes.people, np.nan), votes.prompts, seed=SEED)
    off = np.abs(said[0] - first.agreement).max()
    assert off < 1e-5, f"not the library's own answer: {off}"
    return said


def fitted(scaled: np.ndarray, people: np.ndarray, used: np.ndarray) -> np.ndarray:
    """[subsets, k] ridge-penalised logistic regressions by Newton's method, all at once."""
    kind, pairs = (
        used.astype(float),
        (scaled[:, :, None] * scaled[:, None, :]).reshape(len(people), -1),
    )
    size = scaled.shape[1]
    weights = np.zeros((len(used), size))
    for _ in range(12):
        chance = 1 / (1 + np.exp(-weights @ scaled.T))
        slope = (kind * (people - chance)) @ scaled - weights / LOOSENESS
        bend = ((kind * chance * (1 - chance)) @ pairs).reshape(-1, size, size)
        bend += np.eye(size) / LOOSENESS
        weights += np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Estimates from every subset, [subsets, estimands], and their standard errors."""

    value: np.ndarray
    error: np.ndarray


def by_duel(values: np.ndarray, duel: np.ndarray) -> np.ndarray:
    """[subsets, 10] sums over the pairs of each duel."""
    return values @ np.eye(len(DUELS))[duel]


def shares(target: np.ndarray, noise: np.ndarray, duel: np.ndarray) -> Answer:
    """Win share per duel: the mean of targets, with noise² the variance of that mean."""
    return Answer(value=by_duel(target, duel) / np.bincount(duel), error=np.sqrt(noise))


def debiased(
    people: np.ndarray, g: np.ndarray, drawn: np.ndarray, duel: np.ndarray
) -> list[Answer]:
    """DeDPO's shares and strengths with design-based errors."""
    n, asked = len(people), int(drawn[0].sum())
    d = people - g
    target = g + (n / asked) * drawn * d
    sums, squares = by_duel(drawn * d, duel), by_duel(drawn * d**2, duel)
    left = (1 - asked / n) / asked * asked / (asked - 1)
    spread = left * (squares / asked - (sums / asked) ** 2)
    first = shares(target, spread * (n / np.bincount(duel)) ** 2, duel)
    # Of x·d, with x a duel's contrast of models: its covariance over the drawn pairs.
    mean = sums @ CONTRAST / asked
    cov = np.einsum("sd,di,dj->sij", squares / asked, CONTRAST, CONTRAST)
    cov = left * (cov - mean[:, :, None] * mean[:, None, :])
    counts = np.broadcast_to(np.bincount(duel), first.value.shape).astype(float)
    return [first, strengths(first.value, counts, cov)]


def people_alone(people: np.ndarray, drawn: np.ndarray, duel: np.ndarray) -> list[Answer]:
    """The drawn pairs' own shares and strengths with design-based errors."""
    asked, counts = int(drawn[0].sum()), by_duel(drawn.astype(float), duel)
    mean = by_duel(drawn * people, duel) / counts
    spread = (by_duel(drawn * people**2, duel) / counts - mean**2) * counts / (counts - 1)
    left = 1 - counts / np.bincount(duel)
    chance = mean + 0.0
    theta = strengths(mean, counts, None)
    expected = 1 / (1 + np.exp(-(theta.value @ FULL.T)))
    rest = by_duel(drawn * people**2, duel) - 2 * expected * by_duel(drawn * people, duel)
    rest = (rest + expected**2 * counts) / asked
    cov = np.einsum("sd,di,dj->sij", rest, CONTRAST, CONTRAST)
    cov *= (1 - asked / len(people)) / (asked - 1)
    return [
        Answer(value=chance, error=np.sqrt(left * spread / counts)),
        strengths(mean, counts, cov),
    ]


def believed(target: np.ndarray, duel: np.ndarray) -> list[Answer]:
    """Shares and strengths of targets taken for n labels, with errors of a fresh sample of n."""
    n, counts = target.shape[1], np.bincount(duel).astype(float)
    mean, square = by_duel(target, duel) / counts, by_duel(target**2, duel) / counts
    first = Answer(value=mean, error=np.sqrt((square - mean**2) / counts))
    full = np.broadcast_to(counts, mean.shape)
    expected = 1 / (1 + np.exp(-(strengths(mean, full, None).value @ FULL.T)))
    rest = (square - 2 * expected * mean + expected**2) * counts / n
    cov = np.einsum("sd,di,dj->sij", rest, CONTRAST, CONTRAST) / n
    return [first, strengths(mean, full, cov)]


def _contrasts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    full = np.zeros((len(DUELS), 5))
    for place, (one, other) in enumerate(DUELS):
        full[place, one], full[place, other] = 1.0, -1.0
    basis = np.linalg.svd(np.ones((1, 5)))[2][1:].T
    return full, basis, full @ basis


# Duel by model; models by four directions of sum zero; duel by direction.
FULL, BASIS, CONTRAST = _contrasts()


def strengths(mean: np.ndarray, counts: np.ndarray, cov: np.ndarray | None) -> Answer:
    """Bradley-Terry strengths from mean targets per duel, by Newton's method on all subsets.

    `cov` is the covariance of the mean score, [subsets, 4, 4]; errors follow by the delta method.
    """
    theta = np.zeros((len(mean), 4))
    total = counts.sum(1)[:, None]
    for _ in range(30):
        chance = 1 / (1 + np.exp(-theta @ CONTRAST.T))
        slope = (counts / total * (mean - chance)) @ CONTRAST
        bend = np.einsum(
            "sd,di,dj->sij", counts / total * chance * (1 - chance), CONTRAST, CONTRAST
        )
        theta += np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
    assert np.abs(slope).max() < 1e-9, "strengths that did not converge"
    value = theta @ BASIS.T
    if cov is None:
        return Answer(value=value, error=np.zeros_like(value))
    back = np.linalg.inv(bend)
    around = BASIS @ (back @ cov @ back) @ BASIS.T
    return Answer(value=value, error=np.sqrt(np.einsum("sii->si", around)))


def estimate(votes: Votes, drawn: np.ndarray) -> dict[tuple[str, str], list[Answer]]:
    """By labeler and estimator, the answers of every subset: shares, strengths."""
    z, duel = votes.people, votes.duel
    half = np.full((1, len(z)), 0.5)
    found = {
        ("none", "people"): people_alone(z, drawn, duel),
        ("none", "coin"): debiased(z, half, drawn, duel),
    }
    for name, g in labelers(votes, drawn).items():
        found[name, "synthetic"] = believed(np.broadcast_to(g, drawn.shape), duel)
        found[name, "pooled"] = believed(np.where(drawn, z, g), duel)
        found[name, "debiased"] = debiased(z, g, drawn, duel)
    return found


ESTIMANDS = {
    "share": [f"{NAMES[one]} over {NAMES[other]}" for one, other in DUELS],
    "strength": NAMES,
}


def rows_of(votes: Votes, drawn: np.ndarray) -> list[dict[str, object]]:
    """One row per labeler, estimator and estimand, and one for all of a kind."""
    z = votes.people[None]
    everything = believed(z, votes.duel)
    rows: list[dict[str, object]] = []
    for (labeler, estimator), answers_of in estimate(votes, drawn).items():
        for (kind, names), truth, got in zip(
            ESTIMANDS.items(), everything, answers_of, strict=True
        ):
            off = got.value - truth.value
            inside = np.abs(off) <= QUANTILE[kind] * got.error
            for place, name in enumerate([*names, "all"]):
                at = slice(None) if name == "all" else slice(place, place + 1)
                hits = inside[:, at].astype(float)
                subset = np.repeat(np.arange(len(hits)), hits.shape[1])
                cover = cluster_share(hits.ravel(), subset)
                bias = off[:, at].mean(0)
                rows.append(
                    {
                        "labeler": labeler, "estimator": estimator, "kind": kind, "of": name,
                        "truth": None if name == "all" else round(float(truth.value[0, place]), 5),
                        # Of all: root mean square over estimands; the noise of 1,000 draws beside it.
                        "bias": round(float(bias[0] if name != "all" else rms(bias)), 5),
                        "bias_noise": round(float(rms(off[:, at].std(0, ddof=1)) / len(off) ** 0.5), 5),
                        "sd": round(float(rms(off[:, at].std(0, ddof=1))), 5),
                        "rmse": round(float(rms(off[:, at])), 5),
                        "said_error": round(float(rms(got.error[:, at])), 5),
                        "coverage": round(cover.value, 4), "low": round(cover.low, 4),
                        "high": round(cover.high, 4), "subsets": len(off),
                    }
                )  # fmt: skip
    return rows


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def worths(votes: Votes, drawn: np.ndarray, rows: Sequence[Mapping]) -> dict[str, object]:
    """What the package itself says of each labeler on the first subset, and what came true."""
    told: dict[str, object] = {}
    for name, g in labelers(votes, drawn[:1]).items():
        people = np.where(drawn[0], votes.people, np.nan)
        one = worth_of(name, g[0], people, votes.prompts)
        every = np.square(votes.people - g[0]).mean() / np.square(votes.people - 0.5).mean()
        # What it foretells: the variance of DeDPO's answers over that of the coin's.
        found = {row["kind"]: row["sd"] ** 2 for row in rows if _is(row, name, "debiased")}
        coin = {row["kind"]: row["sd"] ** 2 for row in rows if _is(row, "none", "coin")}
        met = {kind: round(found[kind] / coin[kind], 4) for kind in found}
        told[name] = {**one.asdict(), "ratio_on_all_pairs": float(every), "variance_ratio": met}
    return told


def _is(row: Mapping, labeler: str, estimator: str) -> bool:
    return (row["labeler"], row["estimator"], row["of"]) == (labeler, estimator, "all")


def main() -> None:
    """Everything, into a JSON and a CSV file."""
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--subsets", type=int, default=SUBSETS)
    told = asked.parse_args()
    started = time.perf_counter()
    votes = load(told.folder)
    drawn = draws(told.subsets, len(votes.people))
    rows = rows_of(votes, drawn)
    with told.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    facts = {
        "pairs": len(votes.people), "labelled": int(drawn[0].sum()), "subsets": told.subsets,
        "seed": SEED, "draws": digest_json(drawn.astype(int).sum(0).tolist()),
        "coin": float(np.square(votes.people - 0.5).mean()), "worth": worths(votes, drawn, rows),
        "all": [row for row in rows if row["of"] == "all"],
    }  # fmt: skip
    told.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    for row in facts["all"]:
        print(*(f"{value!s:>18}" for value in row.values()))
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
