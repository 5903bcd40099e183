"""Which recorded labels look like a minority's: a probability for each, from what else is known.

Three kinds of evidence, each giving every record a *doubt*, the probability that its label is not
what most people would say:

- several votes on a pair: how probable it is that the majority of everybody is on the other side;
- what was foretold of the label by models that never saw its prompt (`crossfit.py`), together with
  whatever other votes there are on the pair;
- implicit margins of training runs that never saw the pair. Those of a run that did, and the
  minority metric that an adaptive run records, are shown beside a doubt but are no ground for one.

Foretelling assumes either that people disagree most where pictures are nearly equal, or that
labels are turned round at one rate whatever the pair (`calibration.py`). The order is nearly the
same; the level is right where the assumption is, and `docs/minority.md` says how far off elsewhere.

Read next: `crossfit.py`; `palate/recipes/doubts.py`, which asks runs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

import numpy as np
from jaxtyping import Float
from scipy.special import betainc, betaln

from palate.audit.calibration import PEOPLE, Calibration, Noise
from palate.audit.crossfit import drawn, foretold
from palate.core.problems import DataError, require
from palate.core.stats import Estimate
from palate.data.folds import folded
from palate.data.shares import pooled_share
from palate.data.votes import PairKey, Vote

# Concentrations of the spread of taste over pairs: from one mind to anything goes.
CONCENTRATIONS: Final = np.geomspace(0.02, 20.0, 61)


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

    @property
    def minority(self) -> dict[str, float]:
        """The pairs that an adaptive run recorded its metric u of."""
        told = {name: each.minority for name, each in self.pairs.items()}
        return {name: u for name, u in told.items() if u is not None}

    def only(self, ids: Collection[str]) -> "RunEvidence":
        """What is said of these pairs alone."""
        return replace(self, pairs={n: each for n, each in self.pairs.items() if n in ids})


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
    cast = [vote for vote in votes if vote.first != 0.5]
    if not cast:
        return None
    places = {pair: place for place, pair in enumerate(said)}
    first, total = counts[[places[vote.pair] for vote in cast]].T
    own = np.where([vote.first > 0.5 for vote in cast], first, total - first)
    found = against_majority(own, total - own, spread)
    return Doubts(
        detector=f"{len(votes)} votes on {len(said)} pairs",
        doubt={vote.row: float(doubt) for vote, doubt in zip(cast, found, strict=True)},
        rate=pooled_share(found.tolist(), [folded(vote.pair[0]) for vote in cast]),
        assumes="Assumed: the judges of a pair are a random draw of everybody.",
    )


def against_majority(
    own: Float[np.ndarray, " n"], others: Float[np.ndarray, " n"], spread: float
) -> Float[np.ndarray, " n"]:
    """Probability that fewer than half of everybody are on the side that has `own` votes, [n].

    Args:
        own: Votes on each label's side, its own among them.
        others: Votes on the other side.
        spread: Both parameters of the beta prior: 1 is flat, less is one mind on each pair.
    """
    return betainc(spread + own, spread + others, 0.5)


def likeliest_spread(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """The symmetric beta prior under which these counts of votes are likeliest."""
    likely = [float((betaln(a + first, a + second) - betaln(a, a)).sum()) for a in CONCENTRATIONS]
    return float(CONCENTRATIONS[int(np.argmax(likely))])


def doubts_by_foretelling(
    votes: Sequence[Vote],
    differences: Float[np.ndarray, "n d"],
    *,
    detector: str,
    noise: Noise = PEOPLE,
    rate: float | None = None,
    seed: int = 0,
    most: int | None = None,
) -> Doubts:
    """Doubts from what is known of the two pictures, each vote foretold without its prompt.

    Votes on one pair are taken together.

    Args:
        votes: The votes, n of them; ties teach nothing and are in no doubt.
        differences: What is known of the first picture of each vote's pair minus the same of the
            second, [n, d].
        detector: What the differences are of, in words.
        noise: Why a vote may be against most people's.
        rate: The flip rate, where it is known from elsewhere.
        seed: Which prompts are foretold together.
        most: How many votes are learned from, a random draw where there are more.

    Raises:
        DataError: when there are too few votes to learn from.
    """
    first = np.array([vote.first for vote in votes])
    logits = foretold(differences, first, [vote.pair[0] for vote in votes], seed=seed, most=most)
    places: dict[PairKey, int] = {}
    at = np.array([places.setdefault(vote.pair, len(places)) for vote in votes])
    # A soft vote counts as far as it is sure.
    ahead = np.bincount(at, weights=np.maximum(2 * first - 1, 0))
    behind = np.bincount(at, weights=np.maximum(1 - 2 * first, 0))
    known = np.zeros(len(places))
    known[at] = logits
    prompts = np.array([folded(pair[0]) for pair in places])
    some = drawn(ahead + behind > 0, most, seed)
    calibration = Calibration.of(
        known[some], ahead[some], behind[some], noise, rate, prompts[some].tolist()
    )
    against, share = calibration.doubts(known, ahead, behind, prompts.tolist())
    found: dict[str, float] = {}
    for vote, place in zip(votes, at, strict=True):
        if vote.first != 0.5:
            found[vote.row] = float(against[place] if vote.first > 0.5 else 1 - against[place])
    return Doubts(detector=detector, doubt=found, rate=share, assumes=noise.assumes)


def doubts_by_margins(
    evidence: RunEvidence,
    noise: Noise = PEOPLE,
    rate: float | None = None,
    *,
    prompts: Mapping[str, str] | None = None,
) -> Doubts:
    """Doubts from implicit margins of runs that never saw the pairs.

    Args:
        evidence: The margins.
        noise: Why a label may be against most people's.
        rate: The flip rate, where it is known from elsewhere.
        prompts: Id of a record → its prompt. Where given, only these records are asked about,
            and prompts are the unit of the interval; otherwise every record counts as one.

    Raises:
        DataError: when a pair was learned from: its margin knows the label by heart.
    """
    told = evidence.pairs if prompts is None else evidence.only(prompts).pairs
    learned = sum(not each.held_out for each in told.values())
    require(
        learned == 0 and len(told) > 0,
        got=f"margins of {len(told)} pairs, {learned} of them learned from",
        need="margins by runs that never saw the pair",
        fix="Use cross_margins, or a run on other data.",
        kind=DataError,
    )
    ids = list(told)
    margins = np.array([told[name].margin for name in ids])
    one, none = np.ones(len(ids)), np.zeros(len(ids))
    units = None if prompts is None else [folded(prompts[name]) for name in ids]
    calibration = Calibration.of(margins, one, none, noise, rate, units)
    values, share = calibration.doubts(margins, one, none, units)
    return Doubts(
        detector="held-out margins",
        doubt=dict(zip(ids, values.tolist(), strict=True)),
        rate=share,
        assumes=noise.assumes,
    )
