"""What trained models say of the pairs: how much better they explain the preferred picture.

The implicit margin of a pair is how much more a training gained on the recorded winner than on
the loser, in denoising error against the model it started from. One draw of noise says little, so
margins are means over draws at fixed levels, spread from clean to noisy (`margins.py`).

A run that learned from a label knows some of it by heart. `cross_margins` trains one run for each
part of the prompts on the others, so that every pair is judged by one that never saw it.

Read next: `palate/audit/minority.py`, what is made of the margins.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from palate.audit.minority import PairEvidence, RunEvidence
from palate.backbones import load
from palate.core.files import digest_json, read_json
from palate.core.problems import DataError, SettingError, StateError, require
from palate.data.folds import deal, folded
from palate.data.pack import Pack
from palate.data.pairs import Pair, PreferencePairs
from palate.data.snapshot import read_imports, read_rows
from palate.data.store import write_snapshot
from palate.recipes.margins import DRAWS, Desk, Progress, by_digest, model_scores, open_desk
from palate.train.device import choose_device
from palate.train.log import Event
from palate.train.log import read_rows as read_log
from palate.train.loop import train
from palate.train.place import EXPORT, PAIRS, RECORD, SETTINGS
from palate.train.run import Run

# Where errors are kept: a trained model's in its run, a base model's beside the latents.
ERRORS: Final = "errors"
# The settings of lab/methods: a quarter of the published β suits 64-pixel pictures.
CROSS: Final[Mapping[str, Any]] = {
    "objective.name": "dpo",
    "objective.beta": 500.0,
    "adapter.rank": 16,
    "plan.steps": 60,
    "plan.batch": 32,
    "plan.learning_rate": 1.3e-3,
    "plan.schedule": "cosine",
    "plan.warmup_steps": 5,
    "plan.save_every": 20,
    "plan.health_every": 60,
    "plan.tensorboard": "off",
    "health.pairs": 32,
    "health.draws": 1,
    "health.stop": False,
    "split.held_out": 0.02,
}


def run_evidence(
    run: Path,
    snapshot: Path,
    *,
    draws: int = DRAWS,
    device: str | None = None,
    progress: Progress | None = None,
) -> RunEvidence:
    """What a finished run says of every strict pair of a snapshot.

    Args:
        run: The run's folder; the trained model's errors are kept in it.
        snapshot: The pairs: the run's own data or others.
        draws: Levels, each with its noise, that every pair is asked at.
        device: Where to compute; CUDA where there is one, if left out.
        progress: Told what is computed, how many pairs are done, and how many there are.

    Raises:
        StateError: when the run has not exported its weights.
        SettingError: when its objective has no β, and so no implicit margin.
        DataError: when the snapshot is damaged.
    """
    settings = settings_of(run)
    pairs = PreferencePairs.open(snapshot)
    kept, place = _cache(run), device or _anywhere(settings)
    base = load(settings.model, device=place)
    desk = open_desk(
        base,
        pairs,
        kept,
        pictures=settings.pictures,
        noise=settings.noise,
        draws=draws,
        at_once=settings.plan.pairs_at_once,
    )
    before = desk.errors(base, list(pairs), kept / ERRORS, what="base model", progress=progress)
    after = _trained(desk, settings.model, run, list(pairs), place, progress)
    seen = _learned(settings)
    margins = _margins(list(pairs), before - after)
    recorded = recorded_of(run, settings)
    found: dict[str, PairEvidence] = {}
    for pair, each in zip(pairs, margins, strict=True):
        visits = recorded.get(pair.id, [])
        found[pair.id] = PairEvidence(
            margin=float(each.mean()),
            spread=float(each.std(ddof=1)) if draws > 1 else 0.0,
            held_out=seen is not None and folded(pair.prompt) not in seen,
            minority=sum(visits) / len(visits) if visits else None,
            visits=len(visits),
        )
    scores = model_scores(base, pairs, desk, kept / ERRORS, progress=progress)
    return RunEvidence(run=settings.digest, draws=draws, pairs=found, scores=scores)


def cross_margins(
    snapshot: Path,
    out: Path,
    *,
    model: str = "shipped",
    folds: int = 2,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    like: Run | None = None,
    draws: int = DRAWS,
    device: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> RunEvidence:
    """Margins of every strict pair by a run that never saw its prompt: one run for each fold.

    An interrupted call goes on where it stopped: runs are resumed, and errors are kept.

    Args:
        snapshot: The pairs.
        out: Where the runs go.
        model: What they start from.
        folds: Parts that the prompts are dealt into; each run learns from the others.
        seed: Which prompt is in which part, and the seed of the runs.
        settings: Settings of the runs, by dotted names, over the usual ones.
        like: A run whose model and settings they have instead.
        draws: Levels, each with its noise, that every pair is asked at.
        device: Where errors are computed; CUDA where there is one, if left out.
        cache: Where latents and embeddings are kept; in `out` when left out.
        progress: Told what is computed, how much is done, and how much there is: steps of all
            trainings together, then pairs.

    Raises:
        SettingError: for fewer than two folds, or settings that make no run.
        DataError: when the snapshot is damaged or too small.
    """
    require(
        folds >= 2,
        got=f"folds={folds}",
        need="at least 2",
        fix="2 costs two trainings; 5 costs five, each with more to learn from.",
    )
    pairs = PreferencePairs.open(snapshot)
    prompts = len({folded(pair.prompt) for pair in pairs})
    require(
        prompts >= 2 * folds,
        got=f"strict pairs on {prompts} prompts",
        need=f"at least {2 * folds} prompts for {folds} folds",
        fix="Use a larger snapshot, or fewer folds.",
        kind=DataError,
    )
    parts = deal([pair.prompt for pair in pairs], folds, seed)
    kept = cache or out / "cache"
    planned = planned_run(snapshot, model=model, seed=seed, settings=settings, like=like)
    place = device or _anywhere(planned)
    base = load(planned.model, device=place)
    desk = open_desk(
        base,
        pairs,
        kept,
        pictures=planned.pictures,
        noise=planned.noise,
        draws=draws,
        at_once=planned.plan.pairs_at_once,
    )
    found: dict[str, PairEvidence] = {}
    for fold in range(folds):
        mine = [pair for pair, part in zip(pairs, parts, strict=True) if part == fold]
        rest = _without(snapshot, out / f"fold-{fold}-data", {folded(p.prompt) for p in mine})
        run, folder = planned.with_values({"data": str(rest)}), out / f"fold-{fold}"
        if not (folder / EXPORT).is_dir():
            heard = _steps(progress, fold, folds)
            train(run, folder, resume=folder.exists(), cache=kept, on_event=heard)
        before = desk.errors(base, mine, kept / ERRORS, what="base model", progress=progress)
        after = _trained(desk, planned.model, folder, mine, place, progress)
        for pair, each in zip(mine, _margins(mine, before - after), strict=True):
            spread = float(each.std(ddof=1)) if draws > 1 else 0.0
            found[pair.id] = PairEvidence(margin=float(each.mean()), spread=spread, held_out=True)
    scores = model_scores(base, pairs, desk, kept / ERRORS, progress=progress)
    name = name_of(planned, folds, pairs.digest)
    return RunEvidence(run=name, draws=draws, pairs=found, scores=scores)


def planned_run(
    snapshot: Path,
    *,
    model: str = "shipped",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    like: Run | None = None,
) -> Run:
    """The run that `cross_margins` carries out on each fold, but on all of a snapshot.

    Raises:
        SettingError: for settings that make no run.
    """
    if like is not None:
        return like.with_values({**(settings or {}), "data": str(snapshot), "seed": seed})
    told = {**CROSS, **(settings or {}), "model": model, "seed": seed, "data": str(snapshot)}
    return Run.from_values(told)


def name_of(planned: Run, folds: int, data: str) -> str:
    """What folds are told apart by. Without paths: the same elsewhere are the same evidence."""
    told = {name: value for name, value in planned.values().items() if name != "data"}
    return digest_json([told, folds, data])


def _steps(progress: Progress | None, fold: int, folds: int) -> Callable[[Event], None] | None:
    """Passes on the steps of one training as a part of all."""
    if progress is None:
        return None

    def heard(event: Event) -> None:
        if event.kind == "step":
            done = fold * event.total + event.step
            progress("trainings of all folds, steps", done, folds * event.total)

    return heard


def settings_of(run: Path) -> Run:
    """The settings of a finished run that has implicit margins.

    Raises:
        StateError: when the run has not exported its weights.
        SettingError: when its objective has no β.
    """
    require(
        (run / SETTINGS).is_file() and (run / EXPORT).is_dir(),
        got=f"{run}, which is no finished run",
        need="the folder of a run that has exported its weights",
        fix=f"palate resume {run}, or name another; `palate runs` lists them.",
        kind=StateError,
    )
    settings = Run.from_yaml(run / SETTINGS)
    require(
        "beta" in settings.values()["objective"],
        got=f"a run of {settings.objective.name}, which has no beta",
        need="a run whose loss is made of implicit margins",
        fix="Train one with dpo or adaptive-dpo on these pairs.",
        kind=SettingError,
    )
    require(
        settings.personal is None,
        got=f"{run}, a run that follows people, for which nobody's label is a minority's",
        need="a run that learned one preference of everybody's",
        fix="Train one with dpo or adaptive-dpo on these pairs.",
        kind=SettingError,
    )
    return settings


def _anywhere(settings: Run) -> str:
    """Where there is something to compute on, whatever machine the run was trained on."""
    return choose_device(settings.with_values({"plan.device": "auto", "plan.precision": "fp32"}))


def _cache(run: Path) -> Path:
    """The latents that a run was trained on, where they still are; else a folder beside it."""
    told = read_json(run / RECORD).get("cache", {}).get("folder") if _has_record(run) else None
    return Path(told) if told and Path(told).is_dir() else run.parent / "cache"


def _has_record(run: Path) -> bool:
    return (run / RECORD).is_file()


def _trained(
    desk: Desk, model: str, run: Path, pairs: list[Pair], device: str, progress: Progress | None
) -> Float[np.ndarray, "n 2 k"]:
    trained = load(model, weights=run / EXPORT, device=device)
    return desk.errors(trained, pairs, run / ERRORS, what="trained model", progress=progress)


def _margins(pairs: list[Pair], gains: Float[np.ndarray, "n 2 k"]) -> Float[np.ndarray, "n k"]:
    """Gain on the recorded winner minus gain on the loser, at each draw."""
    by_name = gains[:, 0] - gains[:, 1]
    turned = np.array([by_digest(pair).chosen != pair.chosen for pair in pairs])
    return np.where(turned[:, None], -by_name, by_name)


def _learned(settings: Run) -> Collection[str] | None:
    """The prompts a run learned from; None where its data is not there any more."""
    try:
        pairs = PreferencePairs.open(Path(settings.data or ""))
    except DataError:
        return None
    split = settings.split
    train_on, _ = pairs.split(by=split.by, held_out=split.held_out, seed=settings.seed)
    return {folded(prompt) for prompt in train_on.prompts}


def recorded_of(run: Path, settings: Run) -> dict[str, list[float]]:
    """Pair → the minority metric at each visit; none where the objective records none.

    Visits in the warm-up are left out: there the metric is 0 by decree.
    """
    first = int(settings.values()["objective"].get("warm_up", 0))
    found: dict[str, list[float]] = {}
    for row in read_log(run / PAIRS):
        if row.get("minority") is not None and row["step"] > first:
            found.setdefault(row["pair"], []).append(float(row["minority"]))
    return found


def _without(snapshot: Path, out: Path, prompts: Collection[str]) -> Path:
    """A snapshot of the rows of all other prompts."""
    if not out.exists():
        rows = [row for row in read_rows(snapshot) if folded(row.prompt) not in prompts]
        write_snapshot(out, rows, Pack(snapshot), read_imports(snapshot))
    return out
