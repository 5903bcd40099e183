"""Evaluate two models on one plan: draw, ask, count, and say how sure one can be.

Read next: `winrate.py` (counting), `drift.py` (what was lost), `result.py` (what comes out).
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palate.backbones.backbone import Backbone
from palate.core.problems import SettingError, StateError, require
from palate.core.record import provenance
from palate.evaluate.draw import BATCH, Images, Pictures, Progress, draw, drawing_key, identity
from palate.evaluate.drift import STYLES, Drift, broken, drift, style, variety
from palate.evaluate.measurements import Exhibit, Measurements
from palate.evaluate.plan import Plan
from palate.evaluate.result import Evaluation
from palate.evaluate.winrate import Opinion, holm, judge
from palate.scorers.scorer import Scorer

# How many prompts' pictures are kept to be shown, and of how many prompts all pictures are.
_SHOWN, _SHOWN_WHOLE = 24, 3


def evaluate(
    before: Backbone,
    after: Backbone,
    plan: Plan,
    scorers: Sequence[Scorer],
    *,
    register: Path | None = None,
    pictures_before: Pictures | None = None,
    trained_on: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask whether `after` draws better pictures than `before`, from the same noise.

    Args:
        before: The model before, or the one to compare with.
        after: The model after.
        plan: What is fixed beforehand.
        scorers: Who is asked. The first decides where the plan names none.
        register: Where the plan is written down before drawing. Without it, or with an
            incomplete plan, the result is called exploratory.
        pictures_before: What `before` drew for this plan at another time.
        trained_on: The prompts `after` was trained on, where they are known. A plan that says its
            prompts were held out is then checked, and refused if they were not.
        progress: Told (what, done, total) after each batch.

    Raises:
        SettingError: when plan, scorers or models do not fit together.
        StateError: when another plan is registered, or the pictures are of another model or plan.
    """
    start = time.perf_counter()
    _check(before, after, plan, scorers)
    seen = None if trained_on is None else _trained_prompts(plan, trained_on)
    registered_at = plan.register(register) if register is not None else None
    old = _drawn_before(before, plan, pictures_before, progress)
    new = draw(after, plan, what="draw after", progress=progress)
    rated = np.array([index < plan.pictures_per_prompt for _, index in plan.names])
    measurements = _measure(plan, scorers, old.images, new.images, rated, progress)
    return Evaluation(
        plan=plan,
        registered_at=registered_at,
        opinions=_opinions(plan, scorers, measurements),
        variety=_variety(plan, old.images, new.images),
        style=_styles(old.images[rated], new.images[rated], measurements.prompts),
        measurements=measurements,
        exhibits=_exhibits(plan, old.images, new.images),
        before=old.model,
        after=new.model,
        seconds=time.perf_counter() - start,
        provenance=provenance(),
        prompts_trained_on=seen,
    )


def _check(before: Backbone, after: Backbone, plan: Plan, scorers: Sequence[Scorer]) -> None:
    """Refuse what cannot work before anything is drawn."""
    names = [scorer.name for scorer in scorers]
    require(
        bool(plan.prompts),
        got="a plan without prompts",
        need="at least one prompt; 200 show a win rate of 60 %",
        fix="Put prompts in the plan.",
    )
    require(
        bool(names) and len(set(names)) == len(names),
        got=f"scorers {names}",
        need="at least one scorer, each with its own name",
        fix="Pass the scorers to ask, once each.",
    )
    require(
        plan.primary is None or plan.primary in names,
        got=f"the primary scorer {plan.primary!r} and scorers {names}",
        need="the primary among the scorers",
        fix="Pass it, or name another one in the plan.",
    )
    side = plan.resolution
    shapes = [model.latent_shape(*2 * (side or model.resolution,)) for model in (before, after)]
    require(
        shapes[0] == shapes[1] and (side is not None or before.resolution == after.resolution),
        got=f"models with latents {shapes[0]} and {shapes[1]}",
        need="the same latents, so that both can start from the same noise",
        fix="Compare models of one family, or fix the resolution in the plan.",
    )


def _trained_prompts(plan: Plan, trained_on: Collection[str]) -> int:
    """How many of the plan's prompts were trained on; none may be if it says so."""
    known = set(trained_on)
    seen = [prompt for prompt in plan.prompts if prompt in known]
    require(
        not (plan.held_out and seen),
        got=f"{len(seen)} of {len(plan.prompts)} prompts that are in the training data, such as "
        f"{seen[0] if seen else ''!r}",
        need="held-out prompts, as the plan says",
        fix="Leave them out, or do not say held_out: the result is then called exploratory.",
    )
    return len(seen)


def _drawn_before(
    before: Backbone, plan: Plan, kept: Pictures | None, progress: Progress | None
) -> Pictures:
    """The pictures before: those kept, if they are what would be drawn, or new ones."""
    if kept is None:
        return draw(before, plan, what="draw before", progress=progress)
    key = drawing_key(identity(before), plan)
    require(
        kept.key == key,
        got=f"kept pictures with the key {kept.key[:12]}",
        need=f"pictures of this model and plan, key {key[:12]}",
        fix="Leave pictures_before out; they are then drawn.",
        kind=StateError,
    )
    return kept


def _measure(
    plan: Plan,
    scorers: Sequence[Scorer],
    old: Images,
    new: Images,
    rated: NDArray[np.bool_],
    progress: Progress | None,
) -> Measurements:
    """Ask every scorer about every picture that counts for the win rates."""
    names = [name for name, counts in zip(plan.names, rated, strict=True) if counts]
    prompts = tuple(prompt for prompt, _ in names)
    return Measurements(
        prompts=prompts,
        indices=tuple(index for _, index in names),
        scores={
            scorer.name: (
                _ask(scorer, old[rated], prompts, f"{scorer.name}, before", progress),
                _ask(scorer, new[rated], prompts, f"{scorer.name}, after", progress),
            )
            for scorer in scorers
        },
        broken_before=broken(old[rated]),
        broken_after=broken(new[rated]),
    )


def _ask(
    scorer: Scorer, images: Images, prompts: Sequence[str], what: str, progress: Progress | None
) -> NDArray[np.float64]:
    """One scorer's score of each picture, asked batch by batch."""
    scores = np.empty(len(prompts), dtype=np.float64)
    for start in range(0, len(prompts), BATCH):
        block = slice(start, start + BATCH)
        asked = prompts[block]
        answer = np.asarray(scorer.score(list(images[block]), asked), dtype=np.float64)
        require(
            answer.shape == (len(asked),),
            got=f"scores of shape {answer.shape} for {len(asked)} pictures from {scorer.name}",
            need="one number per picture",
            fix="Mend the scorer's score method.",
            kind=SettingError,
        )
        scores[block] = answer
        if progress is not None:
            progress(what, start + len(asked), len(prompts))
    # Infinite scores are no opinion either: they would win against everything.
    return np.where(np.isfinite(scores), scores, np.nan)


def _opinions(plan: Plan, scorers: Sequence[Scorer], found: Measurements) -> tuple[Opinion, ...]:
    """Every scorer's opinion, the primary first, the others corrected for their number."""
    decides = plan.primary or scorers[0].name
    opinions = [
        Opinion(
            scorer=scorer.name,
            identity=scorer.identity,
            primary=scorer.name == decides,
            made_labels=scorer.name in plan.labelled_by,
            adjusted_p=None,
            **judge(found, scorer.name),
        )
        for scorer in sorted(scorers, key=lambda scorer: scorer.name != decides)
    ]
    adjusted = holm({opinion.scorer: opinion.p_value for opinion in opinions[1:]})
    return (
        opinions[0],
        *(replace(opinion, adjusted_p=adjusted[opinion.scorer]) for opinion in opinions[1:]),
    )


def _variety(plan: Plan, old: Images, new: Images) -> tuple[Drift, ...]:
    """Variety within a prompt, over prompts with the same number of pictures; () if only one."""
    count = plan.variety_prompts or len(plan.prompts)
    pictures = plan.pictures_of(0)
    if pictures < 2:
        return ()
    first = slice(0, count * pictures)
    return variety(old[first], new[first], [prompt for prompt, _ in plan.names[first]])


def _styles(old: Images, new: Images, prompts: Sequence[str]) -> tuple[Drift, ...]:
    """The plain statistics of the pictures that were rated."""
    was, now = style(old), style(new)
    count = len(old) // len(set(prompts))
    return tuple(
        drift(name, meaning, was[name], now[name], prompts, pictures=count)
        for name, meaning in STYLES.items()
    )


def _exhibits(plan: Plan, old: Images, new: Images) -> tuple[Exhibit, ...]:
    """The first pictures of the first prompts, and all of the very first: never chosen by look."""
    places = {prompt: place for place, prompt in enumerate(plan.prompts)}
    return tuple(
        Exhibit(prompt=prompt, index=index, before=old[at], after=new[at])
        for at, (prompt, index) in enumerate(plan.names)
        if places[prompt] < (_SHOWN if index == 0 else _SHOWN_WHOLE)
    )
