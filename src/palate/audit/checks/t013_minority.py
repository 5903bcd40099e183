"""T013: labels that look like a minority's, the most doubtful first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from palate.audit.audited import Audited
from palate.audit.calibration import PEOPLE, Noise
from palate.audit.check import Finding, Row, answer
from palate.audit.crossfit import FEWEST, FOLDS, picture_numbers
from palate.audit.minority import (
    Doubts,
    RunEvidence,
    doubts_by_foretelling,
    doubts_by_margins,
    doubts_by_votes,
)
from palate.audit.rankings import by_margins, by_metric, in_words
from palate.data.folds import folded
from palate.data.synthetic import MACHINES
from palate.data.votes import Vote

Array = NDArray[np.float64]
Scores = Mapping[str, Mapping[tuple[str, str], float]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Minority:
    """Which labels are probably not what most people would say?

    What is asked. Of every preference that a person recorded: how probable is it that most people
    would prefer the other picture? Each label is foretold from the labels of other prompts, by
    what is known of the two pictures: plain numbers of light, colour and edges; what the model a
    run started from says of them (`--run`, `--folds`); and any scorer's scores (`--scorer`). A
    label that goes against what was foretold with confidence, or against other votes on its pair,
    is in doubt. Where there are too few labels to foretell any, the votes of each pair answer
    alone. Machines' labels are neither learned from nor doubted where people judged anything;
    where only machines did, theirs are in question, and the finding says so.

    Beside this stand two other orders of the same labels: by margins of runs that never saw the
    pair (`--folds 2`), and by the minority metric that a run of adaptive-dpo recorded (`--run`).

    It is an issue where the share of such labels is surely above 5 %. Otherwise it has passed,
    and still lists the labels it doubts: honest people's data has some, and what is done about
    T013 is done to them.

    Why it matters. Mistakes and a minority's taste pull a training back. Training on fewer,
    surer labels, or weighing doubtful ones less, keeps more of what most people want.

    What to do. Look at the first rows. Ask again (`--relabel-queue T013`), or weigh every label
    less as far as it is in doubt, the small doubts too (`--downweight T013`; doubts above one
    half leave a tie). To leave the shown ones out (`--drop T013`) is a choice of taste: it makes
    the data agree with itself, and silences a minority that may be right.

    What it cannot see. Whether a label is a mistake or a taste. Pictures that differ only in
    what none of the numbers shows. Records that rank more than two pictures: a doubt is about
    two, and they are left out. The probabilities assume that people disagree most where pictures
    are nearly equal; where labels were turned round at one rate whatever the pair, they are too
    high (`--assume flips` assumes that). A taste that most judges of this data share against
    most people's is the majority here.

    Attributes:
        share: It is an issue where the share of such labels is surely above this.
        limit: Doubt from which on a label is shown; one half is where turning it round is right
            more often than wrong.
        noise: Why a label may be against most people's.
        most: Labels that are learned from, a random draw where there are more; all are foretold.
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
        said = [vote for vote in data.votes if len(data.by_id[vote.row].images) == 2]
        people = [vote for vote in said if vote.source not in MACHINES]
        judged = any(vote.first != 0.5 for vote in people)
        heard = people if judged else said
        asked = [vote for vote in heard if vote.first != 0.5]
        if not asked:
            return answer(self, "not applicable", "No record prefers one of two pictures.")
        margins = _by_margins(data, asked, self.noise)
        if len(asked) >= FEWEST and len({folded(vote.pair[0]) for vote in asked}) >= 2 * FOLDS:
            found = _foretold(data, asked, self.noise, self.most)
        else:
            found = doubts_by_votes(heard) or margins
        if found is None:
            return answer(self, "not asked", _too_few(asked))
        run: RunEvidence | None = data.evidence.run
        rows = self._rows(asked, found, run)
        beside = in_words(found, margins, run)
        whose = "people's labels" if judged else f"labels by {_judges(asked)}"
        sentence = (
            f"{len(rows):,} of {len(found.doubt):,} {whose} are doubted by {self.limit:g} or more, "
            f"by {found.detector}; the share that most people would not give is {found.rate}. "
            f"{found.assumes}{'' if judged else _NOBODY}{beside}"
        )
        outcome = "issue" if rows and found.rate.low > self.share else "passed"
        figures = {
            **_figures(found, rows),
            "in_question": "people" if judged else sorted({vote.judge for vote in asked}),
            "left_out": {"machine labels": len(said) - len(heard)},
            "margins": None if margins is None else by_margins(margins, found),
            "minority_metric": by_metric(run, found),
        }
        return answer(self, outcome, sentence, tuple(rows), figures, found.doubt)

    def _rows(self, votes: Sequence[Vote], found: Doubts, run: RunEvidence | None) -> list[Row]:
        said = {vote.row: vote for vote in votes}
        ranked = [(name, doubt) for name, doubt in found.ranked() if doubt >= self.limit]
        return [_row(said[name], doubt, run) for name, doubt in ranked]


_NOBODY = " No person judged a pair here, so that machines' labels are in question."


def _judges(votes: Sequence[Vote]) -> str:
    names = sorted({vote.judge for vote in votes})
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest


def _row(vote: Vote, doubt: float, run: RunEvidence | None) -> Row:
    _, one, other = vote.pair
    words = f"{vote.judge} is against what most would say with probability {doubt:.2f}"
    seen = None if run is None else run.pairs.get(vote.row)
    if seen is not None:
        whose = "a held-out" if seen.held_out else "the run's"
        words += f"; {whose} margin is {seen.margin:+.1e}"
    if seen is not None and seen.minority is not None:
        words += f", its minority metric {seen.minority:.2f}"
    winner = (one, other) if vote.first > 0.5 else (other, one)
    return Row(ids=(vote.row,), pictures=winner, note=words, doubt=doubt)


def _by_margins(data: Audited, votes: Sequence[Vote], noise: Noise) -> Doubts | None:
    """What runs that never saw the pairs say of the labels in question, where there are any."""
    run: RunEvidence | None = data.evidence.run
    prompts = {vote.row: vote.pair[0] for vote in votes}
    mine = None if run is None else run.only(prompts)
    if mine is None or not mine.pairs or not mine.held_out:
        return None
    return doubts_by_margins(mine, noise, prompts=prompts)


def _foretold(data: Audited, votes: Sequence[Vote], noise: Noise, most: int) -> Doubts:
    """Each label foretold from the labels of other prompts.

    Held-out margins are no part of it: the runs behind them learned from the very labels of the
    other folds that are to be foretold.
    """
    columns, words = [_of_pictures(data, votes)], ["plain numbers of the pictures"]
    run: RunEvidence | None = data.evidence.run
    if run is not None and run.scores:
        columns.append(_of_scores(run.scores, votes))
        words.append("the base model's errors")
    if data.evidence.scores:
        columns.append(_of_scores(data.evidence.scores, votes))
        words.append(", ".join(data.evidence.scores))
    return doubts_by_foretelling(
        votes,
        np.concatenate(columns, axis=1),
        noise=noise,
        most=most,
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


def _too_few(votes: Sequence[Vote]) -> str:
    prompts = len({vote.pair[0] for vote in votes})
    return (
        f"{len(votes)} preferences on {prompts} prompts are too few to foretell one from the "
        f"others: that takes {FEWEST} on {2 * FOLDS}. Give a larger snapshot, or three votes or "
        "more on each pair."
    )


def _figures(found: Doubts, rows: Sequence[Row]) -> dict[str, Any]:
    values = np.array(list(found.doubt.values()))
    return {
        "detector": found.detector,
        "assumes": found.assumes,
        "labels": len(values),
        "doubted": len(rows),
        "share": found.rate.asdict(),
        "tenths_of_doubt": np.histogram(values, bins=10, range=(0.0, 1.0))[0].tolist(),
    }
