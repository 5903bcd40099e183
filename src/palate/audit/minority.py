r"""Which recorded labels look like a minority's: a probability for each, from what else is known.

Three kinds of evidence, each giving every record a *doubt*, the probability that its label is not
what most people would say:

- several votes on a pair: how probable it is that the majority of everybody is on the other side;
- what was foretold of the label by models that never saw the pair (`crossfit.py`);
- a training run's implicit margins, held out or not, and an adaptive run's own minority metric.

What was foretold, the log-odds $z$ that a clean label would be as recorded, becomes a doubt by
assuming that a share ε of clean labels was turned round, whatever the pair:

$$p = (1-\epsilon)\,q + \epsilon\,(1-q), \qquad q = \sigma(s z), \qquad
\text{doubt} = \epsilon\,(1-q)/p$$

ε and the sharpness s are not known; the doubt is averaged over what the labels leave open of both
(a flat prior on a grid). Where turned labels are not spread alike over pairs (people disagree most
where pictures are nearly equal), the order holds and the level is off: `docs/minority.md` measures.

Read next: `crossfit.py`; `palate/recipes/doubts.py`, which asks runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import betaln
from scipy.stats import beta

from palate.audit.crossfit import foretold
from palate.core.problems import DataError, require
from palate.core.stats import Estimate, cluster_mean
from palate.data.votes import PairKey, Vote

Array = NDArray[np.float64]
RATES: Final = np.linspace(0.0025, 0.4975, 100)
SHARPNESS: Final = np.geomspace(0.05, 20.0, 61)
# Concentrations of the spread of taste over pairs: from one mind to anything goes.
CONCENTRATIONS: Final = np.geomspace(0.02, 20.0, 61)
# Less than this of what is left open changes no doubt that anybody could see.
NEGLIGIBLE: Final = 1e-6


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PairEvidence:
    """What a run says of one pair's recorded label.

    Attributes:
        margin: Mean over draws of how much more the run gained on the recorded winner than on
            the loser, in mean squared error; negative speaks against the label.
        spread: Standard deviation over draws.
        held_out: Whether the run is known never to have learned from the pair's prompt.
        minority: The adaptive run's metric u, mean over the pair's visits; None where the run
            recorded none.
        visits: How many visits that is the mean of.
    """

    margin: float
    spread: float
    held_out: bool
    minority: float | None = None
    visits: int = 0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """What a run, or several that each left out a part, say of a snapshot's pairs.

    Attributes:
        run: Digest of the run's settings.
        draws: Levels, each with its noise, behind every margin.
        pairs: Id of a strict pair → what is said of it.
        scores: Name → (prompt, picture) → number: what the model the run started from says of the
            pictures by its own errors, without having seen a label.
    """

    run: str
    draws: int
    pairs: Mapping[str, PairEvidence]
    scores: Mapping[str, Mapping[tuple[str, str], float]] = field(
        default_factory=dict[str, Mapping[tuple[str, str], float]]
    )

    @property
    def held_out(self) -> bool:
        """Whether no pair was learned from."""
        return all(each.held_out for each in self.pairs.values())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    """A probability for each record that its label is not what most people would say.

    Attributes:
        detector: How it was found, in words.
        doubt: Id of a record → its probability.
        rate: The share of such labels in the snapshot.
        assumes: What the probabilities rest on, in one sentence.
    """

    detector: str
    doubt: Mapping[str, float]
    rate: Estimate
    assumes: str

    def ranked(self) -> list[tuple[str, float]]:
        """Records and their doubts, the most doubtful first."""
        return sorted(self.doubt.items(), key=lambda each: (-each[1], each[0]))


def flip_posterior(foretold: Float[np.ndarray, " n"], rate: float) -> Float[np.ndarray, " n"]:
    """Probability that each label was turned round, from how probable it was as recorded, [n].

    `foretold` is calibrated for the labels as they are, turned ones among them: p above. q is
    cut to [0, 1] where p goes beyond what ε allows.

    Raises:
        SettingError: when the rate is not in [0, 1/2).
    """
    require(
        0 <= rate < 0.5,
        got=f"a flip rate of {rate}",
        need="a share from 0 to below one half",
        fix="At one half labels say nothing.",
    )
    clean = np.clip((foretold - rate) / (1 - 2 * rate), 0.0, 1.0)
    recorded = (1 - rate) * clean + rate * (1 - clean)
    return rate * (1 - clean) / np.maximum(recorded, 1e-12)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What held-out labels leave open of the flip rate ε and the sharpness s.

    Attributes:
        weight: Probability of each rate with each sharpness, [r, s].
        scale: What log-odds are divided by: their root mean square.
        n: Labels it was learned from.
    """

    weight: Float[np.ndarray, "r s"]
    scale: float
    n: int

    @classmethod
    def of(cls, logits: Float[np.ndarray, " n"], rate: float | None = None) -> "Calibration":
        """Learn from log-odds that labels are as recorded, by models that never saw them.

        Args:
            logits: One per label; positive speaks for it. Any unit will do.
            rate: The flip rate, where it is known from elsewhere, such as agreement.
        """
        scale = max(float(np.sqrt(np.square(logits).mean())), 1e-12)
        rates = RATES if rate is None else RATES[[int(np.abs(RATES - rate).argmin())]]
        likely = np.full((len(RATES), len(SHARPNESS)), -np.inf)
        for column, sharpness in enumerate(SHARPNESS):
            clean = _sigmoid(sharpness * logits / scale)
            for each in rates:
                row = int(np.abs(RATES - each).argmin())
                likely[row, column] = np.log(each + (1 - 2 * each) * clean).sum()
        weight = np.exp(likely - likely.max())
        return cls(weight=weight / weight.sum(), scale=scale, n=len(logits))

    @property
    def rate(self) -> Estimate:
        """The flip rate: the mean, and the middle 95 %, of what is left open."""
        share = self.weight.sum(1)
        total = np.cumsum(share)
        ends = [int(np.searchsorted(total, q)) for q in (0.025, 0.975)]
        low, high = (float(RATES[min(end, len(RATES) - 1)]) for end in ends)
        return Estimate(
            value=float(share @ RATES),
            low=low,
            high=high,
            n=self.n,
            measurements=self.n,
            method="posterior on a grid, flat prior",
        )

    def doubts(self, logits: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The doubt of each label, [n], from its log-odds in the same unit."""
        found = np.zeros(len(logits))
        for row, column in np.argwhere(self.weight > NEGLIGIBLE):
            rate, clean = RATES[row], _sigmoid(SHARPNESS[column] * logits / self.scale)
            recorded = rate + (1 - 2 * rate) * clean
            found += self.weight[row, column] * rate * (1 - clean) / recorded
        return found / self.weight[self.weight > NEGLIGIBLE].sum()


def doubts_by_votes(votes: Sequence[Vote]) -> Doubts | None:
    """Doubts from several votes per pair; None where no pair has two that prefer something.

    On each pair the share of everybody who prefers the first picture is a draw from a symmetric
    beta distribution, whose concentration is the likeliest one for all pairs together; the doubt
    is the posterior probability that fewer than half are on the vote's own side. Ties are half a
    vote for either side, and are in no doubt themselves.
    """
    said: dict[PairKey, list[Vote]] = {}
    for vote in votes:
        said.setdefault(vote.pair, []).append(vote)
    counts = np.array([[sum(v.first for v in group), len(group)] for group in said.values()])
    if not len(counts) or counts[:, 1].max() < 2:
        return None
    spread = likeliest_spread(counts[:, 0], counts[:, 1] - counts[:, 0])
    found: dict[str, float] = {}
    pairs: list[PairKey] = []
    for pair, group in said.items():
        first = sum(vote.first for vote in group)
        for vote in (vote for vote in group if vote.first != 0.5):
            own = first if vote.first > 0.5 else len(group) - first
            found[vote.row] = against_majority(own, len(group) - own, spread)
            pairs.append(pair)
    if not found:
        return None
    return Doubts(
        detector=f"{len(votes)} votes on {len(said)} pairs",
        doubt=found,
        rate=cluster_mean(list(found.values()), pairs, draws=2000),
        assumes="Judges of a pair are a random draw of everybody.",
    )


def against_majority(own: float, others: float, spread: float) -> float:
    """Probability that fewer than half of everybody are on the side that has `own` votes.

    Args:
        own: Votes on the label's side, its own among them.
        others: Votes on the other side.
        spread: Both parameters of the beta prior: 1 is flat, less is one mind on each pair.
    """
    return float(beta(spread + own, spread + others).cdf(0.5))


def likeliest_spread(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """The symmetric beta prior under which these counts of votes are likeliest."""
    likely = [float((betaln(a + first, a + second) - betaln(a, a)).sum()) for a in CONCENTRATIONS]
    return float(CONCENTRATIONS[int(np.argmax(likely))])


def doubts_by_foretelling(
    ids: Sequence[str],
    differences: Float[np.ndarray, "n d"],
    first: Float[np.ndarray, " n"],
    prompts: Sequence[str],
    *,
    detector: str,
    rate: float | None = None,
    seed: int = 0,
) -> Doubts:
    """Doubts from what is known of the two pictures, each label foretold without it.

    Args:
        ids: The records' ids.
        differences: What is known of the first picture minus the same of the second, [n, d].
        first: Recorded probability that the first is preferred; one half is left out.
        prompts: The prompt of each record.
        detector: What the differences are of, in words.
        rate: The flip rate, where it is known from elsewhere.
        seed: Which prompts are foretold together.

    Raises:
        DataError: when there are too few labels to learn from.
    """
    logits = foretold(differences, first, prompts, seed=seed)
    strict = first != 0.5
    own = np.where(first > 0.5, logits, -logits)[strict]
    kept = [name for name, is_strict in zip(ids, strict, strict=True) if is_strict]
    return _doubts(kept, own, Calibration.of(own, rate), detector)


def doubts_by_margins(evidence: RunEvidence, rate: float | None = None) -> Doubts:
    """Doubts from implicit margins of runs that never saw the pairs.

    Raises:
        DataError: when a pair was learned from: its margin knows the label by heart.
    """
    learned = sum(not each.held_out for each in evidence.pairs.values())
    require(
        learned == 0 and len(evidence.pairs) > 0,
        got=f"margins of {len(evidence.pairs)} pairs, {learned} of them learned from",
        need="margins by runs that never saw the pair",
        fix="Use cross_margins, or a run on other data.",
        kind=DataError,
    )
    ids = list(evidence.pairs)
    margins = np.array([evidence.pairs[name].margin for name in ids])
    return _doubts(ids, margins, Calibration.of(margins, rate), "held-out margins")


def _doubts(ids: Sequence[str], own: Array, known: Calibration, detector: str) -> Doubts:
    values = known.doubts(own).tolist()
    return Doubts(
        detector=detector,
        doubt=dict(zip(ids, values, strict=True)),
        rate=known.rate,
        assumes="Labels were turned round at one rate, whatever the pair.",
    )


def _sigmoid(logits: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * logits)
