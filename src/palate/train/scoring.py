"""Scorers by name: the small world's, networks of others, and those of unfinished pictures.

Wherever a scorer is named (`--scorer`, `rollout.scorer`, `labels.scorer`), it is opened here.

Read next: `rollout.py`, which asks them about pictures the policy draws.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from palate.core.problems import SettingError, nearest, require, unknown
from palate.scorers import Scorer, StepScorer, Timeless
from palate.scorers.aesthetic import AestheticScorer
from palate.scorers.clip import CLIPScorer
from palate.scorers.hps import open_hps
from palate.scorers.imagereward import ImageRewardScorer
from palate.scorers.learned import open_scorer as open_folder
from palate.scorers.pickscore import PUBLISHED, open_pickscore
from palate.world import FIDELITY_PARTS, TASTE_PARTS, RewardPart, TrueReward

WORLD_PARTS = ("fidelity", *TASTE_PARTS, *FIDELITY_PARTS)
_FINISHED = (
    "world",
    "world:PART",
    "clip:FOLDER",
    "pickscore",
    "pickscore:FOLDER",
    "hpsv2:FOLDER",
    "imagereward:FOLDER",
    "aesthetic:FOLDER",
)
_UNFINISHED = ("steps:FOLDER", "latent:FOLDER")


def open_scorer(words: str, *, device: str = "cpu") -> Scorer:
    """A scorer of finished pictures: `world`, one of its parts, or a network's opinion.

    `clip:FOLDER` and `pickscore:FOLDER` take a CLIP model's folder or Hub id, `pickscore` alone the
    published one. `hpsv2`, `imagereward` and `aesthetic` take what `palate scorer convert` writes.

    Args:
        words: Its kind, and after a colon which one.
        device: Where it computes, if it has a network.

    Raises:
        SettingError: for words that name no scorer, or one of unfinished pictures.
        WeightsError: when its folder cannot be used.
    """
    _, _, which = words.partition(":")
    return _finished(words)(which, device)


def open_step_scorer(words: str, *, device: str = "cpu") -> StepScorer:
    """A scorer of unfinished pictures: `steps:FOLDER`, `latent:FOLDER`, or any other kind.

    Scorers of finished pictures judge the predicted one as if it were finished.

    Args:
        words: As for `open_scorer`, and the two kinds made by `palate scorer train`.
        device: Where it computes, if it has a network.

    Raises:
        SettingError: for words that name no scorer.
        WeightsError: when its folder cannot be used, or holds the other kind.
    """
    kind, _, which = words.partition(":")
    if kind in _STEPWISE and which:
        return _STEPWISE[kind](which, device)
    return Timeless(_named(words, _PLAIN, (*_FINISHED, *_UNFINISHED))(which, device))


def check_scorer(words: str) -> None:
    """Refuse words that `open_scorer` could not open, without opening anything large.

    Raises:
        SettingError: for words that name no scorer, one of unfinished pictures, or a folder
            that is not there.
    """
    _finished(words)
    _check_place(words)


def check_step_scorer(words: str) -> None:
    """The same for `open_step_scorer`.

    Raises:
        SettingError: for words that name no scorer, or a folder that is not there.
    """
    kind, _, which = words.partition(":")
    if not (kind in _STEPWISE and which):
        _named(words, _PLAIN, (*_FINISHED, *_UNFINISHED))
    _check_place(words)


def _check_place(words: str) -> None:
    """Refuse a part of the world's reward, or a folder, that is not there."""
    kind, _, which = words.partition(":")
    if kind in _SMALL:
        _PLAIN[kind](which, "cpu")
        return
    if not which:
        return
    # A Hub name looks like owner/name; anything else that is not there is a typing mistake.
    require(
        Path(which).expanduser().is_dir()
        or (kind in _FROM_HUB and not which.startswith(("/", "."))),
        got=f"scorer {words!r}, a folder that is not there",
        need="the scorer's folder",
        fix="Check the path; `palate scorer train` makes scorers of unfinished pictures, and "
        "`palate scorer convert` folders from published checkpoints.",
    )


def _world(part: str, device: str) -> Scorer:
    del device
    if not part:
        return TrueReward()
    if part not in WORLD_PARTS:
        raise unknown("part of the world's reward", part, WORLD_PARTS)
    return RewardPart(part)


def _clip(folder: str, device: str) -> Scorer:
    return CLIPScorer.open(folder, device=device)


def _pickscore(folder: str, device: str) -> Scorer:
    return open_pickscore(folder or PUBLISHED, device=device)


def _hpsv2(folder: str, device: str) -> Scorer:
    return open_hps(folder, device=device)


def _imagereward(folder: str, device: str) -> Scorer:
    return ImageRewardScorer.open(folder, device=device)


def _aesthetic(folder: str, device: str) -> Scorer:
    return AestheticScorer.open(folder, device=device)


def _pictures(folder: str, device: str) -> StepScorer:
    return _reading(open_folder(folder, device=device), folder, "pictures")


def _latents(folder: str, device: str) -> StepScorer:
    return _reading(open_folder(folder, device=device), folder, "latents")


def _reading(scorer: StepScorer, folder: str, reads: str) -> StepScorer:
    """The scorer, once it is sure that it is of the kind that was named."""
    right = {"pictures": "steps", "latents": "latent"}[scorer.reads]
    require(
        scorer.reads == reads,
        got=f"{folder}, a scorer that reads {scorer.reads}",
        need=f"one that reads {reads}",
        fix=f"Write {right}:{folder}",
    )
    return scorer


def _finished(words: str) -> Callable[[str, str], Scorer]:
    """How to open a scorer of finished pictures.

    Raises:
        SettingError: when they name none, or one of unfinished pictures.
    """
    kind, _, which = words.partition(":")
    require(
        not (kind in _STEPWISE and which),
        got=f"scorer {words!r}, which judges unfinished pictures",
        need=_listed(_FINISHED),
        fix="Use one of these here; a rollout takes either kind.",
    )
    return _named(words, _PLAIN, _FINISHED)


def _named(
    words: str,
    kinds: Mapping[str, Callable[[str, str], Scorer]],
    known: tuple[str, ...],
) -> Callable[[str, str], Scorer]:
    """How to open what these words name.

    Raises:
        SettingError: when they name nothing.
    """
    kind, _, which = words.partition(":")
    forms = {form.partition(":")[0]: form for form in reversed(known)}
    if kind not in kinds or (not which and forms[kind] != kind):
        guess = forms.get(nearest(kind, forms) or "", known[0])
        raise SettingError(
            got=f"scorer {words!r}", need=_listed(known), fix=f"Did you mean {guess}?"
        )
    return kinds[kind]


def _listed(forms: tuple[str, ...]) -> str:
    return f"{', '.join(forms[:-1])} or {forms[-1]}"


_PLAIN: Mapping[str, Callable[[str, str], Scorer]] = {
    "world": _world,
    "clip": _clip,
    "pickscore": _pickscore,
    "hpsv2": _hpsv2,
    "imagereward": _imagereward,
    "aesthetic": _aesthetic,
}
# Opened in no time, and the ones that may have to be fetched first.
_SMALL = ("world",)
_FROM_HUB = ("clip", "pickscore", "hpsv2", "imagereward", "aesthetic")
_STEPWISE: Mapping[str, Callable[[str, str], StepScorer]] = {
    "steps": _pictures,
    "latent": _latents,
}
