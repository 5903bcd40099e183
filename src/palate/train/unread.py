"""Settings that a run would accept and nobody would read: refused before anything is loaded.

Read next: `run.py`, which asks; `sources.py`, the groups that decide who reads what.
"""

from typing import TYPE_CHECKING

from palate.core.problems import require
from palate.objectives import OBJECTIVES
from palate.train.sources import LabelSettings
from palate.train.strict import Strict

if TYPE_CHECKING:
    from palate.train.run import Run


def refuse_unread(run: "Run") -> None:
    """Refuse what this run would not look at, or could not use once it got there.

    Raises:
        SettingError: for the first such setting.
    """
    for check in (_own, _drawn, _played, _labelled, _personal):
        check(run)


def _own(run: "Run") -> None:
    """What the objective itself can use."""
    name, needs = run.objective.name, OBJECTIVES.named(run.objective.name).needs
    unused = [each for each in needs.steps_only if run.objective.settings[each] is not None]
    require(
        run.evidence == "steps" or not unused,
        got=f"objective.{', objective.'.join(unused)} of {name} without a rollout",
        need="steps of pictures the policy draws, which alone have a ratio to clip",
        fix=f"Leave {' and '.join(unused)} out, or add the group rollout.",
    )
    require(
        run.noise.shared or not needs.shared_noise,
        got=f"noise.shared=False with objective {name}",
        need="one noise for both pictures, whose residuals are compared",
        fix="Leave noise.shared out.",
    )
    require(
        run.inversion is None or run.inversion.target != "reference" or needs.reference,
        got=f"inversion.target=reference with objective {name}, which asks no reference",
        need="a target that does not depend on its answer",
        fix="Use inversion.target=trajectory or clean.",
    )


def _drawn(run: "Run") -> None:
    """What a rollout reads: its own levels, its own noise, and no pictures of the data."""
    rollout = run.rollout
    if rollout is None:
        return
    told = _chosen(run.noise, "levels", "shared") + _chosen(run.pictures, "flip", "crop", "latents")
    told += _chosen(run.split, "by", "held_out") if run.data is None else []
    require(
        not told,
        got=f"{', '.join(told)} with a rollout",
        need="settings of pictures that the policy draws; these are of pictures in the data",
        fix=f"Leave out {' and '.join(each.partition('=')[0] for each in told)}.",
    )
    require(
        rollout.labels == "steps" or rollout.threshold_high is None,
        got=f"rollout.threshold_high={rollout.threshold_high} with rollout.labels=final",
        need="one threshold: a finished picture is judged once",
        fix="Use rollout.threshold_high=null and rollout.threshold, or rollout.labels=steps.",
    )


def _played(run: "Run") -> None:
    """What the rounds of a self-play read: their own labels, and the opponent's own way."""
    game, needs = run.selfplay, OBJECTIVES.named(run.objective.name).needs
    if game is None:
        return
    require(
        run.labels == LabelSettings() and "correction" not in needs.facts,
        got=f"selfplay with objective {run.objective.name} and "
        f"{', '.join(_chosen(run.labels, *LabelSettings.model_fields)) or 'its labels'}",
        need="labels that nobody gives: in every round the data wins over the model",
        fix="Leave the group labels out, or the group selfplay.",
    )
    if game.opponent != "trajectory":
        return
    require(
        run.inversion is None,
        got="selfplay.opponent=trajectory with the group inversion",
        need="one way to a noisy picture: the opponent's sampler, or back from a finished one",
        fix="Use selfplay.opponent=renoised, or remove the group inversion.",
    )
    require(
        run.noise.levels == "uniform",
        got=f"noise.levels={run.noise.levels} with selfplay.opponent=trajectory",
        need="levels from the opponent's sampler, each as likely as any other",
        fix="Use noise.levels=uniform; noise.lowest and noise.highest count.",
    )
    require(
        needs.reference,
        got=f"selfplay.opponent=trajectory with objective {run.objective.name}, "
        "which asks no reference",
        need="the opponent's own answer, which is the reference's",
        fix="Use selfplay.opponent=renoised.",
    )


def _labelled(run: "Run") -> None:
    """What machines' labels read, where there are any."""
    labels, facts = run.labels, OBJECTIVES.named(run.objective.name).needs.facts
    told = _chosen(labels, "sharpness")
    require(
        not told or labels.scorer is not None or bool(labels.scorers),
        got=f"{', '.join(told)} without a scorer",
        need="scores, whose differences it scales",
        fix="Add labels.scorer, or leave labels.sharpness out.",
    )
    require(
        not labels.any_draw or "correction" in facts,
        got=f"labels.any_draw=True with objective {run.objective.name}",
        need="an objective that corrects a machine's labels by people's",
        fix="Leave labels.any_draw out.",
    )


def _personal(run: "Run") -> None:
    """What people's own pairs can be learned from: noised or led back, with their own labels."""
    if run.personal is None:
        return
    name, needs = run.objective.name, OBJECTIVES.named(run.objective.name).needs
    drawing = [group for group in ("rollout", "selfplay") if getattr(run, group) is not None]
    require(
        not drawing,
        got=f"personal with the group {' and '.join(drawing)}",
        need="pairs that people judged; what a model draws while it trains is nobody's choice",
        fix=f"Remove the group {' and '.join(drawing)}, or personal.",
    )
    labels = _chosen(run.labels, "scorer", "scorers")
    require(
        not labels and "correction" not in needs.facts,
        got=f"personal with {', '.join(labels) or f'objective {name}'}",
        need="labels of the people themselves; a machine's are the same for everybody",
        fix="Leave the group labels out, and use an objective that reads people's labels.",
    )
    require(
        not (run.personal.learned and run.split.by == "judge"),
        got="personal.users=learned with split.by=judge",
        need="held-out pairs of people who have a vector",
        fix="Use split.by=prompt, or an encoder, which knows people it was not trained with.",
    )


def _chosen(group: Strict, *names: str) -> list[str]:
    """Those of a group's settings that are not as usual, such as `noise.shared=False`."""
    usual = type(group)()
    return [
        f"{group.group}.{name}={getattr(group, name)}"
        for name in names
        if getattr(group, name) != getattr(usual, name)
    ]
