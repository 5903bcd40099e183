"""Settings as flags: every setting of a run by its dotted name, or its last word where unique.

`--plan.learning-rate 1e-4`, `--learning-rate=1e-4` and `--plan.learning_rate 1e-4` say the same.
What a value may be is the run's business; here a word only becomes the number, truth or list that
the setting is declared to be.
"""

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from palate.cli.errors import unknown_flag
from palate.core.problems import SettingError, require
from palate.objectives import OBJECTIVES
from palate.train.run import BROUGHT, Setting, settings
from palate.train.strict import NUMBER, parse_yaml

_NOTHING = {"none", "null", "~"}


def flags() -> dict[str, Setting]:
    """Every flag, without its dashes, and the setting it stands for."""
    known = {setting.path: setting for setting in _all()}
    # A group that only some methods bring does not take the short names of what every run has.
    special = {path: setting for path, setting in known.items() if path.split(".")[0] in BROUGHT}
    short = _short(known) | _short({p: s for p, s in known.items() if p not in special})
    return {_dashed(name): setting for name, setting in (short | known).items()}


def _short(known: Mapping[str, Setting]) -> dict[str, Setting]:
    """Settings by the last word of their name, where only one ends in it."""
    last = Counter(path.rpartition(".")[2] for path in known)
    words = {path.rpartition(".")[2]: setting for path, setting in known.items()}
    return {word: setting for word, setting in words.items() if last[word] == 1}


def read_flags(tokens: Sequence[str], command: str, others: Iterable[str] = ()) -> dict[str, Any]:
    """Values by dotted path from words such as `--plan.steps 100` or `--pictures.flip`.

    Args:
        tokens: The words.
        command: Whose they are, for messages.
        others: Flags of the command that are no settings, to guess from.

    Raises:
        SettingError: for a flag that is no setting, a repeated one, or a value that is missing.
    """
    known, values, rest = flags(), dict[str, Any](), list(tokens)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise SettingError(
                got=f"{word!r} left over",
                need=f"flags, such as --steps 100, after `{command}`",
                fix=f"`{command} --help` shows examples.",
            )
        flag, equals, text = word[2:].partition("=")
        setting = known.get(_dashed(flag))
        if setting is None:
            names = [*others, *(f"--{name}" for name in known)]
            raise unknown_flag(f"--{flag}", command, names)
        if not equals:
            text = _argument(setting, rest, word)
        require(
            setting.path not in values,
            got=f"{setting.path} twice",
            need="every setting once",
            fix=f"Remove one; --{flag} was the second.",
        )
        values[setting.path] = _value(setting, text)
    return values


def describe(width: int = 79) -> str:
    """Every setting as a flag, with what it is and its default."""
    lines: list[str] = []
    for setting in _all():
        if setting.required or setting.path == "objective.name":
            continue
        options = f"; one of {', '.join(map(str, setting.options))}" if setting.options else ""
        about = f"{setting.help}{options} [{_shown(setting.default)}]"
        flag = f"  --{_dashed(setting.path)}"
        lines += textwrap.wrap(
            about, width, initial_indent=f"{flag:<29} ", subsequent_indent=" " * 30
        )
    return "\n".join(lines)


def _all() -> list[Setting]:
    """Every setting of a run, the objectives' own after the choice of the objective."""
    found: list[Setting] = []
    for setting in settings():
        found += (
            [setting, *_objective_settings()] if setting.path == "objective.name" else [setting]
        )
    return found


def _objective_settings() -> list[Setting]:
    """The objectives' own settings. One name in two objectives is one flag."""
    found: dict[str, Setting] = {}
    for objective in OBJECTIVES:
        hints = get_type_hints(objective)
        for field in dataclasses.fields(objective):  # pyright: ignore[reportArgumentType]
            path = f"objective.{field.name}"
            found[path] = Setting(
                path=path,
                type=hints[field.name],
                options=None,
                default=field.default,
                required=False,
                help=f"a setting of {objective.name}; see `palate methods {objective.name}`",
            )
    return list(found.values())


def _argument(setting: Setting, rest: list[str], word: str) -> str:
    """The word after a flag; a flag that is true or false may stand alone."""
    if rest and not rest[0].startswith("--"):
        return rest.pop(0)
    if setting.type is bool:
        return "true"
    raise SettingError(got=f"no value for {word}", need=f"{word} and its value", fix=setting.help)


def _value(setting: Setting, text: str) -> Any:
    if text.lower() in _NOTHING:
        return None
    if _is_list(setting.type):
        return [_word(part.strip()) for part in text.strip("[]()").split(",") if part.strip()]
    # A folder may be called 2024 or true: where a word is wanted, a word is read.
    words = setting.type is str or str in get_args(setting.type)
    return text if words else _word(text)


def _is_list(kind: Any) -> bool:
    """Whether a setting holds several values, itself or as one of the things it may be."""
    return get_origin(kind) is tuple or any(map(_is_list, get_args(kind)))


def _word(text: str) -> Any:
    """A number or truth as a settings file reads it; otherwise the word itself."""
    if NUMBER.match(text) or text.lower() in {"true", "false"}:
        return parse_yaml(f"value: {text.lower()}")[0]["value"]
    return text


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "nothing"
    words = {None: "none", True: "true", False: "false"}
    return words[default] if default is None or isinstance(default, bool) else str(default)


def _dashed(name: str) -> str:
    return name.replace("_", "-")
