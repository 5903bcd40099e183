"""Labels a machine gives to the pairs while a run is opened, from scores that are kept on disk.

A scorer is asked about each picture of a snapshot once. Its scores lie beside the latents, named by
the digest of everything they depend on, so that a resumed run has the same labels.

Read next: `facts.py`, what else objectives want to know of pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as Folder
from typing import Any, final

import numpy as np

from palate.core.files import digest_json, read_json, write_json
from palate.core.path import Path
from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.pairs import Pair, PreferencePairs
from palate.data.synthetic import agreement_of, manner, named, side_by_side, toward
from palate.objectives import OBJECTIVES
from palate.scorers import Scorer
from palate.train.noise import Fresh
from palate.train.run import Run
from palate.train.scoring import check_scorer, open_scorer

ROOM, AT_ONCE, TOLD_EVERY = "scores", 64, 16
# By `labels.synthetic`: which facts the model answers for itself.
OWN: Mapping[str, tuple[str, ...]] = {"data": (), "self": ("synthetic",)}
# Of a picture with its prompt: (prompt, picture) → score.
Said = dict[tuple[str, str], float]


def open_pairs(run: Run) -> PreferencePairs:
    """The pairs of a run's snapshot; those nobody judged too, where a machine is going to.

    Raises:
        SettingError: when labels are asked for that the objective does not read.
        DataError: when the folder is no snapshot or is damaged.
    """
    check_labels(run)
    pairs = PreferencePairs.open(Folder(str(run.data)))
    if run.labels.scorer is None and not run.labels.scorers:
        return pairs
    return pairs.relabelled([each.pair for each in side_by_side(pairs)])


def check_labels(run: Run) -> None:
    """Refuse labels that the objective does not read, or that would cover what it reads.

    Scorers that no name stands for are refused as well; they are opened much later.

    Raises:
        SettingError: with the setting; of scorers, with the name of one that cannot be opened.
    """
    name, facts = run.objective.name, OBJECTIVES.named(run.objective.name).needs.facts
    asked = {f"labels.synthetic={run.labels.synthetic}": OWN[run.labels.synthetic]}
    asked |= {"labels.scorers": ("reward_gap",) if run.labels.scorers else ()}
    for setting, wanted in asked.items():
        require(
            set(wanted) <= set(facts),
            got=f"{setting} with objective {name}",
            need=f"an objective that reads {' and '.join(wanted)}",
            fix="Remove the setting; to relabel pairs for any objective, use labels.scorer.",
        )
    require(
        run.labels.scorer is None or "synthetic" not in facts,
        got=f"labels.scorer={run.labels.scorer} with objective {name}",
        need="people's labels beside the machine's, not under them",
        fix="Put the machine's into the data: palate data label-part "
        f"{run.data} OUT --scorer {run.labels.scorer}",
    )
    for words in (run.labels.scorer, *run.labels.scorers):
        if words is not None:
            check_scorer(words)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What scorers said of pictures, asked once.

    Attributes:
        folder: Where scores are kept.
        device: Where scorers compute.
        tell: Hears how far it is.
    """

    folder: Folder
    device: str
    tell: Callable[[str], None]

    def open(self, words: str) -> Scorer:
        """The scorer these words name.

        Raises:
            SettingError: when they name none.
            WeightsError: when its folder cannot be used.
        """
        return open_scorer(words, device=self.device)

    def of(self, scorer: Scorer, pairs: PreferencePairs, asked: Sequence[Pair]) -> Said:
        """The scores of all pictures of these pairs; those that are not finite are left out."""
        names = [(pair.prompt, name) for pair in asked for name in (pair.chosen, pair.rejected)]
        wanted = list(dict.fromkeys(names))
        path = self.folder / ROOM / f"{digest_json(scorer.identity)[:32]}.json"
        known = _kept(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = [name for name in wanted if name not in known]
        for start in range(0, len(fresh), AT_ONCE):
            few = fresh[start : start + AT_ONCE]
            answers = scorer.score(
                pairs.images([name for _, name in few]), [text for text, _ in few]
            )
            known |= dict(zip(few, map(float, answers), strict=True))
            done = start + len(few)
            if done == len(fresh) or (start // AT_ONCE + 1) % TOLD_EVERY == 0:
                # Kept before it is told, so that what was told is not asked again.
                write_json(path, [[*which, repr(score)] for which, score in known.items()])
                self.tell(f"{scorer.name}: {done:,} of {len(fresh):,} pictures scored.")
        return {name: known[name] for name in wanted if np.isfinite(known[name])}


def relabel(
    run: Run, pairs: PreferencePairs, scores: Scores
) -> tuple[PreferencePairs, dict[str, Any]]:
    """Every two pictures once, labelled by `labels.scorer`; returns them, and how it went.

    The probability that the chosen picture is preferred is the logistic function of
    `labels.sharpness` · the difference of scores; where that is none the higher score wins. Pairs
    are turned round where the scorer disagrees; its ties, and pictures whose score is not finite,
    are left out.

    Raises:
        DataError: when nothing is left.
    """
    if run.labels.scorer is None:
        return pairs, {}
    scorer = scores.open(run.labels.scorer)
    once = [each.pair for each in side_by_side(pairs)]
    said = scores.of(scorer, pairs, once)
    judge = f"{named(scorer.name, scorer.identity)} {manner(run.labels.sharpness)}"
    kept: list[Pair] = []
    turned = 0
    for pair in once:
        best, other = said.get((pair.prompt, pair.chosen)), said.get((pair.prompt, pair.rejected))
        if best is None or other is None or best == other:
            continue
        agreement = agreement_of(best - other, run.labels.sharpness)
        signed = replace(pair, judge=judge, source="scorer")
        kept.append(toward(signed, agreement))
        turned += kept[-1].chosen != pair.chosen
    require(
        bool(kept),
        got=f"{len(once)} pairs and no score of {scorer.name} that tells two pictures apart",
        need="pairs the scorer can judge",
        fix="Use another labels.scorer, or leave it out to keep the data's labels.",
        kind=DataError,
    )
    about = {
        "scorer": scorer.identity,
        "sharpness": run.labels.sharpness,
        "pairs": len(kept),
        "turned": turned,
        "left_out": len(once) - len(kept),
    }
    return pairs.relabelled(kept), about


def own_labels(run: Run, streams: Streams, path: Path) -> dict[str, Fresh]:
    """Facts the model supplies itself, and the noise it is asked at: another draw of its own.

    Self-training labels a pair at another level and noise than it is trained at, so that what
    the model believes there is not simply what it has just been taught here.
    """
    source = Fresh(streams=streams, path=path, settings=run.noise, purpose="own label ")
    return dict.fromkeys(OWN[run.labels.synthetic], source)


def _kept(path: Folder) -> Said:
    """Scores of earlier runs; none where there are none, or the file is damaged."""
    try:
        return {(text, name): float(score) for text, name, score in read_json(path)}
    except (DataError, ValueError, TypeError):
        return {}
