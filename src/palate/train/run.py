"""Run: everything needed to repeat a training, in one value.

It is read from Python, from YAML or from flags, printed back whole, and refused before any weight
is loaded. Nothing outside it changes a number; nothing in it is skipped in silence.

Read next: `loop.py`, what is done with it.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, final, get_args, get_origin

import yaml
from pydantic import Field, model_validator

from palate.backbones.backbone import Adapter
from palate.core.files import digest_json
from palate.core.plain import plain
from palate.core.problems import SettingError, nearest, require
from palate.objectives import OBJECTIVES, Evidence, Objective
from palate.train.groups import (
    GROUPS,
    AdapterSettings,
    InversionSettings,
    LabelSettings,
    Limits,
    NoiseSettings,
    ObjectiveSettings,
    PersonalSettings,
    Pictures,
    Plan,
    RolloutSettings,
    SelfPlaySettings,
    Split,
)
from palate.train.strict import (
    Lines,
    Strict,
    build,
    parse_yaml,
    read_yaml,
    reads_as_word,
    unknown_setting,
    where,
)
from palate.train.unread import refuse_unread

# Groups that may be None, the ones that only some methods bring, and the ones that stand for a
# kind of evidence.
SOURCES = ("inversion", "rollout", "selfplay")
BROUGHT = (*SOURCES, "personal")
ABSENT = ("adapter", *BROUGHT)
EVIDENCE = frozenset(("inversion", "rollout"))
BETA_CONVENTION = (
    "logit = (beta/2) · margin; margin = difference of per-element-mean squared errors (fp32)"
)


@final
class Run(Strict):
    """Everything needed to repeat a training."""

    model: str = Field(description="the model: a folder, a Hub name, or `shipped`", min_length=1)
    data: str | None = Field(
        default=None,
        min_length=1,
        description="the folder of a frozen data snapshot; only a rollout does without",
    )
    seed: int = Field(default=0, ge=0, description="names every random draw")
    objective: ObjectiveSettings = Field(
        default_factory=ObjectiveSettings, description="which loss, and its settings"
    )
    adapter: AdapterSettings | None = Field(
        default_factory=AdapterSettings, description="adapters; null trains all weights"
    )
    plan: Plan = Field(default_factory=Plan, description="how long and how fast to learn")
    pictures: Pictures = Field(default_factory=Pictures, description="how pictures are prepared")
    noise: NoiseSettings = Field(default_factory=NoiseSettings, description="which noise levels")
    inversion: InversionSettings | None = Field(
        default=None, description="judge pictures led back to noise"
    )
    rollout: RolloutSettings | None = Field(
        default=None, description="judge steps of pictures the policy draws"
    )
    selfplay: SelfPlaySettings | None = Field(
        default=None, description="play rounds against the model of the round before"
    )
    labels: LabelSettings = Field(
        default_factory=LabelSettings, description="labels a machine gives"
    )
    personal: PersonalSettings | None = Field(
        default=None, description="follow everybody's own taste, told by some of their pairs"
    )
    split: Split = Field(default_factory=Split, description="which pairs are held out")
    health: Limits = Field(default_factory=Limits, description="limits of the health monitor")

    @classmethod
    def from_values(
        cls,
        values: Mapping[str, Any],
        *,
        changes: Mapping[str, Any] | None = None,
        lines: Lines | None = None,
    ) -> "Run":
        """A run from plain values, nested or with dotted names such as `plan.steps`.

        Args:
            values: The settings.
            changes: Settings over them, named alike. Another method among these leaves open what
                the method in `values` brought.
            lines: Where each of the values stands in its file.

        Raises:
            SettingError: for the first setting that is unknown, missing, wrong or contradicting.
        """
        over = _nested(changes or {}, {})
        places = {name: line for name, line in (lines or {}).items() if name not in (changes or {})}
        nested = _with_method(_changed(_nested(values, places), over))
        made = {name: _group(name, value, places) for name, value in nested.items()}
        return build(cls, made, places)

    @classmethod
    def from_yaml(cls, path: Path) -> "Run":
        """A run from a YAML file, with line numbers in what it refuses.

        Raises:
            SettingError: as `from_values`, and for repeated keys, anchors, aliases and tags.
        """
        values, lines = read_yaml(path)
        return cls.from_values(values, lines=lines)

    @classmethod
    def from_yaml_text(cls, text: str) -> "Run":
        """A run from YAML text; see `from_yaml`."""
        values, lines = parse_yaml(text)
        return cls.from_values(values, lines=lines)

    def with_values(self, values: Mapping[str, Any]) -> "Run":
        """The same run with some settings changed, named as in `from_values`."""
        return Run.from_values(self.values(), changes=values)

    def values(self) -> dict[str, Any]:
        """All settings as plain nested values."""
        values = self.model_dump(mode="json")
        values["objective"] = {"name": self.objective.name, **values["objective"]["settings"]}
        return values

    def to_yaml(self) -> str:
        """All settings as YAML that reads back to the same run."""
        header = f"# {self.beta_convention}\n" if "beta" in self.objective.settings else ""
        return header + yaml.dump(self.values(), Dumper=_Dumper, sort_keys=False, width=88)

    @property
    def digest(self) -> str:
        """SHA-256 of all settings."""
        return digest_json(self.values())

    @property
    def beta_convention(self) -> str:
        """What beta multiplies, in one sentence; there is one convention in the whole project."""
        return BETA_CONVENTION

    def differences(self, other: "Run") -> dict[str, tuple[Any, Any]]:
        """Settings that differ: dotted name → (this run's, the other's)."""
        mine, others = _flat(self.values()), _flat(other.values())
        return {
            name: (mine.get(name), others.get(name))
            for name in sorted({*mine, *others})
            if mine.get(name) != others.get(name)
        }

    @property
    def evidence(self) -> Evidence:
        """What the objective judges in this run."""
        if self.rollout is not None:
            return "steps"
        return "noised" if self.inversion is None else "inverted"

    @property
    def plays(self) -> bool:
        """Whether this is a whole self-play, and not one of its rounds or an ordinary run."""
        return self.selfplay is not None and self.selfplay.round is None

    @property
    def rounds(self) -> int:
        """Rounds of a whole self-play; 1 for everything else."""
        return self.selfplay.iterations if self.selfplay is not None and self.plays else 1

    @property
    def planned_steps(self) -> int:
        """Optimizer steps, over all rounds."""
        told = self.selfplay.steps if self.selfplay is not None and self.plays else None
        return self.rounds * self.plan.steps if told is None else sum(told)

    @model_validator(mode="before")
    @classmethod
    def _people_alone(cls, values: Any) -> Any:
        """Where people are followed, attention to them is all that is trained."""
        if isinstance(values, dict) and values.get("personal") is not None:
            return {"adapter": None, **values}
        return values

    @model_validator(mode="after")
    def _whole(self) -> Self:
        name, needs = self.objective.name, OBJECTIVES.named(self.objective.name).needs
        groups = {"noised": "neither rollout nor inversion", "inverted": "the group inversion"}
        groups["steps"] = "the group rollout"
        judged = " or ".join(groups[each] for each in needs.evidence)
        require(
            self.evidence in needs.evidence,
            got=f"objective {name} with {groups[self.evidence]}",
            need=f"{judged}: what {name} can judge",
            fix="Start from `palate train --method "
            f"{name}`, which brings its groups, or remove the other one.",
        )
        require(
            self.inversion is None or self.rollout is None,
            got="both inversion and rollout",
            need="one kind of evidence",
            fix="Remove one of the two groups.",
        )
        require(
            self.selfplay is None or (self.rollout is None and self.split.by == "prompt"),
            got=f"selfplay with split.by={self.split.by}"
            + (" and rollout" if self.rollout is not None else ""),
            need="pictures of the data against the model's own, held out by prompt",
            fix="Remove the group rollout or selfplay, and use split.by=prompt.",
        )
        require(
            self.data is not None or self.rollout is not None,
            got=f"no data for objective {name}",
            need="the folder of a frozen snapshot",
            fix="Add data (--data my-pairs); `palate data freeze` makes one.",
        )
        require(
            self.data is not None or self.labels == LabelSettings(),
            got="labels of pairs without data",
            need="data for a machine to label; what a rollout draws is judged by rollout.scorer",
            fix="Leave the group labels out, or add data.",
        )
        require(
            not needs.generation or self.rollout is not None or self.selfplay is not None,
            got=f"objective {name} with neither rollout nor selfplay",
            need="pictures that a model draws to be learned from",
            fix=f"Leave these groups out: `palate train --method {name}` brings the one it needs.",
        )
        require(
            not needs.users or self.personal is not None,
            got=f"objective {name} without the group personal",
            need="people whose tastes are told apart",
            fix="Leave personal out, which brings it, or use objective dpo for everybody at once.",
        )
        require(
            self.personal is None or self.adapter is None,
            got="both personal and adapter",
            need="one of them: attention to people is trained alone, beside a base that stays",
            fix="Remove the group adapter, or personal.",
        )
        if self.inversion is not None:
            self._repeatable(self.inversion)
        refuse_unread(self)
        return self

    def _repeatable(self, inversion: InversionSettings) -> None:
        """Refuse draws that an inversion would not see, or that its kept ways would not meet."""
        require(
            self.noise.levels == "uniform" and (self.noise.shared or inversion.jitter > 0),
            got=f"noise.levels={self.noise.levels}, noise.shared={self.noise.shared} and an "
            f"inversion with inversion.jitter={inversion.jitter}",
            need="levels from the inversion's grid, and a noise where it can be shared or not",
            fix="Leave noise.levels and noise.shared out; noise.lowest and noise.highest count.",
        )
        still = self.plan.caption_dropout == 0 and self.pictures.latents == "mean"
        require(
            inversion.by == "policy" or still,
            got=f"plan.caption_dropout={self.plan.caption_dropout} and pictures.latents="
            f"{self.pictures.latents} with inversion.by={inversion.by}",
            need="the same prompt and latents at each visit, because the ways they lead are kept",
            fix="Use plan.caption_dropout=0 and pictures.latents=mean, or inversion.by=policy.",
        )

    def build_objective(self) -> Objective:
        """The loss."""
        return self.objective.build()

    def build_adapter(self) -> Adapter | None:
        """The adapters, or None when all weights are trained."""
        if self.adapter is None:
            return None
        return Adapter(**self.adapter.model_dump(), seed=self.seed)


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as a command line needs to know it.

    Attributes:
        path: Its dotted name.
        type: The Python type of its value.
        options: The words it may be, or None.
        default: What it is when left out; None also where it is required.
        required: Whether it must be given.
        help: What it is, in a few words.
    """

    path: str
    type: Any
    options: tuple[str, ...] | None
    default: Any
    required: bool
    help: str


def settings() -> tuple[Setting, ...]:
    """Every setting of a run except the objectives' own, in reading order."""
    found: list[Setting] = []
    for name, field in Run.model_fields.items():
        kind = GROUPS.get(name)
        fields = (
            {name: field}
            if kind is None
            else {
                f"{name}.{key}": value
                for key, value in kind.model_fields.items()
                if key != "settings"
            }
        )
        for path, info in fields.items():
            literal = get_origin(info.annotation) is Literal
            found.append(
                Setting(
                    path=path,
                    type=str if literal else info.annotation,
                    options=get_args(info.annotation) if literal else None,
                    default=None
                    if info.is_required()
                    else info.get_default(call_default_factory=True),
                    required=info.is_required(),
                    help=info.description or "",
                )
            )
    return tuple(found)


def _nested(values: Mapping[str, Any], lines: Lines) -> dict[str, Any]:
    """Dotted names put into their groups."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        name, _, rest = str(path).partition(".")
        if name not in Run.model_fields:
            raise _unknown_top(str(path), lines)
        if rest:
            group = nested.setdefault(name, {})
            require(
                isinstance(group, dict),
                got=f"{path}={value!r} with {name}: {group!r}",
                need="one or the other",
                fix=f"Remove {path}, or set {name} to a group of settings.",
            )
            group[rest] = value
        else:
            require(
                name not in nested,
                got=f"{name}: {value!r} beside settings named {name}.…",
                need="one or the other",
                fix=f"Give {name} once.",
            )
            nested[name] = dict(value) if isinstance(value, Mapping) else value
    return nested


def _with_method(nested: dict[str, Any]) -> dict[str, Any]:
    """What the run leaves open, as the method's publication has it."""
    group = nested.get("objective", {})
    name = group.get("name", "dpo") if isinstance(group, dict) else "dpo"
    if name not in OBJECTIVES:
        return nested
    found = dict(nested)
    for path, value in OBJECTIVES.named(name).needs.settings.items():
        top, _, rest = path.partition(".")
        inner = found.get(top, {})
        # Another kind of evidence was asked for, or the group was left out on purpose.
        if inner is None or (top in EVIDENCE and (EVIDENCE - {top}) & set(nested)):
            continue
        if isinstance(inner, dict) and rest not in inner:
            found[top] = {**inner, rest: value}
    return found


def _changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with changes over them; see `Run.from_values`."""
    now, after = _method(values, "dpo"), _method(changes, None)
    old = values
    if now is not None and after is not None and now != after:
        old = _reopened(values, now, after)
    return old | {name: _over(old.get(name), value) for name, value in changes.items()}


def _method(values: Mapping[str, Any], unnamed: str | None) -> str | None:
    """The method of nested values, if they say anything about the objective."""
    group = values.get("objective")
    name = group.get("name", unnamed) if isinstance(group, dict) else None
    return None if name is None else str(name)


def _over(old: Any, new: Any) -> Any:
    """A value over another; of two groups, setting by setting."""
    if old is None or not isinstance(new, Mapping):
        return new
    # A group over what is none: the mistake of the older one, to be refused with its line.
    return {**old, **new} if isinstance(old, Mapping) else old


def _reopened(values: Mapping[str, Any], before: str, after: str) -> dict[str, Any]:
    """Values without what one method brought, and open to what another one brings.

    Its own settings go, and with them every source of evidence that the other method does not
    have, and the people it brought. Elsewhere what somebody chose stays.
    """
    mine, theirs = (
        OBJECTIVES.named(name).needs.settings if name in OBJECTIVES else {}
        for name in (before, after)
    )
    brought = {path.partition(".")[0] for path in theirs}
    gone = {"objective", *(n for n in BROUGHT if values.get(n) is None)}
    gone |= {n for n in SOURCES if n not in brought}
    gone |= _of_people({path.partition(".")[0] for path in mine}, brought, values)
    found = {name: value for name, value in values.items() if name not in gone}
    for path in {**mine, **theirs}:
        top, _, rest = path.partition(".")
        group = found.get(top)
        if not isinstance(group, dict) or rest not in group:
            continue
        usual = GROUPS[top].model_fields[rest].get_default(call_default_factory=True)
        if plain(group[rest]) in (plain(usual), plain(mine.get(path, usual))):
            found[top] = {name: value for name, value in group.items() if name != rest}
    return found


def _of_people(mine: set[str], theirs: set[str], values: Mapping[str, Any]) -> set[str]:
    """What goes when a method that follows people gives way to one that does not, or comes after.

    The groups people and adapters exclude each other, so that one that nobody chose must not stay
    in the way of the other.
    """
    if "personal" in mine - theirs:
        return {"personal", *({"adapter"} if values.get("adapter") is None else ())}
    usual = values.get("adapter") == plain(AdapterSettings().model_dump())
    return {"adapter"} if "personal" in theirs and usual else set()


def _unknown_top(path: str, lines: Lines) -> SettingError:
    """An unknown name at the top; often one that belongs into a group."""
    for group, kind in GROUPS.items():
        if path in kind.model_fields and path != "settings":
            return SettingError(
                got=f"an unknown setting {path}{where(path, lines)}",
                need=f"it inside the group {group}",
                fix=f"Did you mean {group}.{path}?",
            )
    names = [f"{group}.{name}" for group, kind in GROUPS.items() for name in kind.model_fields]
    guess = nearest(path, Run.model_fields) or nearest(path, names)
    inner = {name.rpartition(".")[2]: name for name in names}
    guess = guess or inner.get(nearest(path, inner) or "")
    return SettingError(
        got=f"an unknown setting {path}{where(path, lines)}",
        need=f"one of {', '.join(Run.model_fields)}",
        fix=f"Did you mean {guess}?" if guess else "Remove it.",
    )


def _group(name: str, value: Any, lines: Lines) -> Any:
    """A group built from its values; other values as they are."""
    kind = GROUPS.get(name)
    if kind is None or isinstance(value, kind) or (value is None and name in ABSENT):
        return value
    if not isinstance(value, Mapping):
        raise SettingError(
            got=f"{name}={value!r}{where(name, lines)}",
            need=f"a group of settings ({', '.join(kind.model_fields)})",
            fix=f"Write for example {name}.{next(iter(kind.model_fields))}.",
        )
    try:
        return _objective(value, lines) if kind is ObjectiveSettings else build(kind, value, lines)
    except SettingError as error:
        raise _placed(error, name, lines) from None


def _placed(error: SettingError, group: str, lines: Lines) -> SettingError:
    """A group's own refusal, such as `beta=-1`, with the line of the setting it begins with."""
    word = error.got.partition("=")[0].rpartition(".")[2]
    place = {"objective": "objective.name"}.get(word, f"{group}.{word}")
    if "(line" in error.got or place not in lines:
        return error
    return SettingError(got=f"{error.got}{where(place, lines)}", need=error.need, fix=error.fix)


def _objective(value: Mapping[str, Any], lines: Lines) -> ObjectiveSettings:
    """A loss from one flat group: its name and its own settings side by side."""
    own = {key: item for key, item in value.items() if key != "name"}
    name = value.get("name", "dpo")
    if isinstance(name, str) and name in OBJECTIVES:
        known = [field.name for field in dataclasses.fields(OBJECTIVES.named(name))]
        for key in own:
            if key not in known:
                raise unknown_setting(f"objective.{key}", known, lines)
    return build(ObjectiveSettings, {"name": name, "settings": own}, lines)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat


class _Dumper(yaml.SafeDumper):
    """Writes short lists on one line, and words that look like something else in quotes."""


def _list(dumper: yaml.SafeDumper, items: Any) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _word(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if reads_as_word(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(str, _word)
