"""Turns whatever ended a command into three lines on stderr and an exit code.

A `Problem` has its own three parts and code. What the command line itself could not read becomes
one. Anything else is a bug of ours and says so, in one sentence and without a traceback.
"""

import os
import sys
import traceback
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from cyclopts import App
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from palate.cli.console import note, screen, show_problem
from palate.core.problems import Problem, SettingError, StateError, nearest

TRACEBACK = "PALATE_TRACEBACK"
BUG, INTERRUPTED, PIPE_CLOSED = 70, 130, 141
_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def leave(error: BaseException) -> int:
    """Say what happened, and return the exit code.

    Raises:
        BaseException: the error itself, where it is not ours to explain (such as SystemExit).
    """
    if os.environ.get(TRACEBACK) and isinstance(error, Exception):
        traceback.print_exception(error)
    match error:
        case Problem():
            return _show(error)
        case CycloptsError():
            return _show(as_problem(error))
        case KeyboardInterrupt():
            note("Interrupted.")
            return INTERRUPTED
        case BrokenPipeError():
            # Nobody reads any more: what is still in the buffer goes nowhere, without a word.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        case OSError() if error.filename is not None:
            return _show(_from_system(error))
        case Exception():
            return _bug(error)
        case _:
            raise error


def as_problem(error: CycloptsError) -> SettingError:
    """The three parts of an error in the command line itself."""
    command = _command(error)
    see = f"`{command} --help` shows what it takes, with examples."
    match error:
        case UnknownOptionError():
            word = error.token.keyword or error.token.value
            names = _flags(error.argument_collection)
            return _unknown(f"option {word}", f"an option of `{command}`", word, names, see)
        case UnknownCommandError():
            word = (error.unused_tokens or ["nothing"])[0]
            names = _commands(error.app)
            return _unknown(f"command {word!r}", f"a command of `{command}`", word, names, see)
        case CoercionError():
            value = error.token.value if error.token else ""
            got = f"{_name(error)} {value!r}"
            return SettingError(got=got, need=_type(error.target_type), fix=_guess(error) or see)
        case MissingArgumentError():
            name = error.keyword or _name(error)
            return SettingError(got=f"no value for {name}", need=f"{name} and its value", fix=see)
        case RepeatArgumentError():
            name = error.token.keyword or error.token.value
            return SettingError(got=f"{name} twice", need=f"{name} once", fix="Remove one of them.")
        case UnusedCliTokensError():
            words = " ".join(error.unused_tokens or [])
            return SettingError(got=f"{words!r} left over", need=f"what {command} takes", fix=see)
        case _:
            return SettingError(
                got=str(error), need=f"a command line `{command}` can read", fix=see
            )


def unknown_flag(flag: str, command: str, names: Iterable[str]) -> SettingError:
    """The error for a flag that is no setting, with the nearest one that is."""
    see = f"`{command} --help` lists them all."
    return _unknown(f"option {flag}", f"an option of `{command}`", flag, list(names), see)


def _unknown(got: str, need: str, word: str, names: list[str], see: str) -> SettingError:
    guess = nearest(word, names)
    listed = f"{need}: {', '.join(sorted(names))}" if 0 < len(names) <= 14 else need
    return SettingError(got=got, need=listed, fix=f"Did you mean {guess}?" if guess else see)


def _command(error: CycloptsError) -> str:
    return " ".join(["palate", *(error.command_chain or ())])


def _flags(arguments: Iterable[Any]) -> list[str]:
    return [name for argument in arguments for name in argument.names if name.startswith("--")]


def _commands(app: App | None) -> list[str]:
    return [name for name in app or () if not name.startswith("-")]


def _name(error: CycloptsError) -> str:
    if isinstance(error, CoercionError) and error.token and error.token.keyword:
        return error.token.keyword
    if error.argument is None:
        return "an argument"
    name = error.argument.name
    return name if name.startswith("--") else name.upper()


def _type(wanted: Any) -> str:
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(_type(each) for each in get_args(wanted) if each is not NoneType)
    if options := _choices(wanted):
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    return _TYPES.get(wanted, "a value of the right type")


def _choices(wanted: Any) -> list[str]:
    return [str(each) for each in get_args(wanted)] if get_origin(wanted) is not None else []


def _guess(error: CoercionError) -> str:
    near = nearest(error.token.value, _choices(error.target_type)) if error.token else None
    return f"Did you mean {near}?" if near else ""


def _from_system(error: OSError) -> StateError:
    return StateError(
        got=f"{error.filename}: {error.strerror}",
        need="a path that can be read and written here",
        fix="Check that it exists, that it is yours, and that the disk has room.",
    )


def _show(problem: Problem) -> int:
    show_problem(problem)
    return problem.exit_code


def _bug(error: Exception) -> int:
    console = screen(error=True)
    console.print(f"This is a bug in palate: {type(error).__name__}: {error}", soft_wrap=True)
    console.print(
        f"Run the command again with {TRACEBACK}=1 to see where, and report it with that text.",
        soft_wrap=True,
    )
    return BUG
