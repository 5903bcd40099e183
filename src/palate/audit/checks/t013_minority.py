"""T013: labels that look like a minority's, the most doubtful first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from palate.audit.audited import Audited, folded
from palate.audit.calibration import PEOPLE, Noise
from palate.audit.check import Finding, Row, answer
from palate.audit.crossfit import FEWEST, FOLDS, picture_numbers
from palate.audit.minority import (
    Doubts,
    RunEvidence,
    doubts_by_foretelling,
    doubts_by_votes,
)
from palate.core.streams import Streams
from palate.data.votes import Vote

Array = NDArray[np.float64]
Scores = Mapping[str, Mapping[tuple[str, str], float]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Minority:
    """Which labels are probably not what most people would say?

    What is asked. Of every recorded preference: how probable is it that most people would prefer
    the other picture? Each label is foretold from all labels of other prompts, by what is known
    of the two pictures: plain numbers of light, colour and edges; what the model a run started
    from says of them (`--run`); and any scorer's scores (`--scorer`). A label that goes against
    what was foretold with confidence, or against other votes on its pair, is in doubt. Where
    there are too few labels to foretell any, the votes of each pair answer alone.

    Why it matters. Mistakes and a minority's taste pull a training back. Training on fewer,
    surer labels, or weighing doubtful ones less, keeps more of what most people want.

    What to do. Look at the first rows; honest people's data has some too. Ask again
    (`--relabel-queue T013`), or weigh every label less as far as it is in doubt, the small doubts
    too (`--downweight T013`; doubts above one half leave a tie). To leave the shown ones out
    (`--drop T013`) is a choice of taste: it makes the data agree with itself, and silences a
    minority that may be right.

    What it cannot see. Whether a label is a mistake or a taste. Pictures that differ only in
    what none of the numbers shows. Records that rank more than two pictures: a doubt is about two,
    and they are left out. The
    probabilities assume that people disagree most where pictures are nearly equal; where labels
    were turned round at one rate whatever the pair, they are too high (`Minority(noise=FLIPS)`
    assumes that). A taste that most judges of this data share against
    most people's is the majority here.

    Attributes:
        share: It is an issue where the share of such labels is surely above this.
        limit: Doubt from which on a label is shown; one half is where turning it round is right
            more often than wrong.
        noise: Why a label may be against most people's.
        most: Labels that are looked at: a random draw where there are more, always the same.
    """

    share: float = 0.05
    limit: float = 0.5
    noise: Noise = PEOPLE
    most: int = 10_000

    code: ClassVar[str] = "T013"
    name: ClassVar[str] = "minority"
    question: ClassVar[str] = "Which labels are probably not what most people would say?"

    def ask(self, data: Audited) -> Finding:
        """Foretell every label from other prompts; or, of few labels, ask the votes of its pair."""
        votes = [vote for vote in data.votes if vote.first != 0.5 and _of_two(data, vote)]
        if not votes:
            return answer(self, "not applicable", "No record prefers one of two pictures.")
        asked = _drawn(votes, self.most)
        if len(asked) >= FEWEST and len({folded(vote.pair[0]) for vote in asked}) >= 2 * FOLDS:
            found = _foretold(data, asked, self.noise)
        else:
            found = doubts_by_votes(data.votes)
        if found is None:
            return answer(self, "not asked", _too_few(asked))
        rows = self._rows(votes, found, data.evidence.run)
        sentence = (
            f"{len(rows):,} of {len(found.doubt):,} labels are doubted by {self.limit:g} or more, "
            f"by {found.detector}; the share that most people would not give is {found.rate}. "
            f"{found.assumes}"
        )
        outcome = "issue" if rows and found.rate.low > self.share else "passed"
        figures = _figures(found, rows, data)
        return answer(self, outcome, sentence, tuple(rows), figures, found.doubt)

    def _rows(self, votes: Sequence[Vote], found: Doubts, run: RunEvidence | None) -> list[Row]:
        said = {vote.row: vote for vote in votes}
        ranked = [(name, doubt) for name, doubt in found.ranked() if doubt >= self.limit]
        return [_row(said[name], doubt, run) for name, doubt in ranked if name in said]


def _of_two(data: Audited, vote: Vote) -> bool:
    return len(data.by_id[vote.row].images) == 2


def _row(vote: Vote, doubt: float, run: RunEvidence | None) -> Row:
    _, one, other = vote.pair
    words = f"{vote.judge} is against what most would say with probability {doubt:.2f}"
    seen = None if run is None else run.pairs.get(vote.row)
    if seen is not None:
        words += f"; the run's margin is {seen.margin:+.1e}"
    if seen is not None and seen.minority is not None:
        words += f", its minority metric {seen.minority:.2f}"
    winner = (one, other) if vote.first > 0.5 else (other, one)
    return Row(ids=(vote.row,), pictures=winner, note=words, doubt=doubt)


def _drawn(votes: Sequence[Vote], most: int) -> list[Vote]:
    """All votes, or a draw of them that depends on their rows alone."""
    if len(votes) <= most:
        return list(votes)
    streams = Streams(0)
    return sorted(votes, key=lambda vote: streams("minority draw", vote.row).seed)[:most]


def _foretold(data: Audited, votes: Sequence[Vote], noise: Noise) -> Doubts:
    """Each label foretold from the labels of other prompts."""
    columns, words = [_of_pictures(data, votes)], ["plain numbers of the pictures"]
    run: RunEvidence | None = data.evidence.run
    if run is not None and run.scores:
        columns.append(_of_scores(run.scores, votes))
        words.append("the base model's errors")
    if run is not None and run.held_out:
        columns.append(_of_margins(run, votes))
        words.append("held-out margins")
    if data.evidence.scores:
        columns.append(_of_scores(data.evidence.scores, votes))
        words.append(", ".join(data.evidence.scores))
    return doubts_by_foretelling(
        votes,
        np.concatenate(columns, axis=1),
        noise=noise,
        detector=f"foretelling each label from other prompts' labels and {' + '.join(words)}",
    )


def _of_pictures(data: Audited, votes: Sequence[Vote]) -> Array:
    names = dict.fromkeys(name for vote in votes for name in vote.pair[1:])
    seen = {name: np.array([*picture_numbers(data.image(name)).values()]) for name in names}
    return np.stack([seen[vote.pair[1]] - seen[vote.pair[2]] for vote in votes])


def _of_scores(scores: Scores, votes: Sequence[Vote]) -> Array:
    """Differences of scores; none where a picture has no finite one."""
    return np.array(
        [[_difference(known, vote) for known in scores.values()] for vote in votes],
        dtype=np.float64,
    )


def _difference(known: Mapping[tuple[str, str], float], vote: Vote) -> float:
    prompt, one, other = vote.pair
    found = known.get((prompt, one), np.nan) - known.get((prompt, other), np.nan)
    return float(found) if np.isfinite(found) else 0.0


def _of_margins(run: RunEvidence, votes: Sequence[Vote]) -> Array:
    """Held-out margins, turned to the first picture."""
    signs = [1.0 if vote.first > 0.5 else -1.0 for vote in votes]
    told = [run.pairs[vote.row].margin if vote.row in run.pairs else 0.0 for vote in votes]
    return (np.array(signs) * np.array(told))[:, None]


def _too_few(votes: Sequence[Vote]) -> str:
    prompts = len({vote.pair[0] for vote in votes})
    return (
        f"{len(votes)} preferences on {prompts} prompts are too few to foretell one from the "
        f"others: that takes {FEWEST} on {2 * FOLDS}. Give a larger snapshot, or three votes or "
        "more on each pair."
    )


def _figures(found: Doubts, rows: Sequence[Row], data: Audited) -> dict[str, Any]:
    values = np.array(list(found.doubt.values()))
    run: RunEvidence | None = data.evidence.run
    told = [] if run is None else [e.minority for e in run.pairs.values() if e.minority is not None]
    return {
        "detector": found.detector,
        "assumes": found.assumes,
        "labels": len(values),
        "doubted": len(rows),
        "share": found.rate.asdict(),
        "tenths_of_doubt": np.histogram(values, bins=10, range=(0.0, 1.0))[0].tolist(),
        "minority_metric": {"pairs": len(told), "mean": float(np.mean(told)) if told else None},
    }
