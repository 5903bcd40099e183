"""Settings that mean what they say: strict groups, and YAML read without surprises.

A YAML file can say one thing and mean another: a repeated key silently wins, `1e-5` is a word,
a few aliases unfold to a billion values. Here each of these is refused, or read as anyone would,
and every refusal names the line and the nearest setting that exists.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from palate.core.problems import SettingError, nearest

LARGEST_FILE = 1_000_000
DEEPEST = 20
# YAML 1.1 wants a dot in a number with an exponent; people write 1e-5.
NUMBER = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_Group = TypeVar("_Group", bound="Strict")
Lines = Mapping[str, int]


class Strict(BaseModel):
    """A frozen group of settings that refuses what it does not know, in three parts.

    Attributes:
        group: Where the group stands in the whole, such as `plan`; empty for the whole itself.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )
    group: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        """Check every value.

        Raises:
            SettingError: for the first setting that is unknown, missing or out of range.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise explain(error, type(self), {}) from None


def build(kind: type[_Group], values: Mapping[str, Any], lines: Lines) -> _Group:
    """A group from plain values, with line numbers in what it refuses."""
    try:
        # The validator is asked directly: the constructor would forget the lines.
        made = kind.__new__(kind)
        kind.__pydantic_validator__.validate_python(dict(values), self_instance=made)
    except ValidationError as error:
        raise explain(error, kind, lines) from None
    return made


def explain(error: ValidationError, kind: type[Strict], lines: Lines) -> SettingError:
    """The first thing pydantic refused, in three parts."""
    facts = error.errors(include_url=False, include_context=True)
    first = facts[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    path = f"{kind.group}.{name}" if kind.group and name else name or kind.group
    more = f" There are {len(facts) - 1} more problems after it." if len(facts) > 1 else ""
    place = where(path, lines)
    if first["type"] == "extra_forbidden":
        return unknown_setting(path, kind.model_fields, lines, more)
    if first["type"] == "missing":
        return SettingError(
            got=f"no {path}{where(kind.group, lines)}",
            need=f"{path}: {kind.model_fields[name].description}",
            fix=f"Add it.{more}",
        )
    options = str(first.get("ctx", {}).get("expected", ""))
    words = re.findall(r"'([^']*)'", options)
    guess = nearest(str(first["input"]), words) if first["type"] == "literal_error" else None
    need = f"one of {', '.join(words)}" if words else _plain(first["msg"])
    field = kind.model_fields.get(name)
    about = f"{path} is: {field.description}" if field and field.description else "Correct it."
    return SettingError(
        got=f"{path}={first['input']!r}{place}",
        need=need,
        fix=f"Did you mean {guess}?{more}" if guess else f"{about}{more}",
    )


def unknown_setting(
    path: str, known: Mapping[str, Any] | list[str], lines: Lines, more: str = ""
) -> SettingError:
    """The error for a setting that does not exist, with the nearest one that does."""
    group, _, name = path.rpartition(".")
    guess = nearest(name, known)
    full = f"{group}.{guess}" if group and guess else guess
    return SettingError(
        got=f"an unknown setting {path}{where(path, lines)}",
        need=f"one of {', '.join(sorted(known))}" if known else f"no settings in {group} here",
        fix=f"Did you mean {full}?{more}" if guess else f"Remove it.{more}",
    )


def reads_as_word(text: str) -> bool:
    """Whether a text written without quotes is read back as that text."""
    return isinstance(_plain_word(text), str)


def where(path: str, lines: Lines) -> str:
    """` (line 7)` where the place of a setting in its file is known."""
    return f" (line {lines[path]})" if path in lines else ""


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Plain values of a YAML file, and the line of every setting by its dotted path.

    Raises:
        SettingError: when the file is missing, too large, not YAML, repeats a key, or uses
            anchors, aliases or tags.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            got=f"{path}: {error}", need="a readable YAML file", fix="Check the path."
        ) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str = "the settings") -> tuple[dict[str, Any], dict[str, int]]:
    """Plain values and line numbers of a YAML text; see `read_yaml`."""
    if len(text) > LARGEST_FILE:
        raise SettingError(
            got=f"{name} with {len(text)} characters",
            need=f"at most {LARGEST_FILE}",
            fix="This is not a settings file.",
        )
    try:
        _refuse_tricks(text, name)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise SettingError(
            got=f"{name}{line}: {getattr(error, 'problem', None) or 'unreadable characters'}",
            need="valid YAML",
            fix="Look at the indentation, quotes and colons around that line.",
        ) from None
    lines: dict[str, int] = {}
    values = {} if root is None else _value(root, "", lines)
    if not isinstance(values, dict):
        raise SettingError(
            got=f"{name} holding a {type(values).__name__}",
            need="settings, one `name: value` a line",
            fix="Start from `palate train --print-settings` or an example in docs/train.md.",
        )
    return values, lines


def _refuse_tricks(text: str, name: str) -> None:
    """Stop at anchors, aliases, tags and deep nesting before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        starts = isinstance(event, yaml.CollectionStartEvent)
        depth += starts - isinstance(event, yaml.CollectionEndEvent)
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        tag = event.tag if starts or isinstance(event, yaml.ScalarEvent) else None
        if anchor or tag or depth > DEEPEST:
            what = "an anchor or alias" if anchor else "a tag" if tag else "deep nesting"
            raise SettingError(
                got=f"{what} in {name} (line {line})",
                need="plain values",
                fix="Write the value out where it is used.",
            )


def _value(node: yaml.Node, path: str, lines: dict[str, int]) -> Any:
    """A plain value from a composed node; fills `lines` on the way."""
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path, lines) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key, item in node.value:
            word, line = str(key.value), key.start_mark.line + 1
            full = f"{path}.{word}" if path else word
            if word in values:
                raise SettingError(
                    got=f"{full} twice (lines {lines[full]} and {line})",
                    need="every setting once",
                    fix="Remove one of them.",
                )
            lines[full] = line
            values[word] = _value(item, full, lines)
        return values
    return _scalar(node)


def _scalar(node: Any) -> Any:
    """A number, truth, nothing or word; quoted text is always a word."""
    word = str(node.value)
    return word if node.style is not None else _plain_word(word)


def _plain_word(word: str) -> Any:
    """What a word without quotes means."""
    if word in {"true", "True", "false", "False"}:
        return word in {"true", "True"}
    if word in {"", "null", "Null", "~"}:
        return None
    if not NUMBER.match(word):
        return word
    plain = word.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower()
    return int(plain) if re.fullmatch(r"[-+]?[0-9]+", plain) else float(plain)


def _plain(message: str) -> str:
    """Pydantic's sentence as the end of "Need …"."""
    return re.sub(r"^(Value error, |(Input|Value) should be (a |an )?(valid )?)", "", message)
