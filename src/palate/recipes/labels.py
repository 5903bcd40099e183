"""Labelers by name: the only place where words become somebody who makes labels.

`clip:FOLDER` and every other scorer, several scorers together, `endpoint:MODEL`, `vision:FOLDER`
and `own:RUN`. Settings are given by name, and one that this labeler does not have is refused, not
passed over.

Read next: `palate/label/labeler.py`, what a labeler does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

from palate.core.problems import SettingError, nearest, require, unknown
from palate.label import Labeler
from palate.label.by_score import ScoreLabeler
from palate.label.endpoint import EndpointLabeler
from palate.label.rubric import open_rubric
from palate.label.spent import Spent
from palate.label.together import Calibrated, Majority, Others, Pareto, Rule, Together
from palate.label.vision import VisionLabeler
from palate.train.scoring import open_scorer

_SCORER_TAKES: Final = frozenset(("sharpness", "margin", "indifference"))
_VISION_TAKES: Final = frozenset(("rubric", "largest_side", "canary", "allow_orders"))
_SERVER_TAKES: Final = frozenset(
    ("url", "at_once", "retries", "timeout", "structured", "probabilities", "price_in", "price_out")
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Hired:
    """A labeler, ready to work.

    Attributes:
        labeler: Who labels.
        spent: What asking has cost so far; None where nobody is paid or waited for.
    """

    labeler: Labeler
    spent: Callable[[], Spent] | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of labeler that is no scorer.

    Attributes:
        form: How it is named.
        takes: Settings that it has.
        open: Which one, device and settings → the labeler.
    """

    form: str
    takes: frozenset[str]
    open: Callable[[str, str, Mapping[str, Any]], Hired]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """One way of asking several scorers together.

    Attributes:
        takes: Settings that it has.
        rule: Makes the rule from settings.
    """

    takes: frozenset[str]
    rule: Callable[..., Rule]


def hire(
    names: Sequence[str],
    *,
    together: str | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    device: str = "cpu",
    others: Others = dict,
) -> Hired:
    """The labeler that some words name.

    Args:
        names: A kind, and after a colon which one; several scorers with `together`.
        together: How several scorers make one label: a key of `TOGETHER`.
        settings: What was set, by name; what is not in it is the labeler's own default.
        device: Where it computes, if it has a network.
        others: Tells prompt → digests of all its pictures; asked for calibrated rewards only.

    Raises:
        SettingError: for words that name no labeler, or a setting that it does not have.
        WeightsError: when its folder cannot be used.
        StateError: when a run that labels has no export and no whole checkpoint.
    """
    if together is not None:
        return Hired(labeler=_company(names, together, settings, device, others))
    require(
        len(names) == 1,
        got=f"{len(names)} labelers ({', '.join(names)}) and no way to ask them together",
        need=f"one, or --together {', '.join(TOGETHER)}",
        fix="Name one after the other to have labels of each, or add --together majority.",
    )
    word, _, which = names[0].partition(":")
    if word in KINDS:
        return _open(KINDS[word], names[0], which, settings, device)
    _only(settings, _SCORER_TAKES, f"scorer {names[0]}")
    return Hired(labeler=ScoreLabeler(_scorer(names[0], device), **settings))


def _company(
    names: Sequence[str], together: str, settings: Mapping[str, Any], device: str, others: Others
) -> Labeler:
    """Several scorers that make one label."""
    if together not in TOGETHER:
        raise unknown("together", together, TOGETHER)
    require(
        len(set(names)) == len(names) >= 2,
        got=f"--together {together} of {', '.join(names)}",
        need="two or more different ones",
        fix="Name each scorer with a --by of its own, or leave --together out for one's labels.",
    )
    for name in names:
        require(
            name.partition(":")[0] not in KINDS,
            got=f"{name} with --together {together}",
            need="scorers, which give each picture a number of its own",
            fix="Label with it alone; judges of all kinds are put together by "
            "`palate data aggregate`.",
        )
    company = TOGETHER[together]
    _only(settings, company.takes, f"--together {together}")
    rule = company.rule(**settings)
    scorers = tuple(_scorer(name, device) for name in names)
    return Together(scorers=scorers, rule=rule, others=others)


def _open(kind: Kind, name: str, which: str, settings: Mapping[str, Any], device: str) -> Hired:
    require(
        bool(which),
        got=f"labeler {name!r} without saying which",
        need=kind.form,
        fix=f"Write it as {kind.form}.",
    )
    _only(settings, kind.takes, name)
    return kind.open(which, device, settings)


def _scorer(words: str, device: str) -> Any:
    """The scorer these words name, or an error that knows of other labelers too."""
    forms = {name: kind.form for name, kind in KINDS.items()}
    try:
        return open_scorer(words, device=device)
    except SettingError as problem:
        if not problem.got.startswith("scorer "):
            raise
        guess = nearest(words.partition(":")[0], forms)
        raise SettingError(
            got=problem.got.replace("scorer", "labeler", 1),
            need=f"{problem.need}; or {', '.join(forms.values())}",
            fix=f"Did you mean {forms[guess]}?" if guess else problem.fix,
        ) from problem


def _only(settings: Mapping[str, Any], takes: frozenset[str], whose: str) -> None:
    """Refuse what a labeler does not have."""
    for name in settings:
        require(
            name in takes,
            got=f"--{name.replace('_', '-')} with {whose}",
            need=f"settings that it has: {', '.join(sorted(takes)).replace('_', '-')}",
            fix="Remove it.",
        )


def _own(run: str, device: str, settings: Mapping[str, Any]) -> Hired:
    from palate.recipes.own_labels import OwnLabeler
    from palate.recipes.taught import open_taught, run_and_step

    folder, step = run_and_step(run)
    taught = open_taught(folder, step=step, device=device)
    return Hired(labeler=OwnLabeler(taught, **settings))


def _endpoint(model: str, device: str, settings: Mapping[str, Any]) -> Hired:
    del device
    require(
        "url" in settings,
        got=f"endpoint:{model} without an address",
        need="--url, where the server answers",
        fix="Add --url http://localhost:8000/v1 or the like.",
    )
    labeler = EndpointLabeler.open(model=model, **settings)
    return Hired(labeler=labeler, spent=lambda: labeler.spent)


def _vision(folder: str, device: str, settings: Mapping[str, Any]) -> Hired:
    from palate.scorers.vision import VisionModel

    rubric = open_rubric(settings.get("rubric", "general"))
    rest = {name: value for name, value in settings.items() if name != "rubric"}
    return Hired(labeler=VisionLabeler(VisionModel.open(folder, device=device), rubric, **rest))


KINDS: Mapping[str, Kind] = {
    "endpoint": Kind(form="endpoint:MODEL", takes=_VISION_TAKES | _SERVER_TAKES, open=_endpoint),
    "vision": Kind(form="vision:FOLDER", takes=_VISION_TAKES, open=_vision),
    "own": Kind(form="own:RUN", takes=frozenset(("sharpness", "draws")), open=_own),
}
TOGETHER: Mapping[str, Company] = {
    "majority": Company(takes=frozenset(("indifference",)), rule=Majority),
    "pareto": Company(takes=frozenset(("indifference",)), rule=Pareto),
    "calibrated": Company(takes=_SCORER_TAKES, rule=Calibrated),
}
